"""Exported files: what is in them, that they agree with PyTorch, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import openvino
import pytest
import torch
from export_helpers import CLASSES, make_network, noise, reference, save_run
from network_helpers import trained
from torch import nn

from dynagest.card import NetworkCard
from dynagest.cli.export import _print as print_export
from dynagest.clips.manifest import Clip, Manifest
from dynagest.errors import ClipError, ExportError, ManifestError, ModelError, RunError, WeightsError
from dynagest.export import TOLERANCES, Export, export
from dynagest.export.clips import ClipSet, gather
from dynagest.export.fold import fold_batchnorm
from dynagest.export.frames import frame_form
from dynagest.export.streams import convert_stream
from dynagest.export.verify import Comparison, StreamRunner
from dynagest.export.volumes import VolumeNet
from dynagest.export.write import Runtime, convert_clips, write_model
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.streaming import StreamNet
from dynagest.networks.video import VideoNet
from dynagest.networks.weights import save_network
from dynagest.runtimes.load import load_clip_network, load_stream_network
from dynagest.runtimes.model_file import CLIPS, KEY, ModelInfo, Precision
from dynagest.runtimes.onnx_network import OnnxNetwork
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
INFO_KEYS = {"format", "mode", "precision", "batch", "card", "state", "events"}


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
    info = OnnxNetwork(file, threads=1).info
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
    compared = Comparison.of(reference(network[0], clips), OnnxNetwork(path, 1).logits(clips), np.full(40, -1))
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
    events = OnnxNetwork(done.path, 1).info.events
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

    def load(path: Path, threads: int | None) -> OnnxNetwork:
        seen.append(threads)
        return OnnxNetwork(path, threads)

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


def clips_on_disk(folder: Path, **splits: int) -> Manifest:
    """A manifest with so many clips of each split; every frame of clip n is n, of all clips another."""
    clips = []
    for split, count in splits.items():
        for _ in range(count):
            video = folder / f"{len(clips)}"
            video.mkdir(parents=True)
            for frame in range(3):
                cv2.imwrite(str(video / f"{frame}.png"), np.full((32, 32, 3), 10 * len(clips), np.uint8))
            clips.append(Clip(video, CLASSES[len(clips) % 3], split=split))
    return Manifest.of(clips, classes=CLASSES).write(folder / "manifest.csv")


def numbers(found: ClipSet, card: NetworkCard) -> list[int]:
    """Which clips of ``clips_on_disk`` these are."""
    red = found.clips[:, 0, 0, 0, 0] * card.std[0] + card.mean[0]
    return np.round(red * 255 / 10).astype(int).tolist()


@pytest.mark.parametrize(("count", "taken"), [(2, (2, 2)), (4, (3, 4)), (64, (3, 4))])
def test_without_a_second_split_no_clip_is_calibrated_on_and_compared(
    tmp_path: Path, count: int, taken: tuple[int, int]
) -> None:
    clips_on_disk(tmp_path, train=7)
    card = make_network("tsn_resnet18")[1]
    calibration, compared = gather(tmp_path, card, tmp_path, count, calibrates=True)
    first, second = numbers(calibration, card), numbers(compared, card)
    assert (len(first), len(second)) == taken
    assert len({*first, *second}) == len(first) + len(second)
    assert compared.labels.tolist() == [number % 3 for number in second]
    assert calibration.source == compared.source == f"{tmp_path / 'manifest.csv'} (train)"


def test_other_splits_are_compared_whole(tmp_path: Path) -> None:
    card = make_network("tsn_resnet18")[1]
    for splits, name in (({"train": 3, "val": 2, "test": 4}, "test"), ({"train": 3, "val": 2}, "val")):
        folder = tmp_path / name
        manifest = clips_on_disk(folder, **splits)
        calibration, compared = gather(folder, card, folder, 64, calibrates=True)
        assert numbers(calibration, card) == [0, 1, 2]
        assert numbers(compared, card) == [i for i, clip in enumerate(manifest.clips) if clip.split == name]


def test_clips_that_do_not_suffice_are_named(tmp_path: Path) -> None:
    card = make_network("tsn_resnet18")[1]
    for splits, message in (({"train": 1}, "too few clips"), ({"test": 2}, "has no clips")):
        folder = tmp_path / message
        clips_on_disk(folder, **splits)
        with pytest.raises(ManifestError, match=message):
            gather(folder, card, folder, 4, calibrates=True)


def test_clips_that_cannot_be_read_are_left_out_and_named(tmp_path: Path) -> None:
    card = make_network("tsn_resnet18")[1]
    clips_on_disk(tmp_path, train=2, test=2)
    for name in ("1", "2"):
        (tmp_path / name / "1.png").write_bytes(b"no picture")
    calibration, compared = gather(tmp_path, card, tmp_path, 64, calibrates=True)
    assert (numbers(calibration, card), numbers(compared, card)) == ([0], [3])
    for found, name in ((calibration, "1"), (compared, "2")):
        assert len(found.unreadable) == 1
        assert str(tmp_path / name / "1.png") in found.unreadable[0]
    (tmp_path / "3" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ClipError, match=r"\(test\): none of 2 clips can be read; the first: .*1\.png"):
        gather(tmp_path, card, tmp_path, 64, calibrates=True)


def test_generated_clips_take_the_place_of_what_is_not_there_and_of_nothing_else(tmp_path: Path) -> None:
    card = make_network("tsn_resnet18")[1]
    run, data = tmp_path / "run", tmp_path / "data"
    clips_on_disk(data, train=2, test=1)
    manifest, environment = data / "manifest.csv", run / "environment.json"
    run.mkdir()

    def source() -> str:
        return gather(run, card, None, 1, calibrates=False)[1].source

    assert source() == f"generated test clips ({run} does not tell what the network was trained on)"
    environment.write_text(json.dumps({"data": str(manifest)}))
    assert source() == f"{manifest} (test)"
    manifest.write_text("video,label,split\n0,wave,dev\n")
    with pytest.raises(ManifestError, match="split 'dev' is none of"):
        source()
    manifest.unlink()
    assert source() == f"generated test clips ({manifest}, which it was trained on, is not there)"
    environment.write_text("{")
    with pytest.raises(RunError, match="does not tell what the run was trained on"):
        source()


def test_int8_is_calibrated_on_generated_clips_only_for_a_network_that_learnt_them(tmp_path: Path) -> None:
    """The classes of the card are names of generated gestures, as a user's own may be."""
    net, card = make_network("tsn_resnet18")
    run = tmp_path / "run"
    gone = {"data": str(tmp_path / "my_clips" / "manifest.csv")}
    save_network(run, net, card.model_copy(update={"provenance": {"recipe": "webcam", **gone}}))
    with pytest.raises(ManifestError, match=r"run does not tell .* with --data"):
        export(run, "onnx", precision="int8")
    (run / "environment.json").write_text(json.dumps(gone))
    with pytest.raises(ManifestError, match=r"my_clips.manifest\.csv, which it was trained on, .* with --data"):
        export(run, "onnx", precision="int8")
    assert not [*run.glob("*.onnx")]
    for provenance in ({"recipe": "demo", **gone}, {"recipe": "isogd", "data": "SynthDataset"}):
        learnt = card.model_copy(update={"provenance": provenance})
        assert gather(run, learnt, None, 1, calibrates=True)[0].source.startswith("generated train clips")
        strange = learnt.model_copy(update={"classes": ("wave", "my gesture")})
        with pytest.raises(ManifestError, match="int8 wants clips of the kind"):
            gather(run, strange, None, 1, calibrates=True)


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
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_openvino_in_lower_precision(precision: str, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "action_resnet18")
    done = export(run, "openvino", precision=precision, clips=24, threads=1)  # type: ignore[arg-type]
    assert done.comparison.agreement >= 0.9
    assert done.comparison.difference > 1e-4  # not silently fp32
    assert load_clip_network(done.path).info.precision == precision  # type: ignore[union-attr]


