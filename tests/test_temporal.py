import pytest
import torch
import torch.nn.functional as F
from network_helpers import random_clip, trained
from torch import Tensor, nn

from dynagest.networks.action import Action
from dynagest.networks.online import OnlineAction
from dynagest.networks.tea import MotionExcitation, TemporalAggregation
from dynagest.networks.temporal import (
    TemporalConv,
    edge_means,
    global_average,
    mean_taps,
    shift_taps,
)
from dynagest.networks.tsm import TemporalShift, shift

T = 3


def frames(channels: int, *, clips: int = 2, size: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(clips * T, channels, size, size, generator=torch.Generator().manual_seed(seed))


def action(channels: int, kind: type[Action] = Action) -> Action:
    torch.manual_seed(0)
    module = kind(nn.Conv2d(channels, 4, 1, bias=False)).eval()
    nn.init.uniform_(module.action_p3_bn1.running_var, 0.5, 2.0)
    nn.init.normal_(module.action_p3_bn1.running_mean)
    return module


def test_tsm_shifts_an_eighth_each_way_within_each_clip() -> None:
    # One pixel, 8 channels, channel c of frame t of clip n holds 100 n + 10 t + c.
    clip, time, channel = torch.meshgrid(torch.arange(2), torch.arange(T), torch.arange(8), indexing="ij")
    x = (100 * clip + 10 * time + channel).float().reshape(2 * T, 8, 1, 1)
    shifted = shift(x, T, fold=1).reshape(2, T, 8)
    assert shifted[:, :, 0].tolist() == [[10, 20, 0], [110, 120, 0]]  # frame t+1, zero at the end
    assert shifted[:, :, 1].tolist() == [[0, 1, 11], [0, 101, 111]]  # frame t-1, zero at the start
    assert torch.equal(shifted[:, :, 2:], x.reshape(2, T, 8)[:, :, 2:])


def test_tsm_applies_its_convolution_to_the_shifted_frames() -> None:
    conv = nn.Conv2d(16, 4, 1)
    x = frames(16)
    assert torch.allclose(TemporalShift(conv)(x, T), conv(shift(x, T, fold=2)), atol=1e-6)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_temporal_convolution_is_a_weighted_sum_of_three_frames(memory_format: torch.memory_format) -> None:
    taps = torch.randn(6, 1, 3, generator=torch.Generator().manual_seed(0))
    x = frames(6)
    y = TemporalConv(taps)(x.contiguous(memory_format=memory_format), T).reshape(2, T, 6, 5, 5)
    before, now, after = (taps[:, 0, k].reshape(6, 1, 1) for k in range(3))
    x = x.reshape(2, T, 6, 5, 5)
    assert torch.allclose(y[:, 0], now * x[:, 0] + after * x[:, 1], atol=1e-6)
    assert torch.allclose(y[:, 1], before * x[:, 0] + now * x[:, 1] + after * x[:, 2], atol=1e-6)
    assert torch.allclose(y[:, 2], before * x[:, 1] + now * x[:, 2], atol=1e-6)


def test_action_shift_starts_as_the_tsm_shift() -> None:
    x = frames(32)
    assert torch.allclose(action(32).action_shift(x, T), shift(x, T, fold=4), atol=1e-7)


def test_ste_gate_by_loops() -> None:
    module = action(16)
    x = frames(16, clips=1)
    weight = module.action_p1_conv1.weight[0]
    mean = x.mean(1)
    expected = torch.zeros(T, 5, 5)
    for t in range(T):
        for i in range(5):
            for j in range(5):
                for dt in (-1, 0, 1):
                    for di in (-1, 0, 1):
                        for dj in (-1, 0, 1):
                            if 0 <= t + dt < T and 0 <= i + di < 5 and 0 <= j + dj < 5:
                                value = mean[t + dt, i + di, j + dj]
                                expected[t, i, j] += weight[dt + 1, di + 1, dj + 1].item() * value
    gate = module.spatio_temporal_excitation(x, T)
    assert gate.shape == (T, 1, 5, 5)
    assert torch.allclose(gate[:, 0], torch.sigmoid(expected), atol=1e-6)


def test_ce_gate_by_loops() -> None:
    module = action(32)
    x = frames(32, clips=1)
    squeeze = module.action_p2_squeeze.weight[:, :, 0, 0]
    expand = module.action_p2_expand.weight[:, :, 0, 0]
    temporal = module.action_p2_conv1.weight
    pooled = x.mean((2, 3))
    for t in range(T):
        mixed = torch.zeros(2)
        for dt in (-1, 0, 1):
            if 0 <= t + dt < T:
                mixed += temporal[:, :, dt + 1] @ (squeeze @ pooled[t + dt])
        expected = torch.sigmoid(expand @ mixed.clamp(min=0))
        assert torch.allclose(module.channel_excitation(module.means(x)[0], T)[t, :, 0, 0], expected, atol=1e-6)


def test_me_gate_by_loops_and_its_last_frame() -> None:
    module = action(32)
    x = frames(32)
    gate = module.motion_excitation(*module.means(x)[1:], T).reshape(2, T, 32)
    squeezed = module.action_p3_bn1(module.action_p3_squeeze(x)).reshape(2, T, 2, 5, 5)
    for n in range(2):
        for t in range(T - 1):
            difference = module.action_p3_conv1(squeezed[n, t + 1][None])[0] - squeezed[n, t]
            expected = torch.sigmoid(module.action_p3_expand.weight[:, :, 0, 0] @ difference.mean((1, 2)))
            assert torch.allclose(gate[n, t], expected, atol=1e-6)
    assert torch.equal(gate[:, -1], torch.full((2, 32), 0.5))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (2, 2), (3, 1), (5, 7)])
