"""A temporal module of one's own, in a program, as docs/design.md describes it."""

from pathlib import Path
from typing import Literal

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from network_helpers import random_clip
from torch import Tensor, nn

from dynagest.card import NetworkCard
from dynagest.errors import ModelError
from dynagest.export.write import convert_clips, stream_form
from dynagest.networks.build import TEMPORAL, Temporal, create_model, list_models
from dynagest.networks.weights import load_network, load_weights, save_network
from dynagest.task.decoder import MultiScaleDecoder


class TemporalDifference(nn.Module):
    def __init__(self, net: nn.Conv2d) -> None:
        super().__init__()
        self.net = net
        self.scale = nn.Parameter(torch.ones(net.in_channels, 1, 1))

    def forward(self, x_BCHW: Tensor, num_frames: int) -> Tensor:
        x = x_BCHW.unflatten(0, (-1, num_frames))
        steps = F.pad(x[:, 1:] - x[:, :-1], (0, 0, 0, 0, 0, 0, 0, 1)).flatten(0, 1)
        return self.net(x_BCHW + self.scale * steps)


@pytest.fixture(autouse=True)
def _difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEMPORAL, "my_diff", Temporal(TemporalDifference))


def test_it_is_in_every_block_of_a_resnet_of_its_name(tmp_path: Path) -> None:
    assert "my_diff_resnet50" in list_models()
    torch.manual_seed(0)
    net = create_model("my_diff_resnet18", 3, width=8).eval()
    assert sum(isinstance(module, TemporalDifference) for module in net.modules()) == 8
    decoders = MultiScaleDecoder.for_model(net, image_size=32).parts()
    assert [decoder.widths for _, decoder in decoders] == [(8, 8, 1), (64, 64, 32, 1)]

    save_network(tmp_path, net, NetworkCard(model="my_diff_resnet18", classes=("a", "b", "c"), width=8))
    clip = random_clip(size=32)
    with torch.no_grad():
        assert torch.equal(load_network(tmp_path)[0](clip), net(clip))


def test_it_starts_from_image_net_and_keeps_its_own_values(tmp_path: Path) -> None:
    plain, net = create_model("tsn_resnet18", 3, width=8), create_model("my_diff_resnet18", 3, width=8)
    torch.save(plain.base_model.state_dict(), tmp_path / "resnet18.pth")
    report = load_weights(net, tmp_path / "resnet18.pth")
    assert sorted(report.missing) == sorted(name for name in net.state_dict() if name.endswith("conv1.scale"))
    assert torch.equal(net.base_model.layer2[0].conv1.net.weight, plain.base_model.layer2[0].conv1.weight)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_it_is_exported(to: Literal["onnx", "openvino"]) -> None:
    torch.manual_seed(0)
    net, clip = create_model("my_diff_resnet18", 3, 4, width=8).eval(), random_clip(size=32)
    card = NetworkCard(model="my_diff_resnet18", classes=("a", "b", "c"), num_segments=4, size=32, width=8)
    model, _ = convert_clips(net, card, to)
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"clips": clip.numpy()})
    still = clip[:1, :1].expand(1, 4, 3, 32, 32)  # what the first frame of a stream stands for
    with torch.no_grad():
        assert found == pytest.approx(net(clip).numpy(), abs=1e-5)
        form = stream_form(net, 32, to, "fp32")
        assert torch.allclose(form(clip[0, :1], list(form.first.values()))[0], net(still), atol=1e-5)


def test_it_has_no_online_form_unless_it_is_given_one() -> None:
    with pytest.raises(ModelError, match="has no option 'online'"):
        create_model("my_diff_resnet18", 3, options={"online": True})


def test_a_fault_of_its_own_is_told_by_the_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TemporalDifference, "forward", lambda self, x_BCHW: self.net(x_BCHW))
    with pytest.raises(ModelError, match="takes 2 positional arguments but 3 were given"):
        MultiScaleDecoder.for_model(create_model("my_diff_resnet18", 3, width=8), image_size=32)