@pytest.fixture(scope="module", params=["tsm_resnet18", "action_resnet18"])
def online(request: pytest.FixtureRequest) -> tuple[VideoNet, onnx.ModelProto, ModelInfo]:
    """A network that looks back only, and its stream as an ONNX model."""
    options = {"online": True}
    net = trained(request.param, num_segments=4, width=8, options=options)
    card = NetworkCard(
        model=request.param, classes=tuple("abcde"), num_segments=4, size=32, width=8, options=options, fps=8.0
    )
    model, state = convert_stream(net, card, channels_last=False)
    return net, model, ModelInfo(mode="stream", precision="fp32", card=card, state=state)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_an_exported_stream_equals_the_clip_network_frame_by_frame(
    online: tuple[VideoNet, onnx.ModelProto, ModelInfo], to: Runtime, tmp_path: Path
) -> None:
    """To 1e-5 of the logits' spread: float32 holds seven digits, and PyTorch's own are 2e-6 of it from its float64."""
    net, model, info = online
    path = tmp_path / ("network.onnx" if to == "onnx" else "network.xml")
    write_model(model, info, to, (), path)
    stream = load_stream_network(path, threads=1)
    clips = torch.from_numpy(np.concatenate([noise(2, 32, seed=1), noise(2, 32, seed=2)], axis=1))
    answers = StreamRunner(stream).logits(clips.numpy()).reshape(2, 8, 5)
    with torch.inference_mode():
        by_frame = net.frame_logits(clips)  # of what the network has seen until then
        expected = torch.stack(
            [net(clips[:, : t + 1]) if t < 4 else by_frame[:, t - 3 : t + 1].mean(1) for t in range(8)], dim=1
        )
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-5 * expected.std().item())
    first = stream.initial_state()
    kept = {key: value.copy() for key, value in first.items()}
    stream.step(clips[0, :1].numpy(), first)
    for key, value in kept.items():
        np.testing.assert_array_equal(first[key], value)
    with pytest.raises(WeightsError, match="--mode stream"):
        load_clip_network(path)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet18"])
