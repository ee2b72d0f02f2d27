"""The rivals as networks: published costs, shapes, options, mistakes, weights, and that they learn."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typer.testing import CliRunner

from dynagest.card import NetworkCard
from dynagest.cli import app
from dynagest.errors import ModelError
from dynagest.networks.build import create_model, list_models, natural_input
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.count import Count, count
from dynagest.networks.rivals.attention_lstm import AttentionLSTM
from dynagest.networks.rivals.build import RIVALS
from dynagest.networks.rivals.i3d import I3D, MaxPool
from dynagest.networks.rivals.nas1 import NAS1
from dynagest.networks.rivals.resnext101_3d import ResNeXt3D
from dynagest.networks.rivals.segmentation_lstm import SegmentationLSTM
from dynagest.networks.spec import NetworkSpec
from dynagest.networks.weights import load_network, load_weights, save_network
from dynagest.task.depth import DepthTask
from dynagest.training.optimiser import parameter_groups
from dynagest.training.recipe import Recipe
from dynagest.training.recipes_systems import SYSTEMS

VARIANTS = [(name, {}) for name in RIVALS] + [("attention_lstm", {"gated": True}), ("i3d", {"inputs": "depth"})]
IDS = [f"{name} {'-'.join(map(str, options.values()))}".strip() for name, options in VARIANTS]


def on_meta(name: str, num_classes: int, options: dict[str, object] | None = None) -> ClipNet:
    frames, size = natural_input(name)
    with torch.device("meta"):
        return create_model(name, num_classes, frames, size=size, options=options)


def cost(name: str, num_classes: int, options: dict[str, object] | None = None) -> Count:
    frames, size = natural_input(name)
    net = on_meta(name, num_classes, options)
    return count(net, (1, frames, net.channels, size, size))


def small(name: str, options: dict[str, object] | None = None, num_classes: int = 2) -> ClipNet:
    torch.manual_seed(0)
    return create_model(name, num_classes, 12, width=8, size=32, options=options)


def moving_squares(channels: int = 3) -> tuple[Tensor, Tensor]:
    """Four clips (4, 12, channels, 32, 32) of a square that goes right or left, and which of the two."""
    clips = torch.randn(4, 12, channels, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.3
    for index, clip in enumerate(clips):
        for t, frame in enumerate(clip):
            left = 2 * t if index % 2 else 22 - 2 * t
            top = 8 + 4 * (index // 2)
            frame[:, top : top + 8, left : left + 8] += 3
    return clips, torch.tensor([0, 1, 0, 1])


def output_shapes(net: ClipNet, modules: list[str]) -> dict[str, tuple[int, ...]]:
    frames, size = natural_input(net.name)
    shapes = {}
    for name in modules:
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: shapes.update({name: tuple(output.shape)})
        )
    net.eval()(torch.empty(1, frames, net.channels, size, size, device="meta"))
    return shapes


@pytest.mark.parametrize(
    ("name", "options", "classes", "parameters", "multiply_adds", "legacy"),
    [
        ("c3d", {}, 83, 65_584_339, 71_482_120_192, 71_702_880_173),
        ("resnext101_3d", {}, 83, 47_691_283, 19_133_962_240, 13_850_478_509),
        ("i3d", {}, 83, 12_372_339, 111_150_956_544, 88_198_334_872),
        ("i3d", {}, 400, 12_697_264, 111_153_553_408, 88_200_934_272),
        ("resc3d", {}, 249, 33_303_097, 81_803_866_624, 75_429_280_519),
        ("attention_lstm", {}, 83, 20_723_667, 268_740_979_712, 264_351_410_093),
        ("attention_lstm", {"gated": True}, 249, 12_654_713, 155_537_409_024, 151_148_009_223),
        ("nas1", {}, 83, 124_225_075, 88_048_296_960, 21_991_596_973),
        ("prernn_c3d", {}, 25, 57_076_889, 98_922_551_296, 99_270_328_245),
    ],
)
def test_cost_to_the_unit(
    name: str, options: dict[str, object], classes: int, parameters: int, multiply_adds: int, legacy: int
) -> None:
    assert cost(name, classes, options) == Count(parameters, multiply_adds, legacy)


@pytest.mark.parametrize(
    ("name", "options", "classes", "published"),
    [
        ("c3d", {}, 83, ("65.584", "71.482", "71.703")),
        ("resnext101_3d", {}, 83, ("47.691", "19.134", "13.850")),
        ("i3d", {}, 83, ("12.372", "111.151", "88.198")),
        ("i3d", {}, 400, ("12.697", "", "")),
        ("resc3d", {}, 249, ("33.3", "81.8", "75.4")),
        ("attention_lstm", {}, 83, ("20.724", "269", "")),
        ("attention_lstm", {"gated": True}, 249, ("12.65", "156", "")),
    ],
)
def test_cost_to_the_published_digits(
    name: str, options: dict[str, object], classes: int, published: tuple[str, str, str]
) -> None:
    found = cost(name, classes, options)
    units = (found.parameters / 1e6, found.multiply_adds / 1e9, found.legacy_flops / 1e9)
    for figure, value in zip(published, units, strict=True):
        digits = len(figure.partition(".")[2])
        assert not figure or f"{value:.{digits}f}" == figure


def test_i3d_with_a_depth_stem_lacks_two_channels_of_seven_cubed() -> None:
    assert cost("i3d", 83).parameters - cost("i3d", 83, {"inputs": "depth"}).parameters == 2 * 64 * 7**3


def test_cost_of_segmentation_lstm_at_its_published_size() -> None:
    with torch.device("meta"):
        net = SegmentationLSTM(NetworkSpec("segmentation_lstm", 83, 1), (126, 224))
    frame, clip = count(net, (1, 1, 3, 126, 224)), count(net, (1, 8, 3, 126, 224))
    assert frame == Count(16_212_559, 605_355_017, 527_139_628)
    # Nothing is shared between frames, so a clip costs its frames; LSTMs are counted gate by gate.
    assert clip.multiply_adds == 8 * frame.multiply_adds
    without = count(nn.Sequential(net.encoder, nn.Flatten(), net.embedding, net.frame_classifier), (1, 3, 126, 224))
    assert frame.multiply_adds - without.multiply_adds == 4 * 2 * 4 * 83 * 83 + 83 * 83


def test_prernn_costs_two_matrices_more_than_c3d_on_its_short_clips() -> None:
    with torch.device("meta"):
        c3d = create_model("c3d", 25, 16, size=112)
    plain, recurrent = count(c3d, (1, 16, 3, 112, 112)), cost("prernn_c3d", 25)
    assert recurrent.parameters - plain.parameters == 2 * 2048**2
    # Three short clips of 32 frames, two steps between them.
    assert recurrent.multiply_adds == 3 * plain.multiply_adds + 2 * 2 * 2048**2


def test_count_lists_each_with_its_published_input_and_no_decoders() -> None:
    output = CliRunner().invoke(app, ["count", "c3d", "resnext101_3d", "i3d"], env={"COLUMNS": "200"}).output
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.split()}
    assert rows["c3d"] == ["32", "x", "112", "65,584,339", "71.482", "71.703", "-", "-"]
    assert rows["resnext101_3d"] == ["32", "x", "112", "47,691,283", "19.134", "13.850", "-", "-"]
    assert rows["i3d"] == ["64", "x", "224", "12,372,339", "111.151", "88.198", "-", "-"]


def test_systems_are_counted_by_their_names_in_the_tables() -> None:
    names = ["mtut", "prernn", "redundancy", "tea-msd", "action-depth"]
    output = CliRunner().invoke(app, ["count", *names], env={"COLUMNS": "200"}).output
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.split()}
    assert rows["mtut"] == ["64", "x", "224", "12,372,339", "111.151", "88.198", "-", "-"]
    assert rows["prernn"][:3] == ["32", "x", "112"]
    assert rows["redundancy"] == ["32", "x", "112", "12,484,563", "155.537", "151.148", "-", "-"]
    assert rows["tea-msd"][-2:] == ["8,553,472", "4.371"]
    assert rows["action-depth"] == ["8", "x", "224", "27,889,647", "33.806", "29.645", "-", "-"]
    listed = CliRunner().invoke(app, ["count", "--list"]).output.split()
    assert len(listed) == len(set(listed))
    assert {*list_models(), *SYSTEMS} == set(listed)


def test_i3d_shapes_and_its_feature_for_alignment() -> None:
    shapes = output_shapes(on_meta("i3d", 83), ["features.conv1", "features.mixed_3c", "features.mixed_5c"])
    assert list(shapes.values()) == [(1, 64, 32, 112, 112), (1, 480, 32, 28, 28), (1, 1024, 8, 7, 7)]


def test_resnext_shapes_and_cardinality() -> None:
    net = on_meta("resnext101_3d", 83)
    assert isinstance(net, ResNeXt3D)
    shapes = output_shapes(net, ["stem", "stages.0", "stages.1", "stages.2", "stages.3"])
    assert list(shapes.values()) == [
        (1, 64, 32, 56, 56),
        (1, 256, 16, 28, 28),
        (1, 512, 8, 14, 14),
        (1, 1024, 4, 7, 7),
        (1, 2048, 2, 4, 4),
    ]
    assert [len(stage) for stage in net.stages] == [3, 4, 23, 3]
    grouped = [block.conv2 for stage in net.stages for block in stage]
    assert {conv.groups for conv in grouped} == {32}
    assert sorted({conv.weight.shape[1] for conv in grouped}) == [4, 8, 16, 32]


def test_attention_lstm_shapes() -> None:
    net = on_meta("attention_lstm", 83, {"gated": True})
    assert isinstance(net, AttentionLSTM)
    shapes = output_shapes(net, ["features", "lstm.0", "lstm.1", "tail"])
    assert list(shapes.values()) == [(1, 256, 16, 28, 28), *[(1, 16, 256, 28, 28)] * 2, (16, 1024, 4, 4)]
    separable = [(unit[3].out_channels, unit[0].stride[0]) for unit in net.tail]
    assert separable == [(256, 1), (256, 2), *[(512, 1)] * 5, (1024, 2), (1024, 2)]
    assert [type(layer) for layer in net.tail[0]] == 2 * [nn.Conv2d, nn.BatchNorm2d, nn.ReLU6]


def test_c3d_shapes() -> None:
    shapes = output_shapes(on_meta("c3d", 83), ["features.pool1", "features.pool5", "fc6"])
    assert list(shapes.values()) == [(1, 64, 31, 56, 56), (1, 512, 2, 4, 4), (1, 2048)]


@pytest.mark.parametrize("name", ["c3d", "prernn_c3d"])
def test_dropout_follows_both_fully_connected_layers(name: str) -> None:
    net, dropped = small(name), []
    net.dropout.register_forward_hook(lambda module, inputs, output: dropped.append(output.shape[-1]))
    net(moving_squares()[0])
    assert dropped == [256, 256]


def pools(net: nn.Module, kind: type[nn.Module] = nn.MaxPool3d) -> list[tuple[object, object, object]]:
    return [(pool.kernel_size, pool.stride, pool.padding) for pool in net.modules() if isinstance(pool, kind)]


def test_poolings_as_published() -> None:
    """Their kernels are in no parameter and in no multiply-add."""
    flat, halved = (1, 3, 3), (1, 2, 2)
    assert pools(on_meta("c3d", 83)) == [(2, (1, 2, 2), 0), *[(2, 2, 0)] * 3, ((1, 2, 2), 2, (0, 1, 1))]
    assert pools(on_meta("resnext101_3d", 83)) == [(3, 2, 1)]
    branch = [(flat, halved, (0, 1, 1)), (3, 2, 1), (flat, halved, (0, 1, 1))]  # two of the stem, one between groups
    assert pools(on_meta("nas1", 83)) == 3 * branch
    assert pools(on_meta("segmentation_lstm", 83), nn.MaxPool2d) == [(3, 2, 1)]
    i3d = on_meta("i3d", 83)
    found = {name: (pool.kernel, pool.stride) for name, pool in i3d.named_modules() if isinstance(pool, MaxPool)}
    own = {name.removeprefix("features."): sizes for name, sizes in found.items() if "mixed" not in name}
    assert own == {
        **dict.fromkeys(("pool1", "pool2"), (flat, halved)),
        "pool3": ((3, 3, 3), (2, 2, 2)),
        "pool4": ((2, 2, 2), (2, 2, 2)),
    }
    assert {sizes for name, sizes in found.items() if "mixed" in name} == {((3, 3, 3), (1, 1, 1))}


def test_nas1_structure() -> None:
    net = on_meta("nas1", 83)
    assert isinstance(net, NAS1)
    assert net.classifier.in_features == 512 + 1024 + 1536
    laterals = [unit[0] for rate in net.laterals.values() for unit in rate]
    assert {(conv.kernel_size, conv.stride) for conv in laterals} == {((5, 1, 1), (2, 1, 1))}
    assert len(laterals) == 2 * 3  # into two lower rates, after the stem and after both poolings
    for name, frames, stem in (("high", 16, 32), ("mid", 8, 64), ("low", 4, 96)):
        branch = net.branches[name]
        assert [len(group) for group in branch.groups] == [3, 5, 4]
        assert branch.outputs == [stem, 4 * stem, 8 * stem, 16 * stem]
        shapes = output_shapes(net, [f"branches.{name}.stem", *(f"branches.{name}.groups.{i}.0" for i in range(3))])
        assert list(shapes.values()) == [
            (1, stem, frames, 28, 28),
            (1, 4 * stem, frames, 28, 28),
            (1, 8 * stem, frames, 14, 14),
            (1, 16 * stem, frames, 7, 7),
        ]


def test_nas1_cells_follow_the_genotype() -> None:
    skips = [[["skip", 1], ["skip", 1]]] * 4
    spatial = [[["conv_1x3x3", 1], ["skip", 0]], *[[["skip", 1], ["skip", 1]]] * 3]
    cells = {"high": skips, "mid": skips, "low": skips}
    few = cost("nas1", 83, {"genotype": cells}).parameters
    more = cost("nas1", 83, {"genotype": {**cells, "low": spatial}})
    # One 1x3x3 convolution with BatchNorm in each of the low branch's 12 cells, and the 1x1x1 for state 0.
    convs = sum(cells * (9 * c * c + 2 * c) for cells, c in ((3, 96), (5, 192), (4, 384)))
    inputs = [96, 96, 384, 384, 384, 768, 768, 768, 768, 768, 1536, 1536]
    outputs = [96] * 3 + [192] * 5 + [384] * 4
    state_0 = sum(i * o + 2 * o for i, o in zip(inputs, outputs, strict=True))
    assert more.parameters - few == convs + state_0


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_overfits_four_clips(name: str, options: dict[str, object]) -> None:
    net = small(name, options)
    clips, labels = moving_squares(net.channels)
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3)
    first = F.cross_entropy(net(clips), labels)
    first.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    for _ in range({"nas1": 5, "segmentation_lstm": 40, "attention_lstm": 20}.get(name, 12)):
        loss = F.cross_entropy(net(clips), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.6 * first


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_bfloat16_stays_close_and_has_gradients(name: str, options: dict[str, object]) -> None:
    net = small(name, options)
    clips, labels = moving_squares(net.channels)
    for _ in range(3):
        net(clips)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(net(clips).float(), labels)
    loss.backward()
    # The small classifier lets little gradient through: none of it can be large.
    assert all(parameter.grad.abs().max() < 1e4 for parameter in net.parameters())
    net.eval()
    nn.init.normal_(net.classifier.weight)
    with torch.no_grad():
        expected = net(clips)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(clips)
    assert (logits - expected).abs().max() < 0.25 * expected.abs().max()  # up to a hundred layers of rounding


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_saved_and_loaded_again(name: str, options: dict[str, object], tmp_path: Path) -> None:
    net = small(name, options).eval()
    nn.init.normal_(next(iter(net.classifier.parameters())))
    card = NetworkCard(model=name, classes=("a", "b"), num_segments=12, size=32, width=8, options=options)
    save_network(tmp_path, net, card)
    again, read = load_network(tmp_path)
    assert read == card
    clips, _ = moving_squares(net.channels)
    with torch.no_grad():
        assert torch.equal(again(clips), net(clips))


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_weights_of_other_classes_leave_a_new_head(name: str, options: dict[str, object], tmp_path: Path) -> None:
    source = small(name, options, num_classes=3)
    classes = ("a", "b", "c")
    card = NetworkCard(model=name, classes=classes, num_segments=12, size=32, width=8, options=options)
    save_network(tmp_path, source, card)
    torch.manual_seed(1)
    net = create_model(name, 5, 12, width=8, size=32, options=options)
    report = load_weights(net, tmp_path)
    assert {key.split(".")[0] for key in report.reinitialised} == set(net.head)
    ours, theirs = net.state_dict(), source.state_dict()
    for key in ours.keys() - set(report.reinitialised):
        assert torch.equal(ours[key], theirs[key])
    assert not report.missing


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "segmentation_lstm"])
def test_classifier_gives_the_logits(name: str) -> None:
    net = small(name).eval()
    clips, _ = moving_squares()
    assert sum(parameter.numel() for parameter in net.classifier.parameters()) > 0
    with torch.no_grad():
        for parameter in net.classifier.parameters():
            parameter.zero_()
        net.classifier.bias.copy_(torch.tensor([1.0, -2.0]))
        assert torch.allclose(net(clips), torch.tensor([[1.0, -2.0]] * 4))
    torch.manual_seed(0)
    net.reset_classifier()
    assert net.classifier.bias.eq(0).all()
    assert 0 < net.classifier.weight.abs().max() < 0.01


def test_optimiser_knows_the_classifier() -> None:
    for name, weight in (("i3d", "classifier.weight"), ("segmentation_lstm", "classifier.weight")):
        groups = {group.name: group.names for group in parameter_groups(DepthTask(small(name)), Recipe())}
        assert groups["classifier weight"] == (f"network.{weight}",)


@pytest.mark.parametrize("inputs", ["rgb", "rgbd", "depth"])
@pytest.mark.parametrize("name", list(RIVALS))
def test_every_rival_takes_every_input(name: str, inputs: str) -> None:
    net = small(name, {"inputs": inputs}).eval()
    channels = {"rgb": 3, "rgbd": 4, "depth": 1}[inputs]
    with torch.no_grad():
        assert net(moving_squares(channels)[0]).shape == (4, 2)
        with pytest.raises(ModelError, match=rf"\(N, T, {channels}, H, W\)"):
            net(torch.zeros(1, 12, 2, 32, 32))


@pytest.mark.parametrize("name", ["resnext101_3d", "i3d", "nas1", "resc3d", "attention_lstm"])
@pytest.mark.parametrize(("frames", "height", "width"), [(4, 32, 48), (8, 50, 33)])
def test_networks_that_pool_take_any_length_and_size(name: str, frames: int, height: int, width: int) -> None:
    with torch.no_grad():
        assert small(name).eval()(torch.zeros(1, frames, 3, height, width)).shape == (1, 2)


@pytest.mark.parametrize("width", [9, 24])
@pytest.mark.parametrize("name", list(RIVALS))
def test_odd_widths(name: str, width: int) -> None:
    with torch.device("meta"):
        net = create_model(name, 3, 16, width=width, size=64)
    assert net.eval()(torch.empty(2, 16, 3, 64, 64, device="meta")).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("c3d", {"num_segments": 8}, "8 frames of 224 x 224; its poolings need at least 9 frames and 16 pixels"),
        ("c3d", {"num_segments": 16, "size": 8}, "16 frames of 8 x 8"),
        ("prernn_c3d", {"num_segments": 9}, "short clips of 9 frames in a clip of 9"),
        ("prernn_c3d", {"num_segments": 32, "size": 8}, "16 frames of 8 x 8; its poolings need at least 9 frames and"),
        ("prernn_c3d", {"num_segments": 32, "options": {"clip": 4}}, "short clips of 4 frames"),
        ("prernn_c3d", {"num_segments": 32, "options": {"clip": "16"}}, "short clips of '16' frames"),
        ("nas1", {"num_segments": 10}, "multiple of 4"),
        ("attention_lstm", {"options": {"gated": "yes"}}, "gated='yes'; it is one of False, True"),
        ("resc3d", {"options": {"gated": True}}, "resc3d: has no option 'gated'; there are inputs"),
        ("i3d", {"options": {"inputs": "flow"}}, "it is one of 'rgb', 'rgbd', 'depth'"),
        ("atention_lstm", {}, "did you mean attention_lstm"),
    ],
)
def test_mistakes_are_named(name: str, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        create_model(name, 5, width=8, **arguments)


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("c3d", (1, 16, 3, 32, 32), r"built for \(N, 12, 3, 32, 32\)"),
        ("prernn_c3d", (1, 12, 3, 48, 48), r"built for \(N, 12, 3, 32, 32\)"),
        ("segmentation_lstm", (1, 12, 3, 32, 64), "frames of 32 x 64"),
        ("nas1", (1, 10, 3, 32, 32), "10 frames"),
        ("resc3d", (12, 3, 32, 32), r"\(N, T, 3, H, W\)"),
    ],
)
def test_a_clip_that_does_not_fit_is_refused(name: str, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        small(name)(torch.zeros(shape))


def test_resnext_starts_kaiming_normal_by_fan_out() -> None:
    torch.manual_seed(0)
    net = create_model("resnext101_3d", 5, width=32)
    assert isinstance(net, ResNeXt3D)
    block = net.stages[2][1]
    assert block.conv1.weight.std().item() == pytest.approx((2 / block.conv1.out_channels) ** 0.5, rel=0.02)


def test_resnext_starts_as_its_shortcuts() -> None:
    net = small("resnext101_3d").eval()
    assert isinstance(net, ResNeXt3D)
    features = torch.rand(1, 128, 2, 4, 4)
    block = net.stages[2][1]
    assert torch.equal(block(features), features)
    assert all(parameter.any() for name, parameter in block.named_parameters() if name.endswith("conv3.weight"))


def test_i3d_depth_network_is_another_size_of_stem() -> None:
    net = small("i3d", {"inputs": "depth"})
    assert isinstance(net, I3D)
    assert net.features.conv1.conv.weight.shape == (8, 1, 7, 7, 7)
