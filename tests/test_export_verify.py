"""What `export` compares before a file is kept: what it tells, what it refuses, and what is left then."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from cli_helpers import run as run_command
from export_helpers import CLASSES, make_network, noise, save_run

from dynagest.card import NetworkCard
from dynagest.cli import main
from dynagest.cli.export import _print as print_export
from dynagest.errors import ExportError, RunError, WeightsError
from dynagest.export import TOLERANCES, Export, export
from dynagest.export.verify import Comparison, Tolerance
from dynagest.export.write import _latencies
from dynagest.runtimes.exported import ExportedNetwork
from dynagest.runtimes.load import load_clip_network
from dynagest.runtimes.model_file import ModelInfo, Precision
from dynagest.runtimes.torch_network import TorchNetwork
from dynagest.stream.events import EventSettings, EventsFile


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A network, exported by the command: the file, and what the command said."""
    folder = save_run(tmp_path_factory.mktemp("run"), "action_resnet18")
    code, said = run_command("export", str(folder), "--clips", "6", "--threads", "1")
    assert code == 0, said
    return folder / "network-fp32.onnx", said


@pytest.fixture(scope="module")
def model(exported: tuple[Path, str]) -> onnx.ModelProto:
    return onnx.load(exported[0])


@pytest.fixture
def sabotaged(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that answers with the name of another class."""
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    for each in wrong.graph.initializer:
        if each.name.startswith("classifier."):
            turned = np.roll(onnx.numpy_helper.to_array(each), 2, axis=0)
            each.CopyFrom(onnx.numpy_helper.from_array(turned, each.name))
    return wrong


def test_a_comparison_tells_what_is_wrong() -> None:
    expected = np.eye(3)[[0, 1, 2, 0]]
    labels = np.array([0, 1, 2, -1])
    same = Comparison.of(expected, expected, labels)
    assert (same.difference, same.agreement, same.accuracy_torch, same.accuracy_file) == (0, 1, 1, 1)
    same.check(TOLERANCES["fp32"], "fp32")
    worse = Comparison.of(expected, expected[[0, 1, 0, 0]], labels)
    assert worse.agreement == 0.75
    assert worse.accuracy_file == pytest.approx(2 / 3)
    with pytest.raises(ExportError, match=r"logits differ .* same for 75\.0%[^(]*$"):  # the loss of one answer is not
        worse.check(TOLERANCES["fp32"], "fp32")
    with pytest.raises(ExportError, match=r"from 100\.0% to 66\.7% \(by 1 of 3 answers\), 1 points are allowed"):
        worse.check(replace(TOLERANCES["fp32"], answers=0), "fp32")
    with pytest.raises(ExportError, match=r"from 100\.0% to 33\.3% \(by 2 of 3 answers\)"):
        Comparison.of(expected, expected[[0, 0, 0, 0]], labels).check(TOLERANCES["fp32"], "fp32")
    with pytest.raises(ExportError, match="accuracy falls"):
        worse.check(Tolerance(np.inf, np.inf, 0, drop=np.nan, answers=0), "fp32")
    with pytest.raises(ExportError, match="logits differ by nan"):
        Comparison.of(expected, np.full_like(expected, np.nan), labels).check(TOLERANCES["fp32"], "fp32")


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_lower_precisions_keep_the_height_of_logits_and_not_only_the_best_class(precision: Precision) -> None:
    rng = np.random.default_rng(0)
    expected, labels = 5 * rng.standard_normal((64, 9)), np.full(64, -1)
    rounding = {"bf16": 0.004, "int8": 0.053}[precision] * expected.std()
    rounded = expected + rounding * rng.standard_normal(expected.shape)
    Comparison.of(expected, rounded, labels).check(replace(TOLERANCES[precision], agreement=0), precision)
    halved = Comparison.of(expected, expected / 2, labels)
    assert halved.agreement == 1
    told = {"bf16": "export in fp32", "int8": "fewer or more of them .* may do worse; or export in bf16"}[precision]
    with pytest.raises(ExportError, match=rf"typically differ by 0\.5 of their spread.*What to do: .*{told}"):
        halved.check(TOLERANCES[precision], precision)


def test_what_was_compared_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    card = NetworkCard(model="tsn_resnet18", classes=CLASSES)
    info = ModelInfo(mode="clip", precision="int8", card=card)
    for labels, silent in ((np.arange(3), True), (np.full(3, -1), False)):
        compared = Comparison.of(np.eye(3), np.eye(3), labels)
        compared.check(TOLERANCES["int8"], "int8")
        print_export(Export(Path("network.onnx"), info, "clips of mine (test)", compared, 1, 1, 1.0, 1.0))
        said = capsys.readouterr().out
        assert "3 answers on clips of mine (test): same best class 100.0%" in said
        assert ("accuracy was not compared" in said) is not silent


def test_the_command_tells_what_it_wrote_and_how_it_compares(exported: tuple[Path, str]) -> None:
    path, said = exported
    lines = [line.strip() for line in said.splitlines()]
    head, _, torch_, file = lines[1:5]
    assert head.split() == ["size", "ms", "a", "clip", "accuracy"]
    for name, line in (("PyTorch, fp32", torch_), ("network-fp32.onnx, fp32", file)):
        assert re.fullmatch(rf"{re.escape(name)} +0\.\d MB +\d+\.\d +\d+\.\d%", line), line
    assert f" {path.stat().st_size / 2**20:.1f} MB " in file
    told = r"^6 answers on generated test clips .*: same best class 100\.0%, typical difference (\S+) of the logits'"
    compared = re.search(told + r" spread, largest (\S+)$", said, re.MULTILINE)
    assert compared
    typical, largest = map(float, compared.groups())
    assert 0 < typical < largest < 1e-4
    assert said.endswith(f"next: dynagest predict {path} VIDEO\n")


def test_the_command_refuses_a_file_that_is_further_off_than_asked_for(
    tmp_path: Path, sabotaged: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_run(tmp_path / "run", "action_resnet18")
    before = sorted(run.iterdir())
    monkeypatch.setattr("dynagest.export.write.convert_clips", lambda *_: (sabotaged, {}))
    command = ["dynagest", "export", str(run), "--clips", "4", "--threads", "1", "--agreement", "1", "--drop", "0"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (message,) = err.splitlines()
    assert message.startswith("error: the fp32 file does not agree with PyTorch on 4 answers, so it was removed: ")
    assert "the best class is the same for 0.0%, at least 100% must" in message
    assert "accuracy falls from 50.0% to 25.0% (by 1 of 4 answers), 0 points are allowed" in message
    assert sorted(run.iterdir()) == before


def test_a_file_that_disagrees_is_removed_and_the_old_one_kept(
    tmp_path: Path, sabotaged: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save_run(tmp_path / "run", "action_resnet18")
    monkeypatch.setattr("dynagest.export.write.convert_clips", lambda *_: (sabotaged, {}))
    old = run / "network-fp32.onnx"
    old.write_bytes(b"the old one")
    before = sorted(run.iterdir())
    with pytest.raises(ExportError, match="does not agree with PyTorch"):
        export(run, "onnx", clips=4, threads=1)
    assert old.read_bytes() == b"the old one"
    assert sorted(run.iterdir()) == before


def test_export_reports_and_embeds_tuned_events(
    tmp_path: Path, model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save_run(tmp_path / "run", "action_resnet18")
    EventsFile(settings=EventSettings(threshold=0.55, dip=0.2)).write(run)
    monkeypatch.setattr("dynagest.export.write.convert_clips", lambda *_: (model, {}))
    done = export(run, "onnx", clips=5, threads=1)
    assert done.path == run / "network-fp32.onnx"
    assert done.comparison.rows == 5
    assert done.comparison.difference < 1e-4
    assert done.comparison.accuracy_torch is not None  # generated gestures have labels that the network knows
    assert done.size == done.path.stat().st_size
    events = load_clip_network(done.path, threads=1).info.events
    assert events is not None
    assert events["threshold"] == 0.55
    (run / "events.json").write_text("{")
    with pytest.raises(RunError, match=r"events\.json: not an events file"):
        export(run, "onnx", clips=2)


def test_both_files_of_openvino_count(tmp_path: Path, model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    run = save_run(tmp_path / "run", "action_resnet18")
    monkeypatch.setattr("dynagest.export.write.convert_clips", lambda *_: (model, {}))
    done = export(run, "openvino", clips=2, threads=1)
    assert done.size == done.path.stat().st_size + done.path.with_suffix(".bin").stat().st_size


def test_latency_is_that_of_a_clip_or_of_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    class Runner:
        """Takes ``seconds`` for a clip of four frames, and gives ``rows`` answers."""

        def __init__(self, rows: int, seconds: list[float]) -> None:
            self.rows, self.seconds = rows, seconds

        def logits(self, clips: np.ndarray) -> np.ndarray:
            nonlocal now
            now += self.seconds.pop()
            return np.zeros((self.rows, 3))

    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    runners = [Runner(1, [0.5, 0.25, 0.25, 9.0, 0.125]), Runner(4, [2.0, 1.0, 4.0, 3.0, 8.0])]
    assert _latencies(runners, noise(1)[0]) == [0.25, 0.75]  # type: ignore[arg-type]


@pytest.mark.parametrize(("asked", "used"), [(1, 1), (None, 3)])
def test_pytorch_and_the_file_compute_with_as_many_threads(
    asked: int | None, used: int, tmp_path: Path, model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save_run(tmp_path / "run", "action_resnet18")
    monkeypatch.setattr("dynagest.export.write.convert_clips", lambda *_: (model, {}))
    seen = []

    class Watched(TorchNetwork):
        def logits(self, clips: np.ndarray) -> np.ndarray:
            seen.append(torch.get_num_threads())
            return super().logits(clips)

    def load(path: Path, threads: int | None) -> ExportedNetwork:
        seen.append(threads)
        return load_clip_network(path, threads=threads)

    monkeypatch.setattr("dynagest.export.write.TorchNetwork", Watched)
    monkeypatch.setattr("dynagest.export.write.load_clip_network", load)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        export(run, "onnx", clips=1, threads=asked)
        assert set(seen) == {used}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "tsn_resnet18")
    with pytest.raises(ExportError, match="no bf16 kernels for the CPU; use --to openvino"):
        export(run, "onnx", precision="bf16")
    with pytest.raises(ExportError, match=r"ends in \.xml"):
        export(run, "openvino", out=tmp_path / "a.onnx")
    net, card = make_network("tsn_resnet18")
    with pytest.raises(WeightsError, match="wants 'rgbd' frames"):
        TorchNetwork(net, card.model_copy(update={"options": {"inputs": "rgbd"}}))
