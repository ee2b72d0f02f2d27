"""MultiScaleDecoder: the paper's weights and cost, any 2D CNN, and no trace in the network."""

import pytest
import torch
from torch import nn

from dynagest.errors import ModelError, WeightsError
from dynagest.networks.build import create_model
from dynagest.task.decoder import Decoder, MultiScaleDecoder
from dynagest.task.saved import load_decoders, save_decoders


class FrameNet(nn.Module):
    """A network that is not ours: images (B, 3, H, W), strides 2 and 8, no taps, with dropout and BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.late = nn.Conv2d(6, 48, 5, 4, 2)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(48, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.late(self.early(x)).mean(dim=(2, 3)))


class ClipNet(FrameNet):
    """The same for clips (N, T, 3, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t = x.shape[:2]
        return super().forward(x.flatten(0, 1)).unflatten(0, (n, t)).mean(dim=1)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("classes", "total"), [(83, 36_449_391), (25, 36_330_549), (249, 36_789_525)])
def test_published_training_parameters(classes: int, total: int) -> None:
    net = create_model("action_resnet50", classes)
    msd = MultiScaleDecoder.for_model(net)
    assert parameters(msd) == 8_553_472
    assert msd.multiply_adds(8) == 4_370_530_304
    assert parameters(net) + parameters(msd) == total
    assert [decoder.widths for _, decoder in msd.parts()] == [(64, 32, 1), (2048, 256, 32, 1)]


def test_published_mask_sizes() -> None:
    net = create_model("tsm_resnet50", 4).eval()
    msd = MultiScaleDecoder.for_model(net)
    with torch.no_grad(), msd.attached(net) as taps:
        net(torch.rand(1, 1, 3, 224, 224))
        masks = msd(taps)
    assert masks.local.shape == (1, 1, 224, 224)
    assert masks.global_.shape == (1, 1, 56, 56)


def test_multiply_adds_count_what_the_layers_do() -> None:
    decoder = Decoder((3, 2, 1), plain=False, activation="linear")
    decoder.tap_size = (5, 7)
    # A 4x4 transposed convolution spreads each of its inputs over 16 outputs: once per input position and weight.
    assert decoder.multiply_adds() == 5 * 7 * 3 * 2 * 16 + 10 * 14 * 2 * 1 * 16
    decoder = Decoder((3, 2, 1), plain=True, activation="linear")
    decoder.tap_size = (5, 7)
    assert decoder.multiply_adds() == 5 * 7 * (3 * 2 * 9 + 2 * 1 * 9)


def test_after_256_the_widths_of_five_layers_halve() -> None:
    """So that every layer but the last costs the same: four times the positions, a quarter of the weights."""
    decoder = Decoder.from_stride(2048, 32, "full", "linear")
    assert decoder.widths == (2048, 256, 128, 64, 32, 1)


@pytest.mark.parametrize(
    ("options", "kinds", "stages", "mask"),
    [
        ({"which": "local"}, ["local"], [2], (32, 32)),
        ({"which": "global"}, ["global"], [3], (8, 8)),
        ({"which": "local", "local_scale": "quarter"}, ["local"], [0], (8, 8)),
        ({"which": "global", "global_scale": "full"}, ["global"], [5], (32, 32)),
    ],
)
def test_variants_of_table_vii(options: dict, kinds: list[str], stages: list[int], mask: tuple[int, int]) -> None:
    net = create_model("tsn_resnet18", 4, width=16).eval()
    msd = MultiScaleDecoder.for_model(net, image_size=32, **options)
    assert list(msd.taps) == kinds
    assert [decoder.stages for _, decoder in msd.parts()] == stages
    with torch.no_grad(), msd.attached(net) as taps:
        net(torch.rand(1, 2, 3, 32, 32))
        masks = msd(taps)
    assert [None if m is None else tuple(m.shape) for m in masks].count(None) == 1
    assert next(m for m in masks if m is not None).shape == (2, 1, *mask)


def test_local_at_quarter_is_two_plain_convolutions() -> None:
    decoder = Decoder.from_stride(64, 4, "quarter", "linear")
    layers = [layer for layer in decoder if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels, layer.kernel_size) for layer in layers] == [
        (64, 32, (3, 3)),
        (32, 1, (3, 3)),
    ]
    assert not any(isinstance(layer, nn.ConvTranspose2d) for layer in decoder)


def test_layers_are_bare_transposed_convolutions() -> None:
    decoder = Decoder.from_stride(2048, 32, "quarter", "linear")
    layers = list(decoder)
    assert [type(layer) for layer in layers] == [
        *(nn.ConvTranspose2d, nn.ReLU, nn.ConvTranspose2d, nn.ReLU, nn.ConvTranspose2d, nn.Identity)
    ]
    for layer in layers[::2]:
        assert (layer.kernel_size, layer.stride, layer.padding, layer.bias) == ((4, 4), (2, 2), (1, 1), None)


