from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from network_helpers import random_clip, trained
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dynagest.errors import ModelError
from dynagest.networks.build import create_model
from dynagest.networks.online import OnlineConv
from dynagest.networks.streaming import StreamNet, WindowNet, streaming_form

NAMES = ["tsm_resnet18", "action_resnet18", "tsm_resnet50", "action_resnet50"]
ONLINE = {"online": True}
T = 4


def run(stream: StreamNet | WindowNet, clip: Tensor) -> list[Tensor]:
    """The logits after each frame of a clip (N, T', 3, H, W)."""
    state = stream.initial_state(len(clip), (clip.shape[3], clip.shape[4]))
    answers = []
    with torch.no_grad():
        for frame in clip.unbind(1):
            logits, state = stream(frame, state)
            answers.append(logits)
    return answers


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_clip_network_frame_by_frame(name: str) -> None:
    net = trained(name, num_segments=T, width=16, options=ONLINE)
    clip = random_clip(frames=T)
    answers = run(StreamNet(net), clip)
    with torch.no_grad():
        for t in range(1, T + 1):
            expected = net(clip[:, :t])
            assert expected.abs().max() > 0.1
            assert torch.allclose(answers[t - 1], expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_equals_it_exactly_in_double_precision_and_goes_on_with_the_last_frames(name: str) -> None:
    net = trained(name, num_segments=T, width=8, options=ONLINE).double()
    clip = random_clip(frames=2 * T + 1, size=40).double()
    answers = run(StreamNet(net), clip)
    with torch.no_grad():
        by_frame = net.frame_logits(clip)
    for t, logits in enumerate(answers):
        expected = by_frame[:, max(0, t + 1 - T) : t + 1].mean(1)
        assert torch.allclose(logits, expected, atol=1e-10)


@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet50"])
@pytest.mark.parametrize("count", [2, 3, T + 1])
def test_several_frames_at_once_give_what_they_give_one_by_one(name: str, count: int) -> None:
    stream = StreamNet(trained(name, num_segments=T, width=8, options=ONLINE).double())
    clip = random_clip(clips=2, frames=3 * count, size=32).double()
    expected = torch.stack(run(stream, clip))
    state, answers = stream.initial_state(2, 32), []
    shapes = {name: tensor.shape for name, tensor in state.items()}
    with torch.no_grad():
        for frames in clip.transpose(0, 1).split(count):
            logits, state = stream(frames, state)
            assert logits.shape == (count, 2, 5)
            assert {name: tensor.shape for name, tensor in state.items()} == shapes
            answers.append(logits)
    assert torch.allclose(torch.cat(answers), expected, atol=1e-10)


def test_a_clip_length_of_one_has_no_past_logits() -> None:
    stream = StreamNet(trained("tsm_resnet18", num_segments=1, width=8, options=ONLINE).double())
    clip = random_clip(clips=1, frames=3, size=32).double()
    with torch.no_grad():
        together, state = stream(clip.transpose(0, 1), stream.initial_state(1, 32))
    assert torch.allclose(together, torch.stack(run(stream, clip)), atol=1e-10)
    assert state["logits"].shape == (1, 0, 5)


def test_frames_need_not_be_square() -> None:
    net = trained("action_resnet18", num_segments=T, width=8, options=ONLINE)
    clip = random_clip(frames=T)[..., :48]
    with torch.no_grad():
        assert torch.allclose(run(StreamNet(net), clip)[-1], net(clip), atol=1e-5)


def test_streams_do_not_see_each_other() -> None:
    stream = StreamNet(trained("action_resnet18", num_segments=T, width=8, options=ONLINE))
    clip = random_clip(clips=2, frames=T, size=32)
    together, alone = run(stream, clip), run(stream, clip[1:])
    assert all(torch.allclose(both[1:], one, atol=1e-6) for both, one in zip(together, alone, strict=True))


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 3, 32, 32), (6, 3, 32, 32), (3, 7, 3, 32, 32), (3, 32, 32)])
def test_frames_of_other_streams_than_the_state_are_refused(online: bool, shape: tuple[int, ...]) -> None:
    """(6, ...) would count as two frames of each, (3, 7, ...), clips, as mixed ones, and (1, ...) be broadcast."""
    stream = streaming_form(create_model("action_resnet18", 3, T, width=8, options={"online": online}).eval())
    with pytest.raises(ModelError, match=r"for a state of 3 streams; give the next frame of each, \(3, C, H, W\)"):
        stream(torch.zeros(shape), stream.initial_state(3, 32))


@pytest.mark.parametrize("name", ["tsm_resnet50", "action_resnet50"])
def test_a_state_keeps_its_names_and_shapes_and_is_never_changed(name: str) -> None:
    stream = StreamNet(trained(name, num_segments=T, width=8, options=ONLINE))
    states = [stream.initial_state(2, 32)]
    copies = []
    for frame in random_clip(frames=6, size=32).unbind(1):
        copies.append({key: tensor.clone() for key, tensor in states[-1].items()})
        with torch.no_grad():
            states.append(stream(frame, states[-1])[1])
    for before, after in pairwise(states):
        assert {k: (v.shape, v.dtype) for k, v in before.items()} == {k: (v.shape, v.dtype) for k, v in after.items()}
    for state, copy in zip(states, copies, strict=False):
        assert all(torch.equal(state[key], copy[key]) for key in copy)
    assert not any(tensor.any() for tensor in states[0].values())
    assert states[-1]["seen"].tolist() == [[T], [T]]


