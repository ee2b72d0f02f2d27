"""Exported streams: that they answer as the clip network does, frame by frame, and what they remember."""

import gc
import weakref
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
from export_helpers import kernels, make_network, noise, save_run
from network_helpers import trained

from dynagest.card import NetworkCard
from dynagest.errors import ExportError, ModelError
from dynagest.export import export
from dynagest.export.clips import ClipSet
from dynagest.export.streams import StreamForm, convert_stream, stream_inputs
from dynagest.export.verify import StreamRunner
from dynagest.export.write import Runtime, stream_form, write_model
from dynagest.networks.build import create_model
from dynagest.networks.streaming import StreamNet
from dynagest.networks.video import VideoNet
from dynagest.networks.weights import save_network
from dynagest.runtimes.exported import ExportedStream
from dynagest.runtimes.load import load_clip_network, load_stream_network
from dynagest.runtimes.model_file import FRAME, STATE_IN, ModelInfo
from dynagest.runtimes.torch_network import TorchStream


@pytest.fixture(scope="module", params=["tsm_resnet18", "action_resnet18"])
def online(request: pytest.FixtureRequest) -> tuple[VideoNet, onnx.ModelProto, ModelInfo]:
    """A network that looks back only, and its stream as an ONNX model."""
    options = {"online": True}
    net = trained(request.param, num_segments=4, width=8, options=options)
    card = NetworkCard(
        model=request.param, classes=tuple("abcde"), num_segments=4, size=32, width=8, options=options, fps=8.0
    )
    model, state = convert_stream(StreamForm(net, card.size))
    return net, model, ModelInfo(mode="stream", precision="fp32", card=card, state=state)


@pytest.fixture
def stream(online: tuple[VideoNet, onnx.ModelProto, ModelInfo], tmp_path: Path) -> ExportedStream:
    """Its stream in OpenVINO."""
    _, model, info = online
    write_model(model, info, "openvino", (), tmp_path / "network.xml")
    return load_stream_network(tmp_path / "network.xml", threads=1)


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
    with torch.inference_mode():
        clips = clips[:, :4]
        np.testing.assert_allclose(load_clip_network(path).logits(clips.numpy()), net(clips), atol=1e-5)


def test_every_convolution_of_an_exported_stream_is_2d(online: tuple[VideoNet, onnx.ModelProto, ModelInfo]) -> None:
    """STE's 3x3x3, which looks back one frame here, is one 3x3 over two frames, in each of the eight blocks."""
    _, model, info = online
    shapes = kernels(model)
    assert {len(shape) for shape in shapes} == {4}
    assert shapes.count((1, 2, 3, 3)) == (8 if "action" in info.card.model else 0)


def test_every_constant_is_read(online: tuple[VideoNet, onnx.ModelProto, ModelInfo]) -> None:
    """ONNX Runtime warns of others whenever it loads the file."""
    graph = online[1].graph
    assert {each.name for each in graph.initializer} <= {name for node in graph.node for name in node.input}


@pytest.mark.parametrize("frames", [1, 3])
def test_every_clip_and_every_step_is_calibrated_on(
    online: tuple[VideoNet, onnx.ModelProto, ModelInfo], frames: int
) -> None:
    """A step of each clip: all steps of an eighth of the clips, as it was, left out most of the classes."""
    net, _, info = online
    form, clips = StreamForm(net, info.card.size), np.concatenate([noise(7, 32, seed=1), noise(7, 32, seed=2)], axis=1)
    steps = 8 // frames
    given = list(stream_inputs(form, clips, frames))
    assert len(given) == len(clips) == 7
    for number, each in enumerate(given):
        begin = number % steps * frames
        np.testing.assert_array_equal(each[FRAME], clips[number, begin : begin + frames])
        state = list(form.first.values())
        with torch.inference_mode():
            for frame in torch.from_numpy(clips[number, :begin]):
                _, *state = form(frame[None], state)
        assert {key.removeprefix(STATE_IN) for key in each} == {FRAME, *form.first}
        for name, expected in zip(form.first, state, strict=True):
            np.testing.assert_allclose(each[STATE_IN + name], expected, atol=1e-5)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_file_that_takes_several_frames_at_once_answers_each_of_them(
    online: tuple[VideoNet, onnx.ModelProto, ModelInfo], to: Runtime, tmp_path: Path
) -> None:
    """Three at a time of five: the last step is filled up, and what it made of the filling is left out."""
    net, _, info = online
    model, state = convert_stream(StreamForm(net, info.card.size, channels_last=to == "openvino"), frames=3)
    path = tmp_path / ("network.onnx" if to == "onnx" else "network.xml")
    write_model(model, info.model_copy(update={"frames": 3, "state": state}), to, (), path)
    stream = load_stream_network(path, threads=1)
    clips = np.concatenate([noise(2, 32, seed=1), noise(2, 32, seed=2)], axis=1)[:, :5]
    expected = StreamRunner(TorchStream(net, info.card)).logits(clips)
    answers = StreamRunner(stream).logits(clips)
    assert stream.frames == 3
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-5 * expected.std())
    whole = load_clip_network(path, threads=1).logits(clips[:, :4])
    np.testing.assert_allclose(whole, expected.reshape(2, 5, 5)[:, 3], rtol=0, atol=1e-5 * expected.std())
    with pytest.raises(ModelError, match=r"a clip of shape \(5, 3, 32, 32\)"):
        load_clip_network(path).logits(clips)
    with pytest.raises(ModelError, match="frames of float64, but it takes float32"):
        load_clip_network(path).logits(clips[:, :4].astype(np.float64))


