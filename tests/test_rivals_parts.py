"""What the rivals are made of, against its definition."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dynagest.card import NetworkCard
from dynagest.errors import ModelError
from dynagest.networks.build import create_model
from dynagest.networks.count import count
from dynagest.networks.rivals.central_difference import CentralDifferenceConv, Centre
from dynagest.networks.rivals.convlstm import ConvLSTM, GatedAttentionLSTM, spatial_softmax
from dynagest.networks.rivals.convolution import Sizes, convolution
from dynagest.networks.rivals.genotype import DEFAULT_GENOTYPE, Edge, parse_genotype
from dynagest.networks.rivals.i3d import MaxPool, Unit, pad_same
from dynagest.networks.rivals.prernn_c3d import PreRnnC3D, short_clips
from dynagest.networks.rivals.residual import Res3D
from dynagest.networks.rivals.segmentation_lstm import SegmentationLSTM
from dynagest.networks.spec import NetworkSpec
from dynagest.networks.weights import load_weights, save_network
from dynagest.task.segmentation import SegmentationDecoder


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("theta", [0.3, 0.6])
@pytest.mark.parametrize("centre", ["frame", "average"])
def test_central_difference_convolution_by_its_definition(theta: float, centre: Centre) -> None:
    torch.manual_seed(0)
    conv = CentralDifferenceConv(4, theta, centre)
    x = torch.randn(2, 4, 5, 6, 7)
    neighbours = conv.weight[:, :, 0].sum(dim=(2, 3)) + conv.weight[:, :, 2].sum(dim=(2, 3))
    seen = x if centre == "frame" else F.avg_pool3d(x, (3, 1, 1), stride=1, padding=(1, 0, 0))
    difference = F.conv3d(seen, neighbours[..., None, None, None])
    expected = F.conv3d(x, conv.weight, padding=1) - theta * difference
    assert torch.allclose(conv(x), expected, atol=1e-5)
    assert (expected - F.conv3d(x, conv.weight, padding=1)).abs().max() > 0.1


def test_full_central_difference_sees_no_static_neighbour() -> None:
    conv = CentralDifferenceConv(1, 1.0, "frame")
    with torch.no_grad():
        conv.weight[:, :, 1] = 0
    static = torch.full((1, 1, 5, 5, 5), 3.0)
    assert torch.allclose(conv(static)[:, :, 1:-1, 1:-1, 1:-1], torch.zeros(1, 1, 3, 3, 3), atol=1e-6)


KERNELS = [((3, 3, 3), 1), ((3, 3, 3), 2), ((5, 1, 1), (2, 1, 1)), ((3, 7, 7), (1, 2, 2)), ((7, 7, 7), (1, 2, 2))]


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 4, 4), (4, 8, 8), (4, 1, 1), (12, 9, 9)])
@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
def test_convolutions_of_tiny_volumes_have_the_right_gradients(
    kernel: tuple[int, int, int], stride: Sizes, size: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    ours = convolution(8, 8, kernel, stride)
    theirs = nn.Conv3d(8, 8, kernel, stride, ours.padding, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 8, *size)
    expected = theirs(x.double())
    expected.square().sum().backward()
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        ours.to(dtype).zero_grad()
        found = ours(x.to(dtype))
        found.square().sum().backward()
        for value, reference in ((found, expected), (ours.weight.grad, theirs.weight.grad)):
            assert (value.double() - reference).abs().max() < tolerance * reference.abs().max()


def test_two_steps_of_a_conv_lstm_by_hand() -> None:
    # On a map of one position only the middle tap of a 3x3 convolution meets anything.
    lstm = ConvLSTM(1, 1)
    from_input, from_hidden = [0.5, -1.0, 2.0, 0.7], [0.3, 0.4, -0.6, 1.5]
    with torch.no_grad():
        lstm.from_input.weight[:, 0, 1, 1] = torch.tensor(from_input)
        lstm.from_hidden.weight[:, 0, 1, 1] = torch.tensor(from_hidden)
    hidden = cell = 0.0
    expected = []
    for x in (1.2, -0.8):
        taken, kept, shown, candidate = (a * x + b * hidden for a, b in zip(from_input, from_hidden, strict=True))
        cell = sigmoid(kept + 1) * cell + sigmoid(taken) * math.tanh(candidate)
        hidden = sigmoid(shown) * math.tanh(cell)
        expected.append(hidden)
    assert lstm(torch.tensor([1.2, -0.8]).view(1, 2, 1, 1, 1)).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_conv_lstm_sees_its_neighbourhood() -> None:
    torch.manual_seed(0)
    lstm = ConvLSTM(2, 3)
    x = torch.zeros(1, 1, 2, 5, 5)
    x[0, 0, :, 0, 0] = 1
    reached = lstm(x)[0, 0].abs().sum(dim=0) > 0
    assert reached.nonzero().max() == 1
    assert reached[:2, :2].all()


def gated(in_channels: int, hidden: int) -> GatedAttentionLSTM:
    torch.manual_seed(0)
    lstm = GatedAttentionLSTM(in_channels, hidden)
    for parameter in lstm.parameters():
        nn.init.normal_(parameter)
    return lstm


def test_two_steps_of_a_gated_attention_lstm_by_hand() -> None:
    # One position has all the attention, and the factor of positions is 1.
    lstm = gated(1, 1)
    gates_x = lstm.gates_from_input.weight.flatten().tolist()
    gates_h = lstm.gates_from_hidden.weight.flatten().tolist()
    depthwise, pointwise = lstm.candidate[0].weight[0, 0, 1, 1].item(), lstm.candidate[1].weight.item()
    hidden = cell = 0.0
    expected = []
    for x in (1.2, -0.8):
        taken, kept, shown = (a * x + b * hidden for a, b in zip(gates_x, gates_h, strict=True))
        cell = sigmoid(kept + 1) * cell + sigmoid(taken) * math.tanh(depthwise * pointwise * x)
        hidden = sigmoid(shown) * math.tanh(cell)
        expected.append(hidden)
    output = lstm(torch.tensor([1.2, -0.8]).view(1, 2, 1, 1, 1))
    assert output.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def literal_gated_step(lstm: GatedAttentionLSTM, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step from the weights alone: (C, H, W) each."""

    def separable(layer: nn.Module, image: Tensor) -> Tensor:
        depthwise, pointwise = layer[0].weight, layer[1].weight
        return F.conv2d(F.conv2d(image, depthwise, padding=1, groups=len(image)), pointwise)

    gates = lstm.gates_from_input.weight[:, :, 0, 0] @ x.mean(dim=(1, 2))
    gates = gates + lstm.gates_from_hidden.weight[:, :, 0, 0] @ hidden.mean(dim=(1, 2))
    taken, kept, shown = gates[:, None, None].chunk(3)
    score = torch.tanh(separable(lstm.attention_from_input, x) + separable(lstm.attention_from_hidden, hidden))
    score = F.conv2d(score, lstm.attention_map.weight, padding=1)
    attention = score.exp() / score.exp().sum()
    candidate = separable(lstm.candidate, x * attention * attention.numel())
    cell = torch.sigmoid(kept + 1) * cell + torch.sigmoid(taken) * torch.tanh(candidate)
    return torch.sigmoid(shown) * torch.tanh(cell), cell


