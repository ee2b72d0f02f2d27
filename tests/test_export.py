"""Exported files: what is in them, that they agree with PyTorch, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_helpers import CLASSES, make_network, noise, reference, save_run
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dynagest.card import NetworkCard
from dynagest.cli.export import _print as print_export
from dynagest.errors import ExportError, RunError, WeightsError
from dynagest.export import TOLERANCES, Export, export
from dynagest.export.fold import fold_batchnorm
from dynagest.export.frames import frame_form
from dynagest.export.gates import MeansFirst, SqueezeFirst
from dynagest.export.verify import Comparison
from dynagest.export.volumes import VolumeNet
from dynagest.export.write import convert_clips, write_model
from dynagest.networks.action import Action
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.video import VideoNet
from dynagest.runtimes.exported import ExportedNetwork
from dynagest.runtimes.load import load_clip_network
from dynagest.runtimes.model_file import CLIPS, KEY, ModelInfo, Precision
from dynagest.runtimes.torch_network import TorchNetwork
from dynagest.stream.events import EventSettings, EventsFile

NAMES = (
    ("tsn_resnet18", {}),
    ("tsm_resnet18", {}),
    ("tsm_resnet18", {"online": True}),
    ("action_resnet18", {}),
    ("action_resnet18", {"online": True}),
    ("tea_res2net50", {}),
)
INFO_KEYS = {"format", "mode", "precision", "batch", "frames", "card", "state", "events"}


@pytest.fixture(scope="module")
def network() -> tuple[ClipNet, NetworkCard]:
    return make_network("action_resnet18")


@pytest.fixture(scope="module")
def model(network: tuple[ClipNet, NetworkCard]) -> onnx.ModelProto:
    return convert_clips(*network, "onnx")[0]


@pytest.fixture(scope="module")
def file(
    network: tuple[ClipNet, NetworkCard], model: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("exported") / "network.onnx"
    info = ModelInfo(mode="clip", precision="fp32", card=network[1], events={"threshold": 0.5})
    write_model(model, info, "onnx", (), path)
    return path


@pytest.mark.parametrize(("name", "options"), NAMES)
def test_the_forms_compute_what_the_network_computes(name: str, options: dict) -> None:
    net, card = make_network(name, options)
    clips = noise(3)
    expected = reference(net, clips)
    folded = fold_batchnorm(net, torch.zeros(1, card.num_segments, 3, card.size, card.size))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert isinstance(folded, VideoNet)
    for form in (folded, frame_form(folded), VolumeNet(folded)):
        np.testing.assert_allclose(reference(form, clips), expected, atol=2e-4 * expected.std())
    np.testing.assert_array_equal(reference(net, clips), expected)  # the network itself is untouched


def test_an_onnx_file_agrees_with_pytorch_at_any_batch(file: Path, network: tuple[ClipNet, NetworkCard]) -> None:
    exported = load_clip_network(file, threads=1)
    for count in (1, 2, 5):
        clips = noise(count)
        expected = reference(network[0], clips)
        np.testing.assert_allclose(exported.logits(clips), expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_the_graph_is_folded_and_says_nothing_of_this_machine(file: Path) -> None:
    graph = onnx.load(file)
    kinds = {node.op_type for node in graph.graph.node}
    assert "BatchNormalization" not in kinds
    assert not kinds & {"ScatterND", "ScatterElements", "ConvTranspose"}  # slices in place; decoders
    assert b"/export/" not in file.read_bytes()
    assert [each.name for each in graph.graph.input] == ["clips"]
    assert [each.name for each in graph.graph.output] == ["logits"]
    assert {each.domain: each.version for each in graph.opset_import}[""] >= 18


def test_what_the_network_is_travels_inside(file: Path, network: tuple[ClipNet, NetworkCard]) -> None:
    info = load_clip_network(file, threads=1).info
    assert info.card == network[1]
    assert info.card.classes == CLASSES
    assert (info.mode, info.precision, info.batch, info.events) == ("clip", "fp32", None, {"threshold": 0.5})
    (stored,) = onnx.load(file).metadata_props
    assert stored.key == KEY
    assert set(json.loads(stored.value)) == INFO_KEYS


def test_int8_is_smaller_and_agrees(
    model: onnx.ModelProto, network: tuple[ClipNet, NetworkCard], file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "int8.onnx"
    info = ModelInfo(mode="clip", precision="int8", card=network[1])
    write_model(model, info, "onnx", ({CLIPS: clip[None]} for clip in noise(8, seed=2)), path)
    assert path.stat().st_size < 0.6 * file.stat().st_size
    clips = noise(40)
    compared = Comparison.of(
        reference(network[0], clips), load_clip_network(path, threads=1).logits(clips), np.full(40, -1)
    )
    assert compared.agreement >= 0.9
    assert 1e-4 < compared.difference < 1  # it is quantised, and it is not noise
    graph = onnx.load(path).graph
    floats = {each.name for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT}
    gates = [node for node in graph.node if "/gates/" in node.name and node.op_type == "MatMul"]
    assert gates
    assert all(node.input[1] in floats for node in gates)
    assert not any(node.input[1] in floats for node in graph.node if node.op_type == "Conv")


def test_a_comparison_tells_what_is_wrong() -> None:
    expected = np.eye(3)[[0, 1, 2, 0]]
    labels = np.array([0, 1, 2, -1])
    same = Comparison.of(expected, expected, labels)
    assert (same.difference, same.agreement, same.accuracy_torch, same.accuracy_file) == (0, 1, 1, 1)
    same.check(TOLERANCES["fp32"], "fp32")
    worse = Comparison.of(expected, expected[[0, 1, 0, 0]], labels)
    assert worse.agreement == 0.75
    assert worse.accuracy_file == pytest.approx(2 / 3)
    with pytest.raises(ExportError, match=r"logits differ .* same for 75.0%.* from 100.0% to 66.7%"):
        worse.check(TOLERANCES["fp32"], "fp32")
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
    with pytest.raises(ExportError, match=r"typically differ by 0\.5 of their spread"):
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


def test_a_file_that_disagrees_is_removed_and_the_old_one_kept(
    tmp_path: Path, model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save_run(tmp_path / "run", "action_resnet18")
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    (bias,) = [each for each in wrong.graph.initializer if each.name == "classifier.bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32([9, 0, 0]), bias.name))
    monkeypatch.setattr("dynagest.export.write.convert_clips", lambda *_: (wrong, {}))
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


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize(("name", "options"), NAMES)
def test_every_network_agrees_in_every_runtime(name: str, options: dict, to: str, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", name, options)
    done = export(run, to, clips=6, threads=1)  # type: ignore[arg-type]
    # Rounding alone: in the deepest of these random networks PyTorch's own float32 is 0.8e-4 from its float64.
    assert done.comparison.difference < 3e-4
    net, card = make_network(name, options)
    clips = noise(3)
    network = load_clip_network(done.path, threads=1)
    assert network.card == card
    np.testing.assert_allclose(network.logits(clips), reference(net, clips), atol=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("windows_files")
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_openvino_in_lower_precision(precision: str, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "action_resnet18")
    done = export(run, "openvino", precision=precision, clips=24, threads=1)  # type: ignore[arg-type]
    assert done.comparison.agreement >= 0.9
    assert done.comparison.difference > 1e-4  # not silently fp32
    assert load_clip_network(done.path).info.precision == precision  # type: ignore[union-attr]


@given(height=st.integers(1, 7), width=st.integers(1, 7), seed=st.integers(0, 99))
def test_means_taken_first_are_those_taken_last(height: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    action = Action(nn.Conv2d(32, 8, 1))
    action.action_p3_squeeze = nn.Conv2d(32, 2, 1)  # as BatchNorm leaves it when it is folded
    x = torch.randn(2, 32, height, width, dtype=torch.float64)
    with torch.no_grad():
        first, last = MeansFirst(action).double()(x), SqueezeFirst(action).double()(x)
    for mine, expected in zip(first, last, strict=True):
        assert mine.shape == expected.shape
        assert torch.allclose(mine, expected, rtol=1e-9, atol=1e-9)
