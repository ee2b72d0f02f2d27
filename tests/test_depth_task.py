"""DepthTask: network, decoders and loss together, and the network alone afterwards."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dynagest.errors import ModelError
from dynagest.networks.build import create_model
from dynagest.networks.streaming import StreamNet
from dynagest.task.decoder import MultiScaleDecoder
from dynagest.task.depth import DepthTask
from dynagest.task.loss import DepthLoss, LossWeights
from dynagest.task.saved import learnt_threshold, load_decoders


@pytest.fixture
def batch() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    rgb = torch.randn(2, 3, 3, 32, 32, generator=generator)
    return rgb, torch.tensor([0, 2]), torch.rand(2, 3, 1, 32, 32, generator=generator), torch.tensor([True, True])


def test_output(batch: tuple[torch.Tensor, ...]) -> None:
    net = create_model("action_resnet18", 5, width=16).eval()
    task = DepthTask(net, MultiScaleDecoder.for_model(net, image_size=32))
    output = task(*batch)
    assert torch.equal(output.logits, net(batch[0]))
    assert output.masks.local.shape == (6, 1, 32, 32)
    assert output.masks.global_.shape == (6, 1, 8, 8)
    entropy, local, global_ = (output.terms[name] for name in ("cross_entropy", "local", "global"))
    torch.testing.assert_close(entropy, F.cross_entropy(output.logits, batch[1]))
    torch.testing.assert_close(local, F.mse_loss(output.masks.local, batch[2].flatten(0, 1)))
    torch.testing.assert_close(output.loss, entropy + local + 0.01 * global_)
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("which", ["local", "global", "both"])
def test_a_run_lacks_the_terms_of_decoders_that_it_lacks(which: str) -> None:
    net = create_model("tsm_resnet18", 5, width=16)
    task = DepthTask(net, MultiScaleDecoder.for_model(net, image_size=32, which=which), DepthLoss(LossWeights(2, 3, 4)))
    weights = {name: term.weight for name, term in task.terms.items()}
    expected = {"cross_entropy": 2, "local": 3, "global": 4}
    assert weights == {name: None if {name, which} == {"local", "global"} else expected[name] for name in expected}
    assert [term.weight for term in DepthTask(net).terms.values()] == [1, None, None]


def test_decoders_are_no_part_of_the_network(batch: tuple[torch.Tensor, ...]) -> None:
    net = create_model("tsm_resnet18", 5, width=16)
    names = list(net.state_dict())
    task = DepthTask(net, MultiScaleDecoder.for_model(net, image_size=32))
    task(*batch).loss.backward()
    assert list(task.network.state_dict()) == names
    assert {name.split(".")[0] for name in task.state_dict()} == {"network", "decoder"}


def test_decoders_are_saved_beside_the_network(tmp_path: Path) -> None:
    net = create_model("tsm_resnet18", 5, width=16)
    task = DepthTask(net, MultiScaleDecoder.for_model(net, image_size=32), DepthLoss(threshold=0.25))
    task.save_companions(str(tmp_path))
    assert learnt_threshold(tmp_path) == 0.25
    saved = load_decoders(tmp_path, net).state_dict()
    assert saved.keys() == task.decoder.state_dict().keys()
    assert all(torch.equal(value, saved[name]) for name, value in task.decoder.state_dict().items())


def test_without_decoders_depth_is_not_looked_at(batch: tuple[torch.Tensor, ...]) -> None:
    net = create_model("tsn_resnet18", 5, width=16).eval()
    output = DepthTask(net)(batch[0], batch[1])
    assert output.masks is None
    torch.testing.assert_close(output.loss, F.cross_entropy(net(batch[0]), batch[1]))


@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet18"])
def test_chained_clips_are_seen_as_a_stream_sees_them(name: str) -> None:
    """What is trained is what runs: the streaming form's logits after the last frame of each clip."""
    net = create_model(name, 5, 3, width=16, options={"online": True}).eval()
    clips = torch.randn(4, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 3])
    task = DepthTask(net, MultiScaleDecoder.for_model(net, image_size=32), chained=True)
    alone = task.eval()(clips, labels, torch.rand(4, 3, 1, 32, 32), torch.ones(4, dtype=torch.bool))
    assert torch.equal(alone.logits, net(clips))
    task.train()
    net.eval()
    chained = task(clips, labels, torch.rand(4, 3, 1, 32, 32), torch.ones(4, dtype=torch.bool))
    stream, expected = StreamNet(net), []
    state = stream.initial_state(size=32)
    for frame in clips.flatten(0, 1):
        logits, state = stream(frame[None], state)
        expected.append(logits[0])
    torch.testing.assert_close(chained.logits, torch.stack(expected[2::3]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(chained.logits[0], alone.logits[0], rtol=1e-4, atol=1e-4)
    assert (chained.logits[1:] - alone.logits[1:]).abs().max() > 0.1 * alone.logits.std()
    assert chained.masks is not None
    assert chained.masks.local is not None
    assert chained.masks.local.shape == (12, 1, 32, 32)
    with pytest.raises(ModelError, match="no online network"):
        DepthTask(create_model(name, 5, 3, width=16), chained=True)


def test_attributes_of_foreign_networks_are_their_own(batch: tuple[torch.Tensor, ...]) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 3 * 32 * 32, 5))
    net.inputs = 3
    task = DepthTask(net)
    assert (task.inputs, task.uses_depth) == ("rgb", False)
    assert torch.equal(task(*batch).logits, net(batch[0]))