def test_a_gesture_need_be_recognised_at_the_end_of_its_clip_only() -> None:
    clips = ClipSet(np.zeros((3, 4, 3, 1, 1), np.float32), np.array([2, -1, 0]), "clips")
    labels = StreamRunner(None).labels(clips)  # type: ignore[arg-type]
    assert labels.reshape(3, 4).tolist() == [[-1, -1, -1, 2], [-1, -1, -1, -1], [-1, -1, -1, 0]]


def test_states_in_openvino_lie_in_memory_that_is_used_again_only_when_they_are_gone(
    stream: ExportedStream,
) -> None:
    clips = np.concatenate([noise(2, 32, seed=1), noise(2, 32, seed=2)], axis=1)

    # Every state that is kept stays what it was, and a stream goes on from it as it did before.
    kept, answers = [stream.initial_state()], []
    for frame in clips[0]:
        logits, state = stream.step(frame[None], kept[-1])
        kept.append(state)
        answers.append(logits)
    copies = [{name: each.copy() for name, each in state.items()} for state in kept]
    for t in (3, 0, 6):
        np.testing.assert_array_equal(stream.step(clips[0, t : t + 1], kept[t])[0], answers[t])
        np.testing.assert_array_equal(stream.step(clips[0, t : t + 1], copies[t])[0], answers[t])
    for state, copied in zip(kept, copies, strict=True):
        for name, each in state.items():
            np.testing.assert_array_equal(each, copied[name])

    # So do streams that take turns.
    states = [stream.initial_state(), stream.initial_state()]
    for t in range(8):
        for k in (0, 1):
            logits, states[k] = stream.step(clips[k, t : t + 1], states[k])
            if k == 0:
                np.testing.assert_array_equal(logits, answers[t])

    # A loop that keeps the newest state alone uses the same two places again, but not one that a view is left of.
    del kept, states, state, each
    state, places = stream.initial_state(), set()
    for t in range(8):
        _, state = stream.step(clips[0, t : t + 1], state)
        places.add(state["logits"].ctypes.data)
        if t == 3:
            view = state["logits"][0, -1:]
            left = view.copy()
    assert len(places) == 3
    np.testing.assert_array_equal(view, left)


def test_a_state_of_another_network_is_refused_and_a_failed_step_loses_no_memory(
    stream: ExportedStream,
) -> None:
    frame, first = noise(1, 32)[0, :1], stream.initial_state()
    for wrong in (np.zeros((1, 1, 1), np.float32), np.zeros(first["logits"].shape)):
        with pytest.raises(ModelError, match=r"state logits: .* begins with initial_state"):
            stream.step(frame, {**first, "logits": wrong})
    state, places = first, set()
    for _ in range(4):
        _, state = stream.step(frame, state)
        places.add(state["logits"].ctypes.data)
    for wrong, said in (
        (frame[..., :16], r"frames of shape \(1, 3, 32, 16\), but a step takes \(1, 3, 32, 32\)"),
        (frame.astype(np.float64), "frames of float64, but it takes float32"),
    ):
        with pytest.raises(ModelError, match=said):
            stream.step(wrong, state)
    _, state = stream.step(frame, state)
    assert state["logits"].ctypes.data in places


