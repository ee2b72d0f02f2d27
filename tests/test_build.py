import subprocess
import sys

import pytest
import torch
from literal import literal_model
from network_helpers import random_clip, trained, trained_literal
from torch import nn

from dynagest.errors import ModelError
from dynagest.networks.action import Action
from dynagest.networks.build import create_model, list_models
from dynagest.networks.rivals.build import RIVALS
from dynagest.networks.tsm import TemporalShift
from dynagest.networks.video import VideoNet
from dynagest.networks.weights import load_weights

OURS = [name for name in list_models() if name not in RIVALS]


def on_meta(name: str, num_classes: int) -> VideoNet:
    with torch.device("meta"):
        return create_model(name, num_classes)


def test_list_models() -> None:
    resnets = ("resnet18", "resnet34", "resnet50", "resnet101")
    assert list_models() == [f"{kind}_{net}" for kind in ("tsn", "tsm", "action") for net in resnets] + [
        "tea_res2net50",
        *RIVALS,
    ]


@pytest.mark.parametrize(
    ("name", "by_classes"),
    [
        ("tsm_resnet50", {83: 23_678_099, 25: 23_559_257, 249: 24_018_233, 174: 23_864_558}),
        ("action_resnet50", {83: 27_895_919, 25: 27_777_077, 249: 28_236_053, 174: 28_082_378}),
        ("tea_res2net50", {83: 24_269_821, 25: 24_150_979, 249: 24_609_955, 174: 24_456_280}),
    ],
)
def test_published_parameter_counts(name: str, by_classes: dict[int, int]) -> None:
    counts = {k: sum(parameter.numel() for parameter in on_meta(name, k).parameters()) for k in by_classes}
    assert counts == by_classes


def test_parameters_that_action_adds() -> None:
    parts = {"action_shift": 39_360, "action_p1": 432, "action_p2": 2_177_840, "action_p3": 2_000_188}
    net = on_meta("action_resnet50", 83)
    assert {part: sum(p.numel() for name, p in net.named_parameters() if part in name) for part in parts} == parts


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("tsn_resnet18", 11_689_512),
        ("tsn_resnet34", 21_797_672),
        ("tsn_resnet50", 25_557_032),
        ("tsn_resnet101", 44_549_160),
    ],
)
def test_imagenet_parameter_counts(name: str, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in on_meta(name, 1000).parameters()) == parameters


@pytest.mark.parametrize("name", OURS)
def test_state_dict_has_the_published_names(name: str) -> None:
    with torch.device("meta"):
        published = set(literal_model(name, 5).state_dict())
    ours = {key.replace("classifier.", "base_model.fc.") for key in on_meta(name, 5).state_dict()}
    assert ours == published


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_classifier_has_one_name(dropout: float) -> None:
    net = create_model("tsm_resnet18", 5, width=8, dropout=dropout)
    assert [key for key in net.state_dict() if not key.startswith("base_model.")] == [
        "classifier.weight",
        "classifier.bias",
    ]


@pytest.mark.parametrize(
    ("name", "module", "sites"),
    [
        ("tsm_resnet50", TemporalShift, 16),
        ("tsm_resnet18", TemporalShift, 8),
        ("action_resnet50", Action, 16),
        ("action_resnet101", Action, 33),
        ("tsn_resnet50", (TemporalShift, Action), 0),
    ],
)
def test_temporal_modules_sit_at_conv1_of_every_block(name: str, module: type, sites: int) -> None:
    found = [key for key, m in on_meta(name, 5).named_modules() if isinstance(m, module)]
    assert len(found) == sites
    assert all(key.endswith(".conv1") for key in found)


def test_tsm_shifts_every_second_block_of_a_resnet101() -> None:
    net = on_meta("tsm_resnet101", 5)
    found = [key for key, m in net.named_modules() if isinstance(m, TemporalShift)]
    assert len(found) == 2 + 2 + 12 + 2
    assert [key for key in found if "layer2" in key] == ["base_model.layer2.0.conv1", "base_model.layer2.2.conv1"]


@pytest.mark.parametrize("name", ["tsn_resnet50", "action_resnet50", "tea_res2net50"])
def test_taps_have_the_published_shapes(name: str) -> None:
    net = on_meta(name, 5)
    shapes = {}
    modules = dict(net.named_modules())
    for tap in net.taps:
        modules[tap].register_forward_hook(lambda m, i, output, tap=tap: shapes.update({tap: tuple(output.shape)}))
    net.eval()(torch.empty(1, 8, 3, 224, 224, device="meta"))
    assert [shapes[tap] for tap in net.taps] == [(8, 64, 56, 56), (8, 2048, 7, 7)]


@pytest.mark.parametrize("name", OURS)
def test_logits_equal_the_literal_network(name: str, tmp_path) -> None:
    literal = trained_literal(name, width=16)
    torch.save(literal.state_dict(), tmp_path / "published.pth")
    net = create_model(name, 5, num_segments=4, width=16).eval()
    load_weights(net, tmp_path / "published.pth")
    clip = random_clip()
    with torch.no_grad():
        expected = literal(clip)
        assert expected.abs().max() > 0.1
        assert torch.allclose(net(clip), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["tsm_resnet50", "action_resnet50", "tea_res2net50"])
