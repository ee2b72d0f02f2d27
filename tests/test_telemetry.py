"""Nothing that dynagest computes with tells anybody about it."""

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

# By these, too, ONNX Runtime and NNCF keep quiet.
_QUIET = ("CI", "TF_BUILD", "JENKINS_URL", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "NNCF_CI", "NNCF_DEV")


def run(code: str, home: Path, *arguments: str) -> str:
    env = {name: value for name, value in os.environ.items() if name not in _QUIET and not name.startswith("XDG_")}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env={**env, "HOME": str(home)}, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ONNX Runtime keeps its reports in other places")
def test_onnx_runtime_keeps_no_reports_to_send(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    home = tmp_path / "home"
    home.mkdir()
    code = "import sys, dynagest, onnxruntime; onnxruntime.InferenceSession(sys.argv[1])"
    run(code, home, str(tmp_path / "model.onnx"))
    assert list(home.rglob("*")) == []


def test_nncf_has_nobody_to_tell(tmp_path: Path) -> None:
    code = "import dynagest; from nncf.telemetry.wrapper import telemetry; print(type(telemetry).__name__)"
    assert run(code, tmp_path).split()[-1] == "MagicMock"
