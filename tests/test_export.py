"""Exported files: what is in them, and that they compute what the network computes."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_helpers import CLASSES, kernels, make_network, noise, reference, save_run
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dynagest.card import NetworkCard
from dynagest.export import export
from dynagest.export.fold import fold_batchnorm
from dynagest.export.frames import frame_form
from dynagest.export.gates import MeansFirst, SqueezeFirst
from dynagest.export.verify import Comparison
from dynagest.export.volumes import VolumeNet
from dynagest.export.write import write_model
from dynagest.networks.action import Action
from dynagest.networks.build import create_model
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.rivals.build import RIVALS
from dynagest.networks.video import VideoNet
from dynagest.networks.weights import save_network
from dynagest.runtimes.load import load_clip_network
from dynagest.runtimes.model_file import CLIPS, KEY, ModelInfo
from dynagest.runtimes.openvino_network import open_openvino
from dynagest.task.decoder import MultiScaleDecoder
from dynagest.task.saved import save_decoders

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
def decoders(network: tuple[ClipNet, NetworkCard]) -> MultiScaleDecoder:
    return MultiScaleDecoder.for_model(network[0], image_size=network[1].size)


@pytest.fixture(scope="module")
def exported(decoders: MultiScaleDecoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network, exported from a run that has decoders."""
    folder = save_run(tmp_path_factory.mktemp("run"), "action_resnet18")
    save_decoders(folder, decoders)
    return export(folder, "onnx", clips=2, threads=1).path


@pytest.fixture(scope="module")
def model(exported: Path) -> onnx.ModelProto:
    return onnx.load(exported)


@pytest.fixture(scope="module")
def file(
    network: tuple[ClipNet, NetworkCard], model: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("exported") / "network.onnx"
    info = ModelInfo(mode="clip", precision="fp32", card=network[1], events={"threshold": 0.5})
    write_model(model, info, "onnx", (), path)
    return path


SLOW = ("nas1", "resnext101_3d", "attention_lstm")  # a hundred layers and more
OTHERS = [pytest.param(name, {}, marks=[pytest.mark.slow] * (name in SLOW)) for name in RIVALS]


@pytest.mark.parametrize(
    ("name", "options"), [*OTHERS, pytest.param("attention_lstm", {"gated": True}, marks=pytest.mark.slow)]
)
def test_the_other_systems_are_exported(name: str, options: dict, tmp_path: Path) -> None:
    frames, size = (16, 32) if name != "segmentation_lstm" else (4, 64)
    torch.manual_seed(0)
    net = create_model(name, 3, frames, width=8, size=size, options=options).eval()
    card = NetworkCard(model=name, classes=CLASSES, num_segments=frames, size=size, width=8, options=options)
    save_network(tmp_path, net, card)
    done = export(tmp_path, "onnx", clips=2, threads=1)
    clips = np.random.default_rng(1).standard_normal((1, frames, 3, size, size), dtype=np.float32)
    expected = reference(net, clips)
    found = load_clip_network(done.path, threads=1).logits(clips)
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


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


def test_a_batchnorm_that_follows_no_convolution_stays() -> None:
    torch.manual_seed(0)
    conv, norm, after = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    net = nn.Sequential(conv, norm, nn.ReLU(), after)
    clips = torch.randn(8, 3, 5, 5)
    net.train()(clips)
    folded = fold_batchnorm(net, clips)  # type: ignore[arg-type]
    assert [type(module) for module in folded.children()] == [nn.Conv2d, nn.Identity, nn.ReLU, nn.BatchNorm2d]
    torch.testing.assert_close(folded(clips), net.eval()(clips))


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
    shapes = Counter(kernels(graph))
    assert {len(shape) for shape in shapes} == {4}  # STE's 3x3x3, too, is one 3x3 over three frames, in each block:
    assert shapes[1, 3, 3, 3] == 8


def test_decoders_are_never_in_a_file(
    exported: Path, network: tuple[ClipNet, NetworkCard], decoders: MultiScaleDecoder
) -> None:
    assert exported.with_name("decoders.safetensors").exists()
    graph = onnx.load(exported).graph
    assert [each.name for each in graph.input] == ["clips"]
    assert [each.name for each in graph.output] == ["logits"]
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    words = {word for kind in (*decoders.taps, "decoder", "msd") for word in (kind, kind + "s")}
    assert [name for name in stored if words & set(re.split(r"\W", name))] == []
    assert words & set(re.split(r"\W", next(iter(decoders.state_dict())))), "by these words they would be known"
    # Nor under other names: by their shape, however it is turned, and by the number of weights. BatchNorm is folded
    # into one number a channel, and the gates of ACTION come to a few numbers more or fewer.
    shapes = {tuple(sorted(each.shape)) for each in decoders.state_dict().values()}
    assert not shapes & {tuple(sorted(each.shape)) for each in stored.values()}
    count = sum(each.size for each in stored.values() if each.dtype == np.float32)
    norms = sum(each.num_features for each in network[0].modules() if isinstance(each, nn.BatchNorm2d))
    expected = sum(each.numel() for each in network[0].parameters()) - norms
    assert abs(count - expected) < 100 < min(each.numel() for each in decoders.state_dict().values())


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
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert not any(node.input[1] in floats for node in convolutions)
    # Each output channel of a convolution has a scale of its own.
    sizes = {each.name: list(each.dims) for each in graph.initializer}
    made_by = {node.output[0]: node for node in graph.node}
    levels, scales = zip(*(made_by[node.input[1]].input[:2] for node in convolutions), strict=True)
    assert len(convolutions) > 20
    assert [sizes[scale] for scale in scales] == [sizes[level][:1] for level in levels]


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_computes_with_the_threads_that_it_is_given(
    suffix: str,
    threads: int,
    tmp_path: Path,
    model: onnx.ModelProto,
    network: tuple[ClipNet, NetworkCard],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / f"network{suffix}"
    info = ModelInfo(mode="clip", precision="fp32", card=network[1])
    write_model(model, info, "onnx" if suffix == ".onnx" else "openvino", (), path)
    if suffix == ".xml":
        compiled = open_openvino(path, threads)[1].__self__.get_compiled_model()  # type: ignore[attr-defined]
        assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
        return
    asked = []
    session = onnxruntime.InferenceSession

    def watch(name: str, options: onnxruntime.SessionOptions, **others: Any) -> onnxruntime.InferenceSession:
        asked.append(options.intra_op_num_threads)
        return session(name, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watch)
    load_clip_network(path, threads=threads)
    load_clip_network(path)
    assert asked == [threads, 0]  # 0: as many as there are cores


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