def test_an_openvino_stream_is_gone_when_nobody_holds_it(
    online: tuple[VideoNet, onnx.ModelProto, ModelInfo], tmp_path: Path
) -> None:
    """`export` moves the file that it has just run, and Windows moves none that is mapped."""
    _, model, info = online
    write_model(model, info, "openvino", (), tmp_path / "network.xml")
    stream = load_stream_network(tmp_path / "network.xml", threads=1)
    _, state = stream.step(noise(1, 32)[0, :1], stream.initial_state())
    run = weakref.ref(stream._run)
    gc.disable()
    try:
        del stream
        assert run() is None
    finally:
        gc.enable()
    assert np.isfinite(state["logits"]).all(), "its states stay"


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("name", "online"),
    [("tsm_resnet18", True), ("action_resnet18", True), ("action_resnet18", False), ("tea_res2net50", False)],
)
def test_every_stream_agrees_in_every_runtime(name: str, online: bool, to: Runtime, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", name, {"online": True} if online else None)
    done = export(run, to, mode="stream", clips=4, threads=1)
    assert done.comparison.rows == 4 * 4
    assert done.comparison.difference < 3e-4


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 2])
def test_an_int8_stream_remembers_features_in_bytes(frames: int, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "action_resnet18", {"online": True})
    done = export(run, "openvino", precision="int8", mode="stream", frames=frames, clips=24, threads=1)
    assert done.path.name == ("network-int8-stream.xml" if frames == 1 else "network-int8-stream-x2.xml")
    stream = load_stream_network(done.path, threads=1)
    state = stream.initial_state()
    features = {name for name in state if name.endswith(".shift")}
    assert len(features) == 8
    assert {name for name, each in state.items() if each.dtype == np.uint8} == features
    assert state["layer2.1.shift"].shape == (1, 8, 8, 16)  # (N, H, W, C)
    assert done.info == load_stream_network(done.path).info
    # What is left after a step is the features of its last frame, in 256 levels.
    net, card = make_network("action_resnet18", {"online": True})
    taken = noise(1)[0, :frames]
    _, expected = StreamNet(net)(torch.from_numpy(taken)[:, None], StreamNet(net).initial_state(1, card.size))
    _, left = stream.step(taken, state)
    exact = expected["layer1.0.shift"].permute(0, 2, 3, 1).detach().numpy()
    assert np.corrcoef(exact.ravel(), left["layer1.0.shift"].ravel())[0, 1] > 0.98
    assert max(left[name].max() for name in features) > 160, "all eight bits are used"
    assert done.comparison.agreement >= 0.9
    # Each tensor is rounded once, and nothing between the sum of the gates and its product with the features.
    gates = 0
    for node in openvino.Core().read_model(done.path).get_ops():
        for output in node.outputs():
            readers = [each.get_node() for each in output.get_target_inputs() if each.get_index() == 0]
            kinds = [each.get_type_name() for each in readers]
            assert kinds.count("FakeQuantize") < 2, node
            if node.get_type_name() == "Add" and "Multiply" in kinds:
                assert "FakeQuantize" not in kinds, node
                gates += 1
            if "FakeQuantize" in kinds and node.get_type_name() != "Constant":
                assert set(kinds) <= {"FakeQuantize", "ShapeOf", "Result", "AvgPool", "ReduceMean"}, node
    assert gates >= 8
    # Blocks add what they take within their last convolution, though the state keeps it.
    layers = openvino.compile_model(done.path, "CPU").get_runtime_model().get_ops()
    apart = [node for node in layers if node.get_rt_info()["layerType"].astype(str) == "Eltwise"]
    assert len(layers) > 100
    assert not [name for node in apart if "/Add" in (name := node.get_friendly_name())]


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize(("name", "frames"), [("tsm_resnet18", 1), ("action_resnet18", 1), ("action_resnet18", 2)])
def test_an_exported_window_equals_the_clip_network_on_the_last_frames(
    name: str, frames: int, to: Runtime, tmp_path: Path
) -> None:
    net = trained(name, num_segments=4, width=8)
    card = NetworkCard(model=name, classes=tuple("abcde"), num_segments=4, size=32, width=8, fps=8.0)
    model, state = convert_stream(stream_form(net, card.size, to, "fp32"), frames)
    path = tmp_path / ("network.onnx" if to == "onnx" else "network.xml")
    info = ModelInfo(mode="stream", precision="fp32", frames=frames, card=card, state=state)
    write_model(model, info, to, (), path)
    assert set(state) == {"stem", "seen"}
    assert {len(shape) for shape in kernels(model)} == {4 if to == "onnx" else 5}
    clips = np.concatenate([noise(2, 32, seed=1), noise(2, 32, seed=2)], axis=1)
    answers = StreamRunner(load_stream_network(path, threads=1)).logits(clips).reshape(2, 8, 5)
    filled = torch.from_numpy(np.concatenate([clips[:, :1]] * 3 + [clips], axis=1))
    with torch.inference_mode():
        expected = torch.stack([net(filled[:, t : t + 4]) for t in range(8)], dim=1)
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-5 * expected.std().item())


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_an_int8_window_agrees(to: Runtime, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "action_resnet18")
    done = export(run, to, precision="int8", mode="stream", clips=24, threads=1)
    assert done.comparison.rows == 24 * 4
    assert done.comparison.agreement >= 0.9


@pytest.mark.parametrize("options", [None, {"online": True}])
def test_a_network_of_one_frame_has_no_stream(options: dict | None, tmp_path: Path) -> None:
    card = NetworkCard(
        model="tsm_resnet18", classes=tuple("abc"), num_segments=1, size=32, width=8, options=options or {}
    )
    save_network(tmp_path, create_model(card.model, 3, 1, width=8, size=32, options=options), card)
    with pytest.raises(ExportError, match="one frame alone"):
        export(tmp_path, "onnx", mode="stream")


def test_only_2d_networks_have_a_stream() -> None:
    with pytest.raises(ModelError, match="no 2D network"):
        stream_form(create_model("c3d", 5, num_segments=16, size=32), 32, "onnx", "fp32")