@pytest.mark.parametrize("kind", [FrameNet, ClipNet])
def test_any_cnn_by_module_names(kind: type[FrameNet]) -> None:
    net = kind().eval()
    msd = MultiScaleDecoder.for_model(net, "early", "late", image_size=64)
    assert [decoder.widths for _, decoder in msd.parts()] == [(6, 1), (48, 1)]
    x = torch.rand(2, 3, 64, 64) if kind is FrameNet else torch.rand(1, 2, 3, 64, 64)
    with msd.attached(net) as taps:
        net(x)
        masks = msd(taps)
    assert masks.local.shape == (2, 1, 64, 64)
    assert masks.global_.shape == (2, 1, 16, 16)


def test_dry_run_leaves_network_and_generator_alone() -> None:
    net = FrameNet()
    net.early.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    MultiScaleDecoder.for_model(net, "early", "late", image_size=64)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (net.training, net.late.training, net.early.training) == (True, True, False)


def test_attaching_changes_nothing_and_detaching_leaves_nothing() -> None:
    net = create_model("action_resnet18", 5, width=16)
    clip = torch.rand(2, 4, 3, 32, 32)
    net.eval()
    alone = net(clip)
    names = list(net.state_dict())
    msd = MultiScaleDecoder.for_model(net, image_size=32)
    with msd.attached(net) as taps:
        attached = net(clip)
        msd(taps)
        assert sum(len(module._forward_hooks) for module in net.modules()) == 2
    assert torch.equal(alone, attached)
    assert torch.equal(alone, net(clip))
    assert list(net.state_dict()) == names
    assert sum(len(module._forward_hooks) for module in net.modules()) == 0


def test_hooks_go_when_the_network_fails() -> None:
    net = create_model("tsn_resnet18", 5, width=16)
    msd = MultiScaleDecoder.for_model(net, image_size=32)
    with pytest.raises(ModelError), msd.attached(net):
        net(torch.rand(3, 32, 32))
    assert sum(len(module._forward_hooks) for module in net.modules()) == 0


def test_masks_teach_the_network() -> None:
    net = create_model("tsn_resnet18", 5, width=16)
    msd = MultiScaleDecoder.for_model(net, image_size=32)
    with msd.attached(net) as taps:
        net(torch.rand(1, 2, 3, 32, 32))
        masks = msd(taps)
    (masks.local.sum() + masks.global_.sum()).backward()
    assert net.base_model.conv1.weight.grad.abs().sum() > 0
    assert net.classifier.weight.grad is None


def test_seed_decides_the_weights() -> None:
    net = create_model("tsn_resnet18", 5, width=16)
    one, same, other = (MultiScaleDecoder.for_model(net, image_size=32, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_first_masks_are_almost_black_and_hidden_layers_keep_the_scale() -> None:
    decoder = Decoder.from_stride(512, 32, "quarter", "linear")
    decoder.initialise(torch.Generator().manual_seed(0))
    x = torch.randn(2, 512, 14, 14)
    hidden = nn.Sequential(*list(decoder)[:4])(x)
    # He: a ReLU's output has mean square 1 where its input did, whatever the width (inner pixels; borders see fewer).
    assert hidden[:, :, 4:-4, 4:-4].square().mean().item() == pytest.approx(1, rel=0.3)
    assert decoder(x).abs().max() < 0.1


@pytest.mark.parametrize(("stride", "taps"), [(4, 9), (16, 4)])
def test_weights_start_as_he_has_them_and_small_in_the_last_layer(stride: int, taps: int) -> None:
    """A 3x3 convolution has all its taps at a pixel; of a 4x4 transposed one, only 2 x 2 reach it."""
    decoder = Decoder.from_stride(64, stride, "quarter", "linear")
    decoder.initialise(torch.Generator().manual_seed(0))
    hidden, last = decoder.parameters()
    assert hidden.std().item() == pytest.approx((2 / (64 * taps)) ** 0.5, rel=0.03)
    assert last.std().item() == pytest.approx(1e-3, rel=0.2)


def test_sigmoid_output() -> None:
    decoder = Decoder((8, 4, 1), plain=False, activation="sigmoid")
    decoder.initialise(torch.Generator())
    mask = decoder(torch.randn(1, 8, 4, 4) * 1e4)
    assert mask.min() >= 0
    assert 0.9 < mask.max() <= 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("base_model.layer5", None), "did you mean base_model.layer"),
        (("base_model.maxpoll", None), "base_model.maxpool"),
        (("classifier", None), "need feature maps"),
        (("base_model.layer4", None), None),
    ],
)
def test_wrong_names(names: tuple[str, None], message: str | None) -> None:
    net = create_model("tsn_resnet18", 5, width=16)
    if message is None:
        assert MultiScaleDecoder.for_model(net, *names, image_size=64).taps["local"] == names[0]
        return
    with pytest.raises(ModelError, match=message):
        MultiScaleDecoder.for_model(net, *names, image_size=64)


