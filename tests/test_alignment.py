"""MTUT's task: the alignment by hand, who is drawn to whom, and that RGB alone is left."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from training_toys import toy_data, toy_recipe

from dynagest.clips.manifest import Clip, Manifest
from dynagest.errors import ModelError, RecipeError
from dynagest.networks.build import create_model
from dynagest.networks.weights import load_network
from dynagest.task.alignment import AlignmentTask, alignment, correlations
from dynagest.task.inputs import DEPTH_MEAN, DEPTH_STD
from dynagest.training.assemble import build_task
from dynagest.training.data import TrainingData
from dynagest.training.log import read_log
from dynagest.training.optimiser import parameter_groups
from dynagest.training.recipe import Recipe
from dynagest.training.trainer import train

CPU = torch.device("cpu")
TAP = "features.mixed_3c"


def mtut(**changes: object) -> Recipe:
    values = {"model": "i3d", "task": "alignment", "msd": "none", "align_at": TAP, "epochs": 1, "milestones": ()}
    return toy_recipe(**(values | changes))


def task(weight: float = 0.5, model: str = "i3d", tap: str = TAP, class_weight: float = 1.0) -> AlignmentTask:
    torch.manual_seed(0)
    rgb, depth = (create_model(model, 3, 4, width=8, options=options) for options in ({}, {"inputs": "depth"}))
    return AlignmentTask(rgb, depth, tap, weight, class_weight)


@pytest.fixture
def batch() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    rgb, depth = torch.randn(3, 4, 3, 32, 32, generator=generator), torch.rand(3, 4, 1, 32, 32, generator=generator)
    return rgb, torch.tensor([0, 2, 1]), depth, torch.tensor([True, False, True])


def test_correlations_by_hand() -> None:
    features = torch.tensor([[3.0, 4.0], [0.0, 2.0]]).view(1, 2, 1, 1, 2)  # 2 channels at 2 positions
    unit = [[0.6, 0.8], [0.0, 1.0]]
    expected = [[sum(c[p] * c[q] for c in unit) for q in range(2)] for p in range(2)]
    torch.testing.assert_close(correlations(features, clips=1), torch.tensor([expected]))


def test_frames_are_positions_of_their_clip() -> None:
    features = torch.randn(6, 5, 2, 2)  # 2 clips of 3 frames
    found = correlations(features, clips=2)
    assert found.shape == (2, 12, 12)
    volumes = torch.stack([features[3 * n : 3 * n + 3].transpose(0, 1) for n in range(2)])
    torch.testing.assert_close(found, correlations(volumes, clips=2))


def test_alignment_by_hand() -> None:
    """The one that knows a clip less well is drawn, by exp(2 * difference) - 1 times the root mean square."""
    ours, theirs = torch.zeros(2, 2, 2, requires_grad=True), torch.full((2, 2, 2), 3.0, requires_grad=True)
    our_entropy = torch.tensor([1.5, 0.2], requires_grad=True)
    found = alignment(ours, theirs, our_entropy, torch.tensor([1.0, 0.9]))
    torch.testing.assert_close(found, torch.tensor([(math.e - 1) * 3, 0.0]))
    found.sum().backward()
    assert theirs.grad is None
    assert our_entropy.grad is None
    torch.testing.assert_close(ours.grad[0], torch.full((2, 2), -(math.e - 1) / 4))
    assert ours.grad[1].abs().max() == 0


def test_alignment_is_finite_however_wrong_a_network_is() -> None:
    ours = torch.zeros(2, 2, 2, requires_grad=True)
    found = alignment(ours, torch.zeros(2, 2, 2), torch.tensor([500.0, 1.0]), torch.tensor([0.0, 1.0]))
    found.clamp(max=2000).sum().backward()
    assert found.isfinite().all()
    assert ours.grad.isfinite().all()


def test_loss_by_hand(batch: tuple[torch.Tensor, ...]) -> None:
    """Of three clips the second has no depth: it trains the RGB network only."""
    training = task().eval()
    rgb, label, depth, _ = batch
    output = training(*batch)
    logits, others = training.network(rgb), training.partner((depth - DEPTH_MEAN) / DEPTH_STD)
    assert torch.equal(output.logits, logits)
    entropy = F.cross_entropy(logits, label, reduction="none")
    other = F.cross_entropy(others, label, reduction="none")
    torch.testing.assert_close(output.terms["cross_entropy"], entropy.mean())
    torch.testing.assert_close(output.terms["depth_cross_entropy"], (other[0] + other[2]) / 2)
    total = sum(output.terms[name] * weight for name, weight in zip(output.terms, (1, 1, 0.5), strict=True))
    torch.testing.assert_close(output.loss, total)
    assert output.terms["alignment"] > 0
    less = task(class_weight=0.25).eval()
    assert [term.weight for term in less.terms.values()] == [0.25, 0.25, 0.5]
    torch.testing.assert_close(
        less(*batch).loss, sum(output.terms[name] * term.weight for name, term in less.terms.items())
    )
    without = task(weight=0).eval()(*batch)
    assert without.terms["alignment"] == 0
    torch.testing.assert_close(without.loss, entropy.mean() + (other[0] + other[2]) / 2)


def test_clip_without_depth_does_not_reach_the_partner(batch: tuple[torch.Tensor, ...]) -> None:
    training = task().eval()
    rgb, label, depth, _ = batch
    training(rgb, label, depth, torch.zeros(3, dtype=torch.bool)).loss.backward()
    assert all(p.grad.abs().max() == 0 for p in training.partner.parameters())
    assert training.network.classifier.weight.grad.abs().max() > 0


@pytest.mark.parametrize(("better", "worse"), [("partner", "network"), ("network", "partner")])
def test_alignment_draws_only_the_worse_network(batch: tuple[torch.Tensor, ...], better: str, worse: str) -> None:
    training = task(weight=1.0, class_weight=0.0).eval()
    rgb, label, depth, _ = batch
    with torch.no_grad():  # right about everything
        getattr(training, better).classifier.bias.copy_(torch.tensor([20.0, 0.0, 0.0]))
    label = torch.zeros_like(label)
    training(rgb, label, depth, torch.ones(3, dtype=torch.bool)).loss.backward()
    assert getattr(training, worse).features.conv1.conv.weight.grad.abs().max() > 0
    assert getattr(training, better).features.conv1.conv.weight.grad.abs().max() == 0


@pytest.mark.parametrize("worse", ["network", "partner"])
def test_a_clip_pulls_with_ten_at_most(batch: tuple[torch.Tensor, ...], worse: str) -> None:
    training = task(weight=0.5).eval()
    rgb, _, depth, has_depth = batch
    with torch.no_grad():  # sure of the wrong class, which the other one is not
        getattr(training, worse).classifier.bias.copy_(torch.tensor([200.0, 0.0, 0.0]))
    output = training(rgb, torch.ones(3, dtype=torch.long), depth, has_depth)
    assert 0.5 * output.terms["alignment"].item() == pytest.approx(10)


def test_any_network_with_feature_maps_can_be_aligned(batch: tuple[torch.Tensor, ...]) -> None:
    assert task(model="tsm_resnet18", tap="base_model.layer3")(*batch).terms["alignment"] > 0
    with pytest.raises(ModelError, match="taps need feature maps"):
        task(model="tsm_resnet18", tap="classifier")(*batch)


def test_both_classifiers_have_the_classifiers_rate() -> None:
    groups = {group.name: group.names for group in parameter_groups(build_task(mtut(), 3, CPU)[0], mtut())}
    assert groups["classifier weight"] == ("network.classifier.weight", "partner.classifier.weight")


def test_the_rgb_network_starts_as_without_a_partner() -> None:
    alone = build_task(mtut(task="msd"), 3, CPU)[0].network.state_dict()
    beside = build_task(mtut(), 3, CPU)[0].network.state_dict()
    assert all(torch.equal(value, beside[name]) for name, value in alone.items())


def test_two_stages_and_rgb_alone_is_saved(tmp_path: Path) -> None:
    recipe = mtut(stages=[{"name": "apart", "changes": {"alignment_weight": 0.0}}], alignment_weight=0.5)
    train(recipe, toy_data(sparse_depth=True), tmp_path)
    logs = [
        [line for line in read_log(folder) if line["event"] == "epoch"]
        for folder in (tmp_path / "stages" / "1-apart", tmp_path)
    ]
    assert logs[0][0]["train"]["alignment"] is None
    assert logs[1][0]["train"]["alignment"] > 0
    means = logs[1][0]["train"]
    assert means["loss"] == pytest.approx(
        means["cross_entropy"] + means["depth_cross_entropy"] + 0.5 * means["alignment"]
    )
    names = load_file(tmp_path / "network.safetensors").keys()
    assert not [name for name in names if "partner" in name]
    net, card = load_network(tmp_path)
    assert (card.model, card.inputs) == ("i3d", "rgb")
    assert net(torch.zeros(1, 4, 3, 32, 32)).shape == (1, 3)
    apart, last = (
        load_file(folder / "checkpoint.safetensors") for folder in (tmp_path / "stages" / "1-apart", tmp_path)
    )
    assert "task.partner.classifier.weight" in last.keys() & apart.keys()


def test_the_next_run_starts_both_networks_from_those_of_this_one(tmp_path: Path) -> None:
    """As MTUT on NVGesture starts from MTUT on EgoGesture; from an RGB network alone, depth's stem is inflated.

    What is told for the log says of each network what it got.
    """
    train(mtut(), toy_data(), tmp_path)
    trained = load_file(tmp_path / "checkpoint.safetensors")
    task, begun = build_task(mtut(init=str(tmp_path), seed=7), 3, CPU)
    for name, value in task.state_dict().items():
        assert torch.equal(value, trained[f"task.{name}"]), name
    tensors = len(task.network.state_dict())
    assert str(begun).splitlines() == [
        f"{tmp_path / 'network.safetensors'}: dynagest weights, {tensors} tensors loaded",
        f"its depth network from {tmp_path / 'partner.safetensors'}: dynagest weights, {tensors} tensors loaded",
    ]
    (tmp_path / "partner.safetensors").unlink()
    task, begun = build_task(mtut(init=str(tmp_path), seed=7), 3, CPU)
    inflated, stem = task.state_dict(), "features.conv1.conv.weight"
    assert str(begun).splitlines()[1:] == [
        f"its depth network from {tmp_path / 'network.safetensors'}: dynagest weights, {tensors} tensors loaded",
        f"  stem inflated from RGB, depth by the mean of its colours: {stem}",
    ]
    torch.testing.assert_close(inflated[f"partner.{stem}"], trained[f"task.network.{stem}"].mean(dim=1, keepdim=True))


def test_it_needs_depth(tmp_path: Path) -> None:
    clips = [Clip(tmp_path / f"{k}.mp4", f"c{k % 2}", split=("train", "val")[k // 2], row=k + 2) for k in range(4)]
    with pytest.raises(RecipeError, match=r"no training clip has depth.*RGB alone"):
        TrainingData.of_manifest(Manifest.of(clips), mtut())
