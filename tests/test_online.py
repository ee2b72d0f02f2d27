import json
import shlex
from pathlib import Path

import pytest
import torch
from network_helpers import random_clip, trained
from torch import Tensor, nn

from dynagest.card import NetworkCard
from dynagest.errors import ModelError
from dynagest.networks.build import create_model
from dynagest.networks.count import count
from dynagest.networks.online import OnlineAction, OnlineConv, OnlineShift
from dynagest.networks.temporal import TemporalConv, shift_taps
from dynagest.networks.weights import load_network, load_weights, save_network
from dynagest.settings import parse_settings
from dynagest.task.decoder import MultiScaleDecoder
from dynagest.task.depth import DepthTask
from dynagest.training.assemble import build_task
from dynagest.training.recipe import Recipe

ONLINE = {"online": True}
T = 3


def frames(channels: int, *, clips: int = 2, size: int = 5) -> Tensor:
    return torch.randn(clips * T, channels, size, size, generator=torch.Generator().manual_seed(0))


def action(channels: int) -> OnlineAction:
    torch.manual_seed(0)
    module = OnlineAction(nn.Conv2d(channels, 4, 1, bias=False)).eval()
    nn.init.uniform_(module.action_p3_bn1.running_var, 0.5, 2.0)
    nn.init.normal_(module.action_p3_bn1.running_mean)
    return module