@pytest.mark.parametrize(
    ("option", "choices"),
    [
        ("which", "both, local, global"),
        ("local_scale", "full, quarter"),
        ("global_scale", "full, quarter"),
        ("activation", "linear, sigmoid"),
    ],
)
def test_an_unknown_choice_is_told_with_those_there_are(option: str, choices: str) -> None:
    net = create_model("tsn_resnet18", 5, width=16)
    with pytest.raises(ModelError, match=f"{option}: there is no 'fulll'; there are {choices}"):
        MultiScaleDecoder.for_model(net, image_size=64, **{option: "fulll"})


def test_network_that_names_no_taps() -> None:
    with pytest.raises(ModelError, match="name two of its modules"):
        MultiScaleDecoder.for_model(FrameNet())


def test_stride_out_of_reach() -> None:
    with pytest.raises(ModelError, match="6 upsampling"):
        Decoder.from_stride(64, 64, "full", "linear")


def test_network_that_takes_neither_shape() -> None:
    with pytest.raises(ModelError, match="took neither clips"):
        MultiScaleDecoder.for_model(nn.Sequential(nn.Linear(7, 7)), "0", "0")


def test_a_module_that_gives_no_map_is_told_and_nothing_else() -> None:
    class Pair(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:  # type: ignore[override]
            return super().forward(x), 0

    class Paired(ClipNet):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair(6, 48, 5, 4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pair(self.early(x.flatten(0, 1)))[0].mean(dim=(2, 3)).unflatten(0, x.shape[:2]).mean(dim=1)

    with pytest.raises(
        ModelError, match=r"^module 'pair' \(Pair\) gives tuple; taps need feature maps \(B, C, h, w\)$"
    ):
        MultiScaleDecoder.for_model(Paired(), "early", "pair", image_size=64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_decoders_compute_as_their_network_does(dtype: torch.dtype) -> None:
    net = FrameNet().to(dtype)
    msd = MultiScaleDecoder.for_model(net, "early", "late", image_size=64)
    with msd.attached(net) as taps:
        net(torch.zeros(1, 3, 64, 64, dtype=dtype))
    assert [mask.dtype for mask in msd(taps)] == [dtype, dtype]


def test_attributes_of_foreign_networks_are_their_own() -> None:
    net = FrameNet()
    net.channels = 64
    assert MultiScaleDecoder.for_model(net, "early", "late", image_size=64).taps == {"local": "early", "global": "late"}


def test_a_network_may_assert_the_shape_that_it_takes() -> None:
    class Strict(FrameNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.ndim == 4
            return super().forward(x)

    msd = MultiScaleDecoder.for_model(Strict(), "early", "late", image_size=64)
    assert [decoder.widths for _, decoder in msd.parts()] == [(6, 1), (48, 1)]


def test_a_network_may_take_one_number_of_frames_only() -> None:
    class Fixed(FrameNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.reshape(-1, 12, 3, 64, 64).flatten(0, 1))

    with pytest.raises(ModelError, match="of num_frames 8 nor images"):
        MultiScaleDecoder.for_model(Fixed(), "early", "late", image_size=64)
    msd = MultiScaleDecoder.for_model(Fixed(), "early", "late", image_size=64, num_frames=12)
    assert [decoder.widths for _, decoder in msd.parts()] == [(6, 1), (48, 1)]


def test_a_network_compiled_before_the_decoders_were_attached_is_told() -> None:
    net = FrameNet()
    msd = MultiScaleDecoder.for_model(net, "early", "late", image_size=64)
    compiled = torch.compile(net, backend="eager")
    compiled(torch.zeros(1, 3, 64, 64))
    with msd.attached(net) as taps:
        compiled(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ModelError, match=r"torch\.compile before its first pass"):
        msd(taps)


def test_saved_decoders_give_the_same_masks(tmp_path) -> None:
    net = create_model("tsn_resnet18", 5, width=16)
    msd = MultiScaleDecoder.for_model(net, which="both", global_scale="full", activation="sigmoid", image_size=64)
    save_decoders(tmp_path, msd)
    loaded = load_decoders(tmp_path, net)
    shapes = {"local": (1, 16, 16, 16), "global": (1, 128, 2, 2)}
    features = {msd.taps[kind]: torch.rand(shape) for kind, shape in shapes.items()}
    assert all(torch.equal(a, b) for a, b in zip(msd(features), loaded(features), strict=True))
    assert loaded.taps == msd.taps
    assert loaded.multiply_adds(3) == msd.multiply_adds(3)


def test_decoders_that_cannot_be_loaded(tmp_path) -> None:
    net = create_model("tsn_resnet18", 5, width=16)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_decoders(tmp_path, net)
    save_decoders(tmp_path, MultiScaleDecoder.for_model(net, image_size=64))
    with pytest.raises(WeightsError, match="does not have"):
        load_decoders(tmp_path, FrameNet())
    (tmp_path / "decoders.safetensors").write_bytes(b"cut off")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_decoders(tmp_path, net)
