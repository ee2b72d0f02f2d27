import itertools

import pytest
import torch
from torch import nn

from dynagest.networks.build import create_model
from dynagest.networks.count import count


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds", "legacy"),
    [
        ("tsm_resnet50", 23_678_099, 32.698, 28.200),
        ("action_resnet50", 27_895_919, 34.435, 29.803),
        ("tea_res2net50", 24_269_821, 34.536, 31.084),
    ],
)
def test_published_costs(name: str, parameters: int, multiply_adds: float, legacy: float) -> None:
    cost = count(create_model(name, 83), (1, 8, 3, 224, 224))
    assert cost.parameters == parameters
    assert round(cost.multiply_adds / 1e9, 3) == multiply_adds
    assert round(cost.legacy_flops / 1e9, 3) == legacy


def test_cost_of_a_view_at_256() -> None:
    cost = count(create_model("action_resnet50", 83), (1, 8, 3, 256, 256))
    assert round(cost.multiply_adds / 1e9, 2) == 44.97


def test_printed() -> None:
    assert str(count(create_model("action_resnet50", 83))) == (
        "27.896 M parameters, 34.435 G multiply-adds, 29.803 GFLOPs by the legacy count"
    )


def test_transposed_convolutions_count_like_the_depth_decoders() -> None:
    def decoder(*widths: int) -> nn.Sequential:
        pairs = itertools.pairwise(widths)
        return nn.Sequential(*(nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False) for i, o in pairs))

    local = count(decoder(64, 32, 1), (8, 64, 56, 56))
    global_ = count(decoder(2048, 256, 32, 1), (8, 2048, 7, 7))
    assert local.parameters + global_.parameters == 8_553_472
    assert local.multiply_adds + global_.multiply_adds == 4_370_530_304


def test_legacy_rule_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, 5)
    )
    cost = count(net, (2, 3, 14, 14))
    elements = 2 * 4 * 7 * 7
    # 7 // 2 = 3: the output's side divided by the stride once more.
    assert cost.legacy_flops == 2 * 4 * 3 * 3 * (27 + 1) + 2 * elements + elements + 2 * 5 * (2 * 196 - 1)
    assert cost.multiply_adds == elements * 27 + 2 * 5 * 196


def c3d() -> nn.Sequential:
    """The C3D of the paper's tables (Real-time-GesRec's variant), 83 classes."""
    layers: list[nn.Module] = []
    channels = 3
    for group, widths in enumerate(((64,), (128,), (256, 256), (512, 512), (512, 512)), start=1):
        for width in widths:
            layers += [nn.Conv3d(channels, width, 3, padding=1), nn.BatchNorm3d(width), nn.ReLU()]
            channels = width
        if group == 1:
            layers.append(nn.MaxPool3d(2, stride=(1, 2, 2)))
        elif group < 5:
            layers.append(nn.MaxPool3d(2))
        else:
            layers.append(nn.MaxPool3d((1, 2, 2), stride=2, padding=(0, 1, 1)))
    head = [nn.Flatten(), nn.Linear(16384, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 83)]
    return nn.Sequential(*layers, *head)


def test_c3d_has_the_published_cost() -> None:
    with torch.device("meta"):
        cost = count(c3d(), (1, 3, 32, 112, 112))
    assert round(cost.parameters / 1e6, 3) == 65.584
    assert round(cost.multiply_adds / 1e9, 3) == 71.482
    assert round(cost.legacy_flops / 1e9, 3) == 71.703


def test_counting_leaves_the_network_as_it_was() -> None:
    net = create_model("tsm_resnet18", 5, width=8).train()
    net.base_model.layer1.eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    count(net, (1, 4, 3, 64, 64))
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