class Images(nn.Sequential):
    """A network for images (B, 3, H, W)."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Clips(nn.Module):
    """The module around it that the error describes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Images()

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.net(clip.flatten(0, 1)).unflatten(0, clip.shape[:2]).mean(dim=1)


def test_a_network_for_images_is_to_be_put_into_one_for_clips(batch: tuple[torch.Tensor, ...]) -> None:
    decoder = MultiScaleDecoder.for_model(Images(), "0", "1", image_size=32)
    for task in (DepthTask(Images()), DepthTask(Images(), decoder)):
        with pytest.raises(ModelError, match=r"^Images takes images, .*forward\(clip\).*net\(clip\.flatten\(0, 1\)\)"):
            task(*batch)
    net = Clips()
    output = DepthTask(net, MultiScaleDecoder.for_model(net, "net.0", "net.1", image_size=32))(*batch)
    assert torch.equal(output.logits, net(batch[0]))
    assert output.terms["local"] > 0


def test_a_module_that_is_called_for_each_frame_is_no_place_for_a_decoder(batch: tuple[torch.Tensor, ...]) -> None:
    class Loop(Clips):
        def forward(self, clip: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.net(frame) for frame in clip.unbind(1)]).mean(dim=0)

    net = Loop()
    task = DepthTask(net, MultiScaleDecoder.for_model(net, "net.0", "net.1", image_size=32))
    one = tuple(each[:1] for each in batch)  # whose single map would be broadcast over the frames
    with pytest.raises(ModelError, match=r"the local decoder read maps of 1 frames, but depth has 3 \(1 clips of 3\)"):
        task(*one)


@pytest.mark.parametrize(
    ("give", "found"),
    [(lambda logits: {"logits": logits}, "dict"), (lambda logits: logits[:, None], r"shape \(2, 1, 8\)")],
)
def test_a_network_that_gives_no_logits_is_told(give, found: str, batch: tuple[torch.Tensor, ...]) -> None:
    class Other(Clips):
        def forward(self, clip: torch.Tensor) -> torch.Tensor:
            return give(super().forward(clip))

    with pytest.raises(ModelError, match=rf"^Other gives {found} for clips; .* logits \(N, K\) alone"):
        DepthTask(Other())(*batch)