def test_logits_and_gradients_equal_the_literal_network_in_training_mode(name: str, tmp_path) -> None:
    literal = trained_literal(name, width=8).train()
    torch.save(literal.state_dict(), tmp_path / "published.pth")
    net = create_model(name, 5, num_segments=4, width=8).train()
    load_weights(net, tmp_path / "published.pth")
    # In double precision: rounding must not decide on which side of a ReLU a value falls.
    clip = random_clip().double()
    expected, logits = literal.double()(clip), net.double()(clip)
    assert torch.allclose(logits, expected, atol=1e-9)
    expected.square().sum().backward()
    logits.square().sum().backward()
    theirs = {key.replace("base_model.fc.", "classifier."): p.grad for key, p in literal.named_parameters()}
    without_gradient = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # So narrow, a channel excitation may have all its few ReLUs shut.
    assert all("action_p2" in key for key in without_gradient)
    assert len(without_gradient) < 16
    for key, parameter in net.named_parameters():
        reference = theirs[key].reshape(parameter.shape)
        assert torch.allclose(parameter.grad, reference, rtol=1e-5, atol=1e-7 * float(reference.abs().max())), key


def test_logits_are_the_mean_over_frames() -> None:
    net = create_model("action_resnet18", 5, width=8).eval()
    clip = random_clip(size=32)
    with torch.no_grad():
        assert net.frame_logits(clip).shape == (2, 4, 5)
        assert torch.allclose(net(clip), net.frame_logits(clip).mean(1))


@pytest.mark.parametrize("frames", [1, 2, 5, 16])
def test_any_number_of_frames_and_a_size_that_is_no_multiple_of_32(frames: int) -> None:
    net = create_model("action_resnet18", 5, num_segments=8, width=8).eval()
    with torch.no_grad():
        assert net(random_clip(clips=1, frames=frames, size=50)).shape == (1, 5)


def test_dropout_is_before_the_classifier_and_in_training_only() -> None:
    net = trained("tsn_resnet18", width=8, dropout=0.5)
    clip = random_clip(size=32)
    with torch.no_grad():
        assert torch.equal(net(clip), net(clip))
        net.dropout.train()
        assert not torch.equal(net(clip), net(clip))
        nn.init.zeros_(net.classifier.weight)
        assert torch.allclose(net(clip), net.classifier.bias.expand(2, 5))


def test_classifier_initialisation() -> None:
    torch.manual_seed(0)
    net = create_model("tsn_resnet50", 100)
    assert abs(net.classifier.weight.std().item() - 0.001) < 1e-5
    assert net.classifier.bias.abs().max() == 0


def test_convolutions_start_kaiming_normal_by_fan_out() -> None:
    torch.manual_seed(0)
    block = create_model("tsn_resnet18", 5).base_model.layer3[1]
    assert abs(block.conv2.weight.std().item() - (2 / (256 * 9)) ** 0.5) < 1e-4


def test_a_res2net_starts_as_its_shortcuts() -> None:
    net = create_model("tea_res2net50", 5, width=8)
    block = net.base_model.layer2[1]
    features = torch.rand(4, 64, 6, 6)
    assert torch.equal(block(features, 4), features)
    assert all(parameter.any() for name, parameter in block.named_parameters() if name.endswith("conv3.weight"))


@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet18", "action_resnet50", "tea_res2net50"])
@pytest.mark.parametrize("width", [8, 12, 16, 24])
def test_small_widths_train(name: str, width: int) -> None:
    net = create_model(name, 3, width=width)
    net(random_clip(frames=3, size=32)).sum().backward()
    assert net.base_model.conv1.weight.shape[0] == width
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_the_smallest_width_trains_at_full_size() -> None:
    """In another process, because torch's kernel for 8 channels in channels_last may crash; see ``resnet.py``."""
    net = 'create_model("action_resnet18", 3, width=8)(torch.ones(2, 4, 3, 192, 192))'
    code = f"import torch; from dynagest.networks.build import create_model; {net}.sum().backward()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bfloat16_autocast_and_channels_last_weights_stay_close() -> None:
    torch.manual_seed(0)
    net = create_model("action_resnet18", 5, width=16).eval()
    nn.init.normal_(net.classifier.weight)
    clip = random_clip(size=64)
    with torch.no_grad():
        expected = net(clip)
        net.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(clip)
    assert logits.dtype == torch.bfloat16
    assert (logits - expected).abs().max() < 0.03 * expected.abs().max()


@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet18", "tea_res2net50"])
def test_export_keeps_the_logits_for_any_batch(name: str) -> None:
    net = trained(name, width=8).eval()
    batch = torch.export.Dim("batch", min=1, max=16)
    exported = torch.export.export(net, (random_clip(size=32),), dynamic_shapes=({0: batch},)).module()
    clip = random_clip(clips=3, size=32, seed=2)
    with torch.no_grad():
        assert torch.allclose(exported(clip), net(clip), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("action_resnet5", 5), "action_resnet50"),
        (("vit", 5), "tsn_resnet18"),
    ],
)
def test_mistakes_are_named(arguments: tuple[str, int], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        create_model(*arguments)


@pytest.mark.parametrize("number", [{"num_classes": 0}, {"num_segments": 0}, {"width": 7}, {"dropout": 1.0}])
def test_numbers_that_no_network_can_have_are_named(number: dict[str, float]) -> None:
    (name, value), *_ = number.items()
    with pytest.raises(ModelError, match=f"{name}={value}.*at least 1 class, 1 segment, width 8"):
        create_model("tsm_resnet18", **({"num_classes": 5} | number))


@pytest.mark.parametrize("shape", [(8, 3, 32, 32), (1, 8, 1, 32, 32), (1, 3, 8, 32, 32)])
def test_a_clip_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"\(N, T, 3, H, W\)"):
        on_meta("tsn_resnet18", 5)(torch.empty(shape, device="meta"))