def test_gated_attention_lstm_by_its_definition() -> None:
    lstm = gated(3, 4)
    clips = torch.randn(2, 3, 3, 4, 5)
    output = lstm(clips)
    for clip, found in zip(clips, output, strict=True):
        hidden = cell = torch.zeros(4, 4, 5)
        for x, step in zip(clip, found, strict=True):
            hidden, cell = literal_gated_step(lstm, x, hidden, cell)
            assert torch.allclose(step, hidden, atol=1e-5)


def test_equal_attention_leaves_the_input_as_it_is() -> None:
    lstm = gated(2, 2)
    nn.init.zeros_(lstm.attention_map.weight)
    x = torch.randn(1, 1, 2, 3, 3)
    taken, _, shown = torch.sigmoid(lstm.gates_from_input(x[0].mean(dim=(2, 3), keepdim=True))).chunk(3, dim=1)
    expected = shown * torch.tanh(taken * torch.tanh(lstm.candidate(x[0])))
    assert torch.allclose(lstm(x)[0], expected, atol=1e-6)


def test_spatial_softmax() -> None:
    score = torch.randn(3, 1, 4, 5) * 5
    attention = spatial_softmax(score)
    assert attention.shape == score.shape
    assert torch.allclose(attention.sum(dim=(1, 2, 3)), torch.ones(3))
    ratio = attention[0, 0, 1, 2] / attention[0, 0, 3, 4]
    assert ratio.item() == pytest.approx(math.exp(score[0, 0, 1, 2] - score[0, 0, 3, 4]), rel=1e-4)