def test_memory_that_is_full_is_no_question_of_shape(batch: tuple[torch.Tensor, ...]) -> None:
    class Large(Clips):
        """Takes clips, and images as well."""

        def forward(self, clip: torch.Tensor) -> torch.Tensor:
            if clip.dim() == 5:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.net(clip)

    with pytest.raises(torch.OutOfMemoryError):
        DepthTask(Large())(*batch)


class Unpacks(nn.Module):
    """A network for images that reads their shape before anything else, as vision transformers do."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        count, _, _, _ = images.shape
        return images.reshape(count, -1)[:, :5]


@pytest.mark.parametrize("net", [Unpacks(), nn.Sequential(nn.BatchNorm2d(3), Unpacks())])
def test_a_network_for_images_is_known_whatever_it_says_of_a_clip(net: nn.Module, batch: tuple[torch.Tensor, ...]):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ModelError, match=r"takes images, .*forward\(clip\)"):
        DepthTask(net)(*batch)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert net.training


def test_other_errors_of_a_network_are_its_own(batch: tuple[torch.Tensor, ...]) -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        DepthTask(nn.Sequential(nn.Flatten(), nn.Linear(7, 5)))(*batch)


def test_zero_weights_give_the_class_gradient_alone(batch: tuple[torch.Tensor, ...]) -> None:
    net = create_model("tsm_resnet18", 5, width=16)
    DepthTask(net)(batch[0], batch[1]).loss.backward()
    alone = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    decoder = MultiScaleDecoder.for_model(net, image_size=32)
    DepthTask(net, decoder, DepthLoss(LossWeights(1, 0, 0)))(*batch).loss.backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(alone, net.parameters(), strict=True))


def test_depth_changes_what_the_network_learns(batch: tuple[torch.Tensor, ...]) -> None:
    net = create_model("tsm_resnet18", 5, width=16)
    task = DepthTask(net, MultiScaleDecoder.for_model(net, image_size=32))
    gradients = []
    for has_depth in (batch[3], torch.tensor([False, False])):
        net.zero_grad()
        task(*batch[:3], has_depth).loss.backward()
        gradients.append(net.base_model.conv1.weight.grad.clone())
    assert not torch.equal(*gradients)


def test_decoders_learn_a_mask() -> None:
    """A square that RGB shows becomes visible in both masks within some steps."""
    generator = torch.Generator().manual_seed(0)
    net = create_model("tsn_resnet18", 2, width=16)
    task = DepthTask(net, MultiScaleDecoder.for_model(net, image_size=32))
    rgb, depth = torch.randn(4, 2, 3, 32, 32, generator=generator) * 0.1, torch.zeros(4, 2, 1, 32, 32)
    for n, (y, x) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)]):
        rgb[n, :, :, y : y + 16, x : x + 16] += 2
        depth[n, :, :, y : y + 16, x : x + 16] = 1
    optimiser = torch.optim.Adam(task.parameters(), 3e-3)
    has_depth = torch.ones(4, dtype=torch.bool)
    for _ in range(60):
        output = task(rgb, torch.tensor([0, 1, 0, 1]), depth, has_depth)
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
    assert depth.square().mean().item() == 0.25
    assert output.terms["local"] < 0.03
    assert output.terms["global"] < 0.1


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), ValueError("1 value per channel")])
def test_what_goes_wrong_inside_a_network_of_clips_is_told_as_it_is(error: Exception) -> None:
    """The loop tells of a full GPU; an answer about the clip's shape would hide that."""
    net = create_model("tsm_resnet18", 5, num_segments=2, width=8, size=32)

    def fails(module: nn.Module, inputs: object) -> None:
        raise error

    net.base_model.layer2.register_forward_pre_hook(fails)
    with pytest.raises(type(error), match=str(error)):
        DepthTask(net)(torch.randn(2, 2, 3, 32, 32), torch.tensor([0, 1]))