def by_clip(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.unflatten(0, (-1, T))


def test_the_second_eighth_comes_from_the_past_and_the_rest_stays() -> None:
    # One pixel, 8 channels, channel c of frame t of clip n holds 100 n + 10 t + c.
    clip, time, channel = torch.meshgrid(torch.arange(2), torch.arange(T), torch.arange(8), indexing="ij")
    x = (100 * clip + 10 * time + channel).float().reshape(2 * T, 8, 1, 1)
    module = OnlineShift(nn.Conv2d(8, 8, 1, bias=False))
    nn.init.dirac_(module.net.weight)
    shifted = module(x, T).reshape(2, T, 8)
    assert shifted[:, :, 1].tolist() == [[0, 1, 11], [0, 101, 111]]
    others = [0, *range(2, 8)]
    assert torch.equal(shifted[:, :, others], x.reshape(2, T, 8)[:, :, others])


def test_actions_shift_starts_as_that_of_tsm() -> None:
    x = frames(32)
    expected = OnlineShift(nn.Conv2d(32, 32, 1, bias=False))
    nn.init.dirac_(expected.net.weight)
    assert torch.allclose(OnlineConv(shift_taps(32, 4))(x, T), expected(x, T), atol=1e-7)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_frame_to_come_is_taken_for_this_one(memory_format: torch.memory_format) -> None:
    taps = torch.randn(6, 1, 3, generator=torch.Generator().manual_seed(0))
    x = frames(6)
    y = by_clip(OnlineConv(taps)(x.contiguous(memory_format=memory_format), T))
    before, now, after = (taps[:, 0, k].reshape(6, 1, 1) for k in range(3))
    x = by_clip(x)
    assert torch.allclose(y[:, 0], (now + after) * x[:, 0], atol=1e-6)
    for t in range(1, T):
        assert torch.allclose(y[:, t], before * x[:, t - 1] + (now + after) * x[:, t], atol=1e-6)


def test_ste_gate_by_loops() -> None:
    module = action(16)
    x = frames(16, clips=1)
    weight, mean = module.action_p1_conv1.weight[0], x.mean(1)
    expected = torch.zeros(T, 5, 5)
    for t in range(T):
        for i in range(5):
            for j in range(5):
                for tap, seen in ((0, t - 1), (1, t), (2, t)):
                    for di in (-1, 0, 1):
                        for dj in (-1, 0, 1):
                            if seen >= 0 and 0 <= i + di < 5 and 0 <= j + dj < 5:
                                expected[t, i, j] += weight[tap, di + 1, dj + 1].item() * mean[seen, i + di, j + dj]
    gate = module.spatio_temporal_excitation(x, T)
    assert gate.shape == (T, 1, 5, 5)
    assert torch.allclose(gate[:, 0], torch.sigmoid(expected), atol=1e-6)


def test_ce_gate_by_loops() -> None:
    module = action(32)
    x = frames(32, clips=1)
    squeeze, expand = module.action_p2_squeeze.weight[:, :, 0, 0], module.action_p2_expand.weight[:, :, 0, 0]
    temporal, pooled = module.action_p2_conv1.weight, x.mean((2, 3))
    for t in range(T):
        mixed = (temporal[:, :, 1] + temporal[:, :, 2]) @ (squeeze @ pooled[t])
        if t > 0:
            mixed += temporal[:, :, 0] @ (squeeze @ pooled[t - 1])
        expected = torch.sigmoid(expand @ mixed.clamp(min=0))
        assert torch.allclose(module.channel_excitation(module.means(x)[0], T)[t, :, 0, 0], expected, atol=1e-6)


def test_me_gate_by_loops_and_its_first_frame() -> None:
    module = action(32)
    x = frames(32)
    gate = by_clip(module.motion_excitation(*module.means(x)[1:], T))[..., 0, 0]
    squeezed = by_clip(module.action_p3_bn1(module.action_p3_squeeze(x)))
    for n in range(2):
        for t in range(1, T):
            difference = module.action_p3_conv1(squeezed[n, t][None])[0] - squeezed[n, t - 1]
            expected = torch.sigmoid(module.action_p3_expand.weight[:, :, 0, 0] @ difference.mean((1, 2)))
            assert torch.allclose(gate[n, t], expected, atol=1e-6)
    assert torch.equal(gate[:, 0], torch.full((2, 32), 0.5))


def test_online_action_multiplies_by_three_plus_its_gates() -> None:
    module = action(16)
    module.net = nn.Identity()  # type: ignore[assignment]
    x = frames(16)
    shifted = module.action_shift(x, T)
    gates = (
        module.spatio_temporal_excitation(shifted, T)
        + module.channel_excitation(module.means(shifted)[0], T)
        + module.motion_excitation(*module.means(shifted)[1:], T)
    )
    assert torch.allclose(module(x, T), shifted * (3 + gates), atol=1e-5)


@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet18", "tsm_resnet50", "action_resnet50"])
def test_logits_depend_on_the_past_and_not_on_the_future(name: str) -> None:
    net = trained(name, width=16, options=ONLINE)
    clip, other = random_clip(clips=1, size=32), random_clip(clips=1, size=32, seed=5)
    with torch.no_grad():
        logits = net.frame_logits(clip)
        for t in range(3):
            changed = net.frame_logits(torch.cat((clip[:, : t + 1], other[:, t + 1 :]), dim=1))
            assert torch.allclose(changed[:, : t + 1], logits[:, : t + 1], atol=1e-6)
        assert not torch.allclose(net.frame_logits(torch.cat((other[:, :1], clip[:, 1:]), dim=1))[:, 1:], logits[:, 1:])


@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet50"])
def test_weights_of_the_two_directional_network_are_those_of_the_online_one(name: str, tmp_path: Path) -> None:
    both_ways = trained(name, width=8)
    card = NetworkCard(model=name, classes=tuple("abcde"), num_segments=4, width=8)
    save_network(tmp_path, both_ways, card)
    net = create_model(name, 5, 4, width=8, options=ONLINE)
    report = load_weights(net, tmp_path)
    assert (report.skipped, report.missing, report.reinitialised) == ((), (), ())
    assert all(torch.equal(tensor, both_ways.state_dict()[key]) for key, tensor in net.state_dict().items())
    assert list(net.state_dict()) == list(both_ways.state_dict())


def test_where_nothing_comes_from_the_future_both_networks_agree() -> None:
    taps = torch.randn(16, 1, 3, generator=torch.Generator().manual_seed(0))
    taps[:, :, 2] = 0
    x = frames(16)
    assert torch.allclose(OnlineConv(taps)(x, T), TemporalConv(taps)(x, T), atol=1e-6)


def test_an_online_network_is_saved_and_read_as_one(tmp_path: Path) -> None:
    net = trained("action_resnet18", width=8, options=ONLINE)
    card = NetworkCard(model=net.name, classes=tuple("abcde"), num_segments=4, width=8, options=net.options, size=64)
    save_network(tmp_path, net, card)
    assert json.loads((tmp_path / "network.json").read_text())["options"] == {"online": True}
    loaded, _ = load_network(tmp_path)
    clip = random_clip(size=32)
    with torch.no_grad():
        assert torch.equal(loaded(clip), net(clip))


def test_parameters_are_as_many_and_cost_is_no_higher() -> None:
    online, both_ways = (create_model("action_resnet50", 83, options={"online": on}) for on in (True, False))
    theirs, ours = count(both_ways), count(online)
    assert ours.parameters == theirs.parameters == 27_895_919
    assert 0.999 * theirs.multiply_adds < ours.multiply_adds < theirs.multiply_adds


@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet50"])
def test_decoders_hang_on_it_and_everything_learns(name: str) -> None:
    torch.manual_seed(0)
    net = create_model(name, 3, 4, width=16, options=ONLINE)
    nn.init.normal_(net.classifier.weight)
    task = DepthTask(net, MultiScaleDecoder.for_model(net, image_size=64, seed=0))
    depth = torch.rand(2, 4, 1, 64, 64)
    output = task(random_clip(), torch.tensor([0, 2]), depth, torch.tensor([True, True]))
    output.loss.backward()
    assert output.masks is not None
    assert output.masks.local is not None
    assert output.masks.local.shape == (8, 1, 64, 64)
    assert all(parameter.grad is not None for parameter in task.parameters())
    shift = [p.grad for key, p in net.named_parameters() if "action_shift" in key]
    assert all(gradient[:, 0, 0].any() for gradient in shift if gradient is not None)


def test_a_recipe_trains_one_from_two_directional_weights(tmp_path: Path) -> None:
    both_ways = trained("tsm_resnet18", width=8)
    save_network(
        tmp_path, both_ways, NetworkCard(model="tsm_resnet18", classes=tuple("abcde"), num_segments=4, width=8)
    )
    recipe = Recipe(model="tsm_resnet18", width=8, num_segments=4, size=64, init=str(tmp_path)).with_overrides(
        {"options": {"online": True}}
    )
    task, start = build_task(recipe, 5, torch.device("cpu"))
    assert start is not None
    assert not start.network.missing
    assert any(isinstance(module, OnlineShift) for module in task.modules())
    assert torch.equal(task.network.classifier.weight, both_ways.classifier.weight)
    told = "size 64, not 224; options {'online': True}, not {}; to keep it: --set size=224 --set 'options={}'"
    assert f"turned into another network: {told}" in str(start)


def test_who_trains_on_from_an_online_network_by_another_recipe_is_told(tmp_path: Path) -> None:
    """Its weights fit the two-directional network as well, so that it came out as one without a word."""
    options = {"online": True}
    save_network(
        tmp_path,
        trained("tsm_resnet18", width=8, options=options),
        NetworkCard(
            model="tsm_resnet18", classes=tuple("abcde"), num_segments=4, size=64, width=8, stride=3, options=options
        ),
    )
    recipe = Recipe(model="tsm_resnet18", width=8, size=64, init=str(tmp_path))
    _, start = build_task(recipe, 5, torch.device("cpu"))
    said = str(start)
    assert "num_segments 8, not 4; options {}, not {'online': True}; to keep it: " in said
    way = said.partition("to keep it: ")[2].partition("\n")[0]
    settings = [each for each in shlex.split(way) if each != "--set"]
    kept = recipe.with_overrides(parse_settings(settings))
    assert (kept.num_segments, kept.options, kept.chained) == (4, options, True)
    assert "turned" not in str(build_task(kept, 5, torch.device("cpu"))[1])


@pytest.mark.parametrize(("name", "options"), [("tea_res2net50", ONLINE), ("tsm_resnet18", {"online": "yes"})])
def test_mistakes_are_named(name: str, options: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="online"):
        create_model(name, 5, options=options)