def test_every_stream_agrees_in_every_runtime(name: str, to: Runtime, tmp_path: Path) -> None:
    done = export(save_run(tmp_path / "run", name, {"online": True}), to, mode="stream", clips=4, threads=1)
    assert done.comparison.rows == 4 * 4
    assert done.comparison.difference < 3e-4


@pytest.mark.slow
def test_an_int8_stream_remembers_features_in_bytes(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "action_resnet18", {"online": True})
    done = export(run, "openvino", precision="int8", mode="stream", clips=24, threads=1)
    stream = load_stream_network(done.path, threads=1)
    state = stream.initial_state()
    features = {name for name in state if name.endswith(".shift")}
    assert len(features) == 8
    assert {name for name, each in state.items() if each.dtype == np.uint8} == features
    assert state["layer2.1.shift"].shape == (1, 8, 8, 16)  # (N, H, W, C)
    assert done.info == load_stream_network(done.path).info
    # What is left after a frame is that frame's features, in 256 levels.
    net, card = make_network("action_resnet18", {"online": True})
    frame = noise(1)[0, :1]
    _, expected = StreamNet(net)(torch.from_numpy(frame), StreamNet(net).initial_state(1, card.size))
    _, left = stream.step(frame, state)
    exact = expected["layer1.0.shift"].permute(0, 2, 3, 1).detach().numpy()
    assert np.corrcoef(exact.ravel(), left["layer1.0.shift"].ravel())[0, 1] > 0.98
    assert done.comparison.agreement >= 0.9
    # Each tensor is rounded once, and nothing between a gate's product and the sum of both.
    for node in openvino.Core().read_model(done.path).get_ops():
        for output in node.outputs():
            readers = [each.get_node() for each in output.get_target_inputs() if each.get_index() == 0]
            kinds = [each.get_type_name() for each in readers]
            assert kinds.count("FakeQuantize") < 2, node
            assert node.get_type_name() != "Multiply" or "FakeQuantize" not in kinds, node
            if "FakeQuantize" in kinds and node.get_type_name() != "Constant":
                assert set(kinds) <= {"FakeQuantize", "ShapeOf", "Result", "AvgPool", "ReduceMean"}, node


def test_only_online_networks_have_a_stream(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="online"):
        convert_stream(*make_network("tsm_resnet18"), channels_last=False)