def test_what_a_state_holds() -> None:
    net = create_model("action_resnet50", 83, 8, options=ONLINE).eval()
    state = StreamNet(net).initial_state(1, 224)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert len(shapes) == 16 * 4 + 2
    assert shapes["layer1.0.shift"] == (1, 64, 56, 56)
    assert shapes["layer4.2.shift"] == (1, 2048, 7, 7)
    assert shapes["layer4.2.ste"] == (1, 1, 7, 7)
    assert shapes["layer4.2.ce"] == (1, 128, 1, 1)
    assert shapes["layer4.2.me"] == (1, 129, 1, 1)
    assert (shapes["logits"], shapes["seen"]) == ((1, 7, 83), (1, 1))
    shifted = StreamNet(create_model("tsm_resnet50", 83, 8, options=ONLINE)).initial_state(1, 224)
    assert tuple(shifted["layer4.2.shift"].shape) == (1, 256, 7, 7)


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_costs_a_frame(name: str) -> None:
    net = create_model(name, 5, T, width=16, options=ONLINE).eval()
    stream = StreamNet(net)
    clip = random_clip(clips=1, frames=T)
    state = stream.initial_state(1, 64)
    # The counter knows convolutions and matrix products, not the weighted sum of two frames that the trainable shift
    # is in a stream; in a clip it is a depthwise convolution with three taps.
    taps = sum(3 * state[f"{name}.shift"].numel() for name in _trainable_shifts(net))

    def multiply_adds(step) -> int:  # type: ignore[no-untyped-def]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            step()
        return counter.get_total_flops() // 2

    assert multiply_adds(lambda: stream(clip[:, 0], state)) + taps == multiply_adds(lambda: net(clip)) / T


def _trainable_shifts(net: torch.nn.Module) -> list[str]:
    return [".".join(name.split(".")[1:3]) for name, module in net.named_modules() if isinstance(module, OnlineConv)]


@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet18"])
def test_exports_with_named_states(name: str) -> None:
    stream = StreamNet(trained(name, num_segments=T, width=8, options=ONLINE))
    frame, other = random_clip(clips=1, frames=2, size=32).unbind(1)
    exported = torch.export.export(stream, (frame, stream.initial_state(1, 32)))
    assert not exported.graph_signature.buffers_to_mutate
    assert not exported.graph_signature.user_inputs_to_mutate
    with torch.no_grad():
        _, state = stream(frame, stream.initial_state(1, 32))
        expected, new = stream(other, state)
        logits, left = exported.module()(other, state)
    assert torch.allclose(logits, expected, atol=1e-6)
    assert list(left) == list(new)
    assert all(torch.allclose(left[key], new[key], atol=1e-5) for key in new)


def test_it_runs_in_bfloat16_autocast_close_to_single_precision() -> None:
    stream = StreamNet(trained("action_resnet18", num_segments=T, width=16, options=ONLINE))
    clip = random_clip(frames=T)
    expected = run(stream, clip)[-1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = run(stream, clip)[-1]
    assert (logits - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("name", ["tsm_resnet18", "tsn_resnet18", "tea_res2net50"])
def test_a_network_that_looks_ahead_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="sliding windows"):
        StreamNet(create_model(name, 5, width=8))


@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet18", "tea_res2net50"])
@pytest.mark.parametrize("count", [1, 2, T + 1])
def test_a_window_gives_the_clip_networks_answer_for_the_last_frames(name: str, count: int) -> None:
    """The first frame stands in for those before it; also where streams begin at different times."""
    net = trained(name, num_segments=T, width=8).double()
    window = streaming_form(net)
    assert isinstance(window, WindowNet)
    clip = random_clip(clips=2, frames=2 * count + T, size=32).double()
    filled = torch.cat([clip[:, :1]] * (T - 1) + [clip], dim=1)
    with torch.no_grad():
        expected = torch.stack([net(filled[:, t : t + T]) for t in range(clip.shape[1])])
    assert (expected.std(dim=0) > 1e-3).all()
    assert torch.allclose(torch.stack(run(window, clip)), expected, atol=1e-10)

    together, state = [], window.initial_state(2, 32)
    given = {key: tensor.clone() for key, tensor in state.items()}
    with torch.no_grad():
        for frames in clip.transpose(0, 1).split(count):
            logits, state = window(frames, state)
            together.append(logits)
        assert torch.allclose(torch.cat(together), expected, atol=1e-10)
        late = {key: torch.cat((tensor[:1], given[key][1:])) for key, tensor in state.items()}
        logits, _ = window(clip[:, 0], late)
        ended = torch.cat((filled[:1, -(T - 1) :], clip[:1, :1]), dim=1)
        assert torch.allclose(logits, torch.cat((net(ended), expected[0, 1:])), atol=1e-10)


@pytest.mark.parametrize(("inputs", "channels"), [("rgbd", 4), ("depth", 1)])
@pytest.mark.parametrize("online", [True, False])
def test_a_network_that_is_fed_depth_has_a_streaming_form(inputs: str, channels: int, online: bool) -> None:
    torch.manual_seed(0)
    net = create_model("tsm_resnet18", 5, T, width=8, options={"inputs": inputs, "online": online}).double().eval()
    clip = torch.randn(2, T, channels, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(run(streaming_form(net), clip)[-1], net(clip), atol=1e-10)


def test_a_windows_step_costs_a_stem_and_a_rest() -> None:
    net = trained("action_resnet18", num_segments=T, width=8)
    window, clip = WindowNet(net), random_clip(clips=1, frames=T, size=32)

    def cost(run: Callable[[], object]) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()

    state, stem = window.initial_state(1, 32), cost(lambda: net.stem(clip))
    assert cost(lambda: window(clip[:, 0], state)) == cost(lambda: net(clip)) - stem + stem // T


def test_only_2d_networks_have_a_streaming_form() -> None:
    with pytest.raises(ModelError, match="c3d: no 2D network"):
        streaming_form(create_model("c3d", 5, num_segments=16, size=32))
