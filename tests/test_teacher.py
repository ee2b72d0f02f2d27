"""Teachers: what a depth model is fed, what is made of its output, and which files are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from teacher_files import LUMA, luminance, plain

from dynagest.clips.teacher import Teacher
from dynagest.errors import ModelError

onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize("shape", [(1, 3, 48, 64), (1, 48, 64, 3), ("n", 3, "h", "w")], ids=str)
def test_the_network_sees_what_it_wants(shape: tuple[Any, ...], tmp_path: Path) -> None:
    teacher = plain(luminance(tmp_path / "t.onnx", shape), size=(48, 64) if "h" in shape else None)
    frames = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    found = teacher.nearness(frames)
    assert found.shape == (2, 48, 64)
    assert found == pytest.approx(frames @ np.array(LUMA, np.float32) / 255, abs=1e-5)


def test_normalisation_range_and_colour(tmp_path: Path) -> None:
    path = luminance(tmp_path / "t.onnx", (1, 3, 48, 64), weights=(1, 0, 0))
    frame = np.full((1, 48, 64, 3), (51, 102, 204), np.uint8)
    assert plain(path).nearness(frame)[0, 0, 0] == pytest.approx(0.2)
    assert plain(path, range=255).nearness(frame)[0, 0, 0] == pytest.approx(51)
    assert plain(path, colour="bgr").nearness(frame)[0, 0, 0] == pytest.approx(0.8)
    assert Teacher(path).nearness(frame)[0, 0, 0] == pytest.approx((0.2 - 0.485) / 0.229, abs=1e-5)


def test_distance_becomes_nearness(tmp_path: Path) -> None:
    frame = np.full((1, 48, 64, 3), 127, np.uint8)
    path = luminance(tmp_path / "t.onnx", (1, 3, 48, 64), offset=1.0)
    assert plain(path, output="distance").nearness(frame)[0, 0, 0] == pytest.approx(1 / (1 + 127 / 255), rel=1e-4)
    path = luminance(tmp_path / "u.onnx", (1, 3, 48, 64), offset=-1.0)
    with pytest.raises(ModelError, match="perhaps it is output: inverse"):
        plain(path, output="distance").nearness(frame)


def test_the_yaml_beside_it(tmp_path: Path) -> None:
    path = luminance(tmp_path / "t.onnx", (1, 3, "h", "w"))
    with pytest.raises(ModelError, match=r"leaves the size open; write size: \[252, 252\], say, into t.yaml"):
        Teacher(path)
    (tmp_path / "t.yaml").write_text("size: [64, 96]\noutput: inverse\n")
    assert Teacher(path).size == (64, 96)
    (tmp_path / "t.yaml").write_text("size: [64, 96]\noutput: metres\nmaen: [0, 0, 0]\n")
    with pytest.raises(ModelError, match=r"output: is 'metres'.*maen"):
        Teacher(path)
    (tmp_path / "t.yaml").write_text("size: [64, 96")
    with pytest.raises(ModelError, match=r"not YAML \(line"):
        Teacher(path)
    (tmp_path / "t.yaml").write_text("output: 2026-02-30\n")
    with pytest.raises(ModelError, match=r"t.yaml: not YAML \(day is out of range"):
        Teacher(path)


@pytest.mark.parametrize(
    ("shape", "says"),
    [((1, 4, 32, 32), "3 colours"), ((2, 3, 32, 32), "batch of 1"), ((3, 32, 32), "one float32 picture")],
)
def test_networks_that_are_no_teachers(shape: tuple[int, ...], says: str, tmp_path: Path) -> None:
    value, float32 = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    node = onnx.helper.make_node("Identity", ["image"], ["depth"])
    graph = onnx.helper.make_graph([node], "x", [value("image", float32, shape)], [value("depth", float32, shape)])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "t.onnx",
    )
    with pytest.raises(ModelError, match=says):
        Teacher(tmp_path / "t.onnx")


def test_what_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        Teacher(tmp_path / "t.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        Teacher(Path())  # the folder here: a path without a name
    (tmp_path / "t.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match="not an ONNX model"):
        Teacher(tmp_path / "t.onnx")