def test_the_mean_of_a_convolution_follows_from_the_means_over_edges(height: int, width: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False).double()
    x = torch.randn(3, 4, height, width, dtype=torch.double)
    means = edge_means(x)
    assert means.shape == (3, 4, 3, 3)
    assert torch.allclose(means[..., 1, 1], x.mean((2, 3)))
    assert torch.allclose(means[..., 1, 2], x[..., -1].mean(2))
    assert torch.equal(means[..., 2, 0], x[..., -1, 0])
    convolved = (means * mean_taps(conv.weight[:, 0], height, width)).sum((2, 3))
    assert torch.allclose(convolved, conv(x).mean((2, 3)))


@pytest.mark.parametrize("kind", [Action, OnlineAction])
def test_me_gives_the_same_whether_its_means_come_first_or_last(kind: type[Action]) -> None:
    module, x = action(32, kind), frames(32)
    first = module.motion_excitation(*module.means(x)[1:], T)
    module.means_first = False
    assert torch.allclose(first, module.motion_excitation(*module.means(x)[1:], T), atol=1e-6)
    assert first.std() > 0.01, "so that equal gates mean something"


def test_me_looks_at_every_pixel_where_batchnorm_learns_its_statistics() -> None:
    module = action(32)
    x = 3 + frames(32)
    norm = module.action_p3_bn1.train()
    assert norm.running_var is not None
    before, squeezed = norm.running_var.clone(), module.action_p3_squeeze(x)
    module.motion_excitation(*module.means(x)[1:], T)
    assert torch.allclose(norm.running_var, 0.9 * before + 0.1 * squeezed.var((0, 2, 3)), atol=1e-5)


def test_action_multiplies_by_three_plus_its_gates() -> None:
    module = action(16)
    module.net = nn.Identity()  # type: ignore[assignment]
    x = frames(16)
    shifted = module.action_shift(x, T)
    ste = module.spatio_temporal_excitation(shifted, T)
    ce = module.channel_excitation(module.means(shifted)[0], T)
    me = module.motion_excitation(*module.means(shifted)[1:], T)
    branches = (shifted + shifted * ste) + (shifted + shifted * ce) + (shifted + shifted * me)
    assert torch.allclose(module(x, T), branches, atol=1e-5)


def test_tea_motion_excitation_gate_is_sigmoid_minus_a_half() -> None:
    torch.manual_seed(0)
    module = MotionExcitation(32).eval()
    nn.init.normal_(module.bn3.bias)
    x = frames(32)
    squeezed = module.bn1(module.conv1(x))
    following, current = module.conv2(squeezed).unflatten(0, (-1, T)), squeezed.unflatten(0, (-1, T))
    difference = F.pad(following[:, 1:] - current[:, :-1], (0, 0, 0, 0, 0, 0, 0, 1)).flatten(0, 1)
    motion = global_average(difference)
    gate = torch.sigmoid(module.bn3(module.conv3(motion))) - 0.5
    assert torch.allclose(module(x, T), x + x * gate, atol=1e-6)
    # Nothing moves behind the last frame, so that only the bias of the last BatchNorm is left there.
    last = torch.sigmoid(module.bn3.bias.reshape(32, 1, 1)) + 0.5
    assert torch.allclose(module(x, T)[T - 1], x[T - 1] * last, atol=1e-5)


def test_tea_splits_start_as_identity_and_as_half_shift() -> None:
    x = frames(26)
    assert torch.equal(TemporalAggregation(26, starts_as_shift=False)(x, T), x)
    assert torch.equal(TemporalAggregation(26, starts_as_shift=True)(x, T), shift(x, T, fold=13))


def test_odd_channels_keep_the_rest_in_place() -> None:
    assert shift_taps(5, 2)[:, 0].argmax(1).tolist() == [2, 2, 0, 0, 1]


@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet18", "tea_res2net50"])
def test_clips_of_a_batch_do_not_see_each_other(name: str) -> None:
    net = trained(name, width=16).eval()
    clips = random_clip(clips=2, size=32)
    with torch.no_grad():
        assert torch.allclose(net(clips), torch.cat([net(clips[:1]), net(clips[1:])]), atol=1e-6)


@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet18", "tea_res2net50"])
def test_the_order_of_frames_matters_and_not_without_temporal_modules(name: str) -> None:
    clip = random_clip(clips=1, frames=8, size=32)
    for temporal, matters in ((name, True), ("tsn_resnet18", False)):
        net = trained(temporal, width=16).eval()
        with torch.no_grad():
            difference = (net(clip) - net(clip.flip(1))).abs().max() / net(clip).abs().max()
        assert (difference > 1e-3) == matters