@given(
    size=st.tuples(*[st.integers(1, 20)] * 3),
    kernel=st.tuples(*[st.integers(1, 7)] * 3),
    stride=st.tuples(*[st.integers(1, 3)] * 3),
)
def test_same_padding(size: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
    padded = pad_same(torch.ones(1, 1, *size), kernel, stride)
    for axis, (before, side, step) in enumerate(zip(size, kernel, stride, strict=True), start=2):
        outputs = (padded.shape[axis] - side) // step + 1
        assert outputs >= -(-before // step) if side < step else outputs == -(-before // step)
        line = padded.movedim(axis, 0).flatten(1).amax(dim=1)
        first = int(line.argmax())
        last = padded.shape[axis] - before - first
        assert last - first in (0, 1)  # the odd zero comes last


def test_i3d_units_at_the_sizes_of_tensorflow() -> None:
    x = torch.rand(1, 2, 9, 14, 15)
    assert Unit(2, 3, 7, 2)(x).shape == (1, 3, 5, 7, 8)
    pooled = MaxPool(3, 2)(x)
    assert pooled.shape == (1, 2, 5, 7, 8)
    # Height 14 is padded by one zero below only: the first window starts at the first row.
    assert pooled[0, 0, 1, 0, 1] == x[0, 0, 1:4, 0:3, 1:4].max()


def test_res3d_shapes_and_first_shortcut() -> None:
    plain, projected = Res3D(3, 8, (1, 2, 1)), Res3D(3, 8, (1, 2, 2, 2), projected=True)
    assert plain(torch.zeros(1, 3, 8, 16, 16)).shape == (1, 32, 4, 4, 4)
    assert projected(torch.zeros(1, 3, 8, 32, 32)).shape == (1, 64, 1, 2, 2)
    assert plain.layer1[0].shortcut is None
    assert projected.layer1[0].shortcut is not None
    assert plain.layer3[0].shortcut is not None
    assert plain.layer3[1].shortcut is None
    for net, strides in ((plain, (1, 2, 1)), (projected, (1, 2, 2, 2))):
        assert (net.stem[0].kernel_size, net.stem[0].stride) == ((3, 7, 7), (1, 2, 2))
        stages = [layer for name, layer in net.named_children() if name != "stem"]
        assert [[block.conv1.out_channels for block in stage] for stage in stages] == [
            [8 * 2**place] * 2 for place in range(len(strides))
        ]
        assert [[block.conv1.stride[0] for block in stage] for stage in stages] == [[each, 1] for each in strides]


@given(frames=st.integers(10, 200), clip=st.integers(9, 40))
def test_short_clips_cover_the_clip(frames: int, clip: int) -> None:
    if clip >= frames:
        return
    starts = short_clips(frames, clip)
    assert starts[0] == 0
    assert starts[-1] == frames - clip
    steps = [after - before for before, after in pairwise(starts)]
    assert min(steps) >= 1
    assert max(steps) <= clip // 2
    assert (len(starts) - 2) * (clip // 2) < frames - clip  # one fewer would leave gaps of more than half


def test_short_clips_of_16_frames() -> None:
    assert short_clips(32, 16) == (0, 8, 16)
    assert short_clips(20, 16) == (0, 4)


def pretrained(tmp_path: Path) -> tuple[nn.Module, PreRnnC3D]:
    """A C3D of 10 frames with weights that are not trivial, and a PreRNN of 20 frames that has loaded them."""
    torch.manual_seed(0)
    c3d = create_model("c3d", 3, 10, width=8, size=32)
    nn.init.normal_(c3d.classifier.weight)
    with torch.no_grad():
        c3d(torch.randn(4, 10, 3, 32, 32))
    save_network(tmp_path, c3d, NetworkCard(model="c3d", classes=("a", "b", "c"), num_segments=10, size=32, width=8))
    net = create_model("prernn_c3d", 3, 20, width=8, size=32, options={"clip": 10})
    report = load_weights(net, tmp_path)
    assert report.missing == ("recurrent.fc6.weight", "recurrent.fc7.weight")
    assert not report.reinitialised
    assert isinstance(net, PreRnnC3D)
    return c3d.eval(), net.eval()


def test_prernn_keeps_pretrained_weights_and_is_c3d_without_recurrence(tmp_path: Path) -> None:
    c3d, net = pretrained(tmp_path)
    for name, value in c3d.state_dict().items():
        assert torch.equal(net.state_dict()[name], value)
    clip = torch.randn(2, 20, 3, 32, 32)
    with torch.no_grad():
        recurrent = net(clip)
        for matrix in net.recurrent.values():
            matrix.weight.zero_()
        plain = torch.stack([c3d(clip[:, start : start + 10]) for start in (0, 5, 10)]).mean(dim=0)
        assert net.starts == (0, 5, 10)
        assert torch.allclose(net(clip), plain, atol=1e-5)
    assert (recurrent - plain).abs().max() > 1e-3


def test_prernn_recurrence_by_its_definition(tmp_path: Path) -> None:
    c3d, net = pretrained(tmp_path)
    clip = torch.randn(1, 20, 3, 32, 32)
    with torch.no_grad():
        hidden6 = hidden7 = torch.zeros(1, 256)
        logits = []
        for start in net.starts:
            x = c3d.flat_features(clip[:, start : start + 10])
            hidden6 = F.relu(c3d.fc6(x) + hidden6 @ net.recurrent["fc6"].weight.T)
            hidden7 = F.relu(c3d.fc7(hidden6) + hidden7 @ net.recurrent["fc7"].weight.T)
            logits.append(c3d.classifier(hidden7))
        assert torch.allclose(net(clip), torch.stack(logits).mean(dim=0), atol=1e-5)


def test_segmentation_decoder_has_the_published_cost() -> None:
    with torch.device("meta"):
        net = SegmentationLSTM(NetworkSpec("segmentation_lstm", 83, 1), (126, 224))
        decoder = SegmentationDecoder(net.encoder.out_channels)
    features = net.encoder.eval()(torch.empty(2, 3, 126, 224, device="meta"))
    assert features.shape == (2, 256, 4, 7)
    assert (net.lstm.num_layers, net.lstm.hidden_size, net.lstm.input_size) == (4, 83, 83)
    assert [type(layer) for layer in net.embedding] == [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert net.embedding[0].weight.shape == (2048, 7168)
    assert decoder(features, (126, 224)).shape == (2, 2, 126, 224)
    assert [layer.weight.shape[:2] for layer in decoder if isinstance(layer, nn.ConvTranspose2d)] == [
        (256, 64),
        (64, 32),
        (32, 16),
        (16, 8),
        (8, 2),
    ]
    cost = count(nn.Sequential(*decoder), (1, 256, 4, 7))
    assert cost.parameters == 305_530
    assert cost.multiply_adds == 28 * 16 * (256 * 64 + 4 * 64 * 32 + 16 * 32 * 16 + 64 * 16 * 8 + 256 * 8 * 2)
    assert round(cost.multiply_adds / 1e9, 3) == 0.020
    total = sum(p.numel() for p in net.parameters()) + cost.parameters
    assert round(total / 1e6, 1) == 16.5


def test_segmentation_decoder_cuts_evenly() -> None:
    torch.manual_seed(0)
    decoder = SegmentationDecoder(16)
    features = torch.randn(1, 16, 2, 2)
    whole = decoder(features, (64, 64))
    assert torch.equal(decoder(features, (62, 60)), whole[:, :, 1:63, 2:62])
    assert 0.05 < whole.std() < 5


def test_segmentation_lstm_decides_with_the_last_frame_and_looks_at_none_to_come() -> None:
    torch.manual_seed(0)
    net = create_model("segmentation_lstm", 4, 6, width=8, size=32).eval()
    assert isinstance(net, SegmentationLSTM)
    clip = torch.randn(2, 6, 3, 32, 32)
    with torch.no_grad():
        frames = net.frame_logits(clip)
        assert torch.equal(net(clip), frames[:, -1])
        assert torch.allclose(net(clip[:, :3]), frames[:, 2], atol=1e-6)
        scores = net.frame_scores(net.encoder(clip.flatten(0, 1)))
        expected = net.classifier(net.lstm(scores.unflatten(0, (2, 6)))[0][:, -1])
        assert torch.allclose(net(clip), expected, atol=1e-6)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.reset_classifier()
    changed = {name.split(".")[0] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(net.head)


def test_genotype_reads_json() -> None:
    cells = parse_genotype(DEFAULT_GENOTYPE)
    assert cells["high"][0] == (Edge("cdc_t_0.6", 1), Edge("skip", 0))
    assert cells["low"][3] == (Edge("conv_1x3x3", 4), Edge("skip", 3))


CELL = DEFAULT_GENOTYPE["high"]


@pytest.mark.parametrize(
    ("genotype", "says"),
    [
        ("default", "it has 'default'; give one cell for each of high, mid, low"),
        ({"high": CELL}, "it has the keys high; give one cell for each"),
        ({"high": CELL, "mid": CELL, "low": CELL[:3]}, "genotype low: a cell is a list of 4 nodes"),
        ({"high": [CELL[0][:1], *CELL[1:]], "mid": CELL, "low": CELL}, "genotype high, node 1: a node is two pairs"),
        (
            {"high": CELL, "mid": [*CELL[:3], [["skip", 1], "skip"]], "low": CELL},
            "genotype mid, node 4: 'skip' is no pair",
        ),
        (
            {"high": [[["conv", 1], ["skip", 0]], *CELL[1:]], "mid": CELL, "low": CELL},
            "node 1: there is no operation 'conv'; there are cdc_t_0.6",
        ),
        (
            {"high": [[["skip", 2], ["skip", 0]], *CELL[1:]], "mid": CELL, "low": CELL},
            "node 1: state 2; it can read the states 0 to 1",
        ),
        (
            {"high": [[["skip", True], ["skip", 0]], *CELL[1:]], "mid": CELL, "low": CELL},
            "node 1: state True; it can read",
        ),
    ],
)
def test_mistakes_in_a_genotype_are_named(genotype: object, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        create_model("nas1", 5, 8, width=8, options={"genotype": genotype})
