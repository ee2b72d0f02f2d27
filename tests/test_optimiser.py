"""Parameter groups: the published multipliers, each parameter once; and what one step does with them."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from training_toys import ToyClips, toy_recipe

from dynagest.clips.dataset import Batch, collate
from dynagest.errors import ModelError, RecipeError
from dynagest.networks.build import create_model
from dynagest.task.decoder import MultiScaleDecoder
from dynagest.task.depth import DepthTask
from dynagest.training.assemble import build_task
from dynagest.training.engine import Engine
from dynagest.training.optimiser import build_optimiser, parameter_groups, set_learning_rate
from dynagest.training.recipe import Recipe

MODELS = ["tsn_resnet18", "tsm_resnet18", "action_resnet50", "tea_res2net50"]


def task(model: str, msd: bool = True) -> DepthTask:
    net = create_model(model, 5, width=16)
    return DepthTask(net, MultiScaleDecoder.for_model(net, image_size=64) if msd else None)


@pytest.mark.parametrize("msd", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_in_exactly_one_group(model: str, msd: bool) -> None:
    training = task(model, msd)
    names = [name for group in parameter_groups(training, Recipe()) for name in group.names]
    assert sorted(names) == sorted(name for name, _ in training.named_parameters())
    optimised = [id(p) for group in build_optimiser(training, Recipe()).param_groups for p in group["params"]]
    assert sorted(optimised) == sorted(id(p) for p in training.parameters())


def test_published_multipliers() -> None:
    groups = {
        group.name: group for group in parameter_groups(task("action_resnet50"), Recipe(decoder_lr=3, decoder_decay=2))
    }
    assert {name: (group.lr, group.decay) for name, group in groups.items()} == {
        "weights": (1, 1),
        "normalisation": (1, 0),
        "classifier weight": (5, 1),
        "classifier bias": (10, 0),
        "decoders": (3, 2),
    }
    assert groups["classifier weight"].names == ("network.classifier.weight",)
    assert "network.base_model.layer1.0.conv1.action_p1_conv1.weight" in groups["weights"].names
    assert "network.base_model.layer1.0.conv1.action_p3_bn1.bias" in groups["normalisation"].names
    assert all(name.startswith("decoder.") for name in groups["decoders"].names)
    assert len(groups["decoders"].names) == 5


def test_convolution_biases() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(1, 4), nn.Flatten(), nn.LayerNorm(4), nn.Linear(4, 2))
    groups = {group.name: group for group in parameter_groups(DepthTask(net), Recipe())}
    assert (groups["biases"].names, groups["biases"].lr, groups["biases"].decay) == (("network.0.bias",), 2, 0)
    assert groups["normalisation"].names == tuple(f"network.{k}.{name}" for k in (1, 3) for name in ("weight", "bias"))


def test_optimiser_uses_rate_and_decay_of_the_recipe() -> None:
    optimiser = build_optimiser(task("tsn_resnet18"), Recipe(batch=8, lr=0.0025, weight_decay=1e-5, decoder_lr=2))
    rates = sorted({group["lr"] for group in optimiser.param_groups})
    assert rates == pytest.approx([0.00125, 0.0025, 0.00625, 0.0125])
    assert {group["weight_decay"] for group in optimiser.param_groups} == {0.0, 1e-5}
    assert {group["momentum"] for group in optimiser.param_groups} == {0.9}
    set_learning_rate(optimiser, 1.0)
    assert sorted(group["lr"] for group in optimiser.param_groups) == [1, 1, 2, 5, 10]


def test_adamw_and_the_classifiers_rate() -> None:
    recipe = Recipe(optimiser="adamw", lr=0.002, classifier_lr=1, momentum=0.8, weight_decay=0.02)
    optimiser = build_optimiser(task("tsn_resnet18"), recipe)
    assert isinstance(optimiser, torch.optim.AdamW)
    assert sorted({group["lr"] for group in optimiser.param_groups}) == pytest.approx([0.002, 0.004])
    assert {group["betas"] for group in optimiser.param_groups} == {(0.8, 0.999)}


def test_adam_keeps_weight_decay_in_the_gradient() -> None:
    optimiser = build_optimiser(task("tsn_resnet18"), Recipe(optimiser="adam", lr=0.001, momentum=0.8))
    assert type(optimiser) is torch.optim.Adam
    assert {group["betas"] for group in optimiser.param_groups} == {(0.8, 0.999)}


def test_frozen_modules_are_not_trained() -> None:
    training = task("tsn_resnet18")
    training.freeze(("network.base_model", "decoder"))
    groups = parameter_groups(training, Recipe())
    assert [group.names for group in groups] == [("network.classifier.weight",), ("network.classifier.bias",)]
    training.train()
    assert not training.network.base_model.bn1.training
    assert training.network.dropout.training
    with pytest.raises(RecipeError, match=r"no module 'network.base_modle'.*did you mean network.base_model"):
        training.freeze(("network.base_modle",))
    training.freeze(("network",))
    with pytest.raises(RecipeError, match="nothing is left to be trained"):
        build_optimiser(training, Recipe())


def test_one_step_by_hand() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 1))
    net[1].weight.data.fill_(2.0)
    optimiser = build_optimiser(DepthTask(net), Recipe(lr=0.1, weight_decay=0.5))
    net(torch.ones(1, 1)).sum().backward()
    optimiser.step()
    # gradient 1 + decay 0.5 * 2, rate 0.1 * 5; the bias: gradient 1, rate 0.1 * 10, no decay (it starts random: skip
    # it).
    assert net[1].weight.item() == pytest.approx(2.0 - 0.5 * (1 + 0.5 * 2))


def test_network_without_classifier() -> None:
    with pytest.raises(ModelError, match="no linear layer"):
        parameter_groups(DepthTask(nn.Conv2d(3, 3, 1)), Recipe())


def engine(**changes: object) -> Engine:
    recipe = toy_recipe(**changes)
    return Engine(Accelerator(cpu=True), build_task(recipe, 3, torch.device("cpu"))[0], recipe)


def toy_batch() -> Batch:
    """Four clips, one of them without depth."""
    batch, _ = collate([ToyClips(sparse_depth=True)[0, index] for index in range(4)])
    assert batch is not None
    return batch


def gradients(training: Engine) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in training.task.named_parameters() if p.grad is not None}


def step(training: Engine, batch: Batch, number: int = 0, lr: float = 0.01) -> float:
    """One step but for its update. Returns the gradient's norm before it was cut."""
    return training.step(batch, training.agree((batch, []), stop=False), number, lr)[1]


def test_a_step_cuts_the_gradient_sets_the_rate_and_begins_anew() -> None:
    training, batch = engine(clip_norm=0.01, momentum=0.0, weight_decay=0.0), toy_batch()
    before = {name: value.detach().clone() for name, value in training.task.named_parameters()}
    assert step(training, batch, lr=0.003) > 0.1
    cut = gradients(training)
    assert torch.stack([value.norm() for value in cut.values()]).norm().item() == pytest.approx(0.01, rel=1e-3)
    training.update()
    after = dict(training.task.named_parameters())
    for name, times in (("network.base_model.conv1.weight", 1), ("network.classifier.weight", 5)):
        torch.testing.assert_close(after[name], before[name] - 0.003 * times * cut[name], rtol=0, atol=1e-7)
    assert not gradients(training)


@pytest.mark.parametrize(("accumulate", "clips"), [(3, [2, 1, 1]), (9, [1, 1, 1, 1])])
def test_a_step_in_parts_has_the_gradient_of_the_whole(accumulate: int, clips: list[int]) -> None:
    """Where BatchNorm's statistics are frozen; those of a part are others than those of the whole.

    There are four clips, which are never cut into more parts.
    """
    frozen = {"frozen": ("network.base_model",), "clip_norm": 1e9}
    whole, parts, found = engine(**frozen), engine(accumulate=accumulate, **frozen), []
    parts.task.network.classifier.register_forward_hook(lambda module, x, y: found.append(len(y) // 4))  # frames
    assert step(parts, toy_batch()) == pytest.approx(step(whole, toy_batch()), rel=1e-4)
    expected = gradients(whole)
    assert found == clips
    assert {name.split(".")[0] for name in expected} == {"network", "decoder"}
    for name, value in gradients(parts).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-6, msg=name)


def test_training_goes_on_after_a_validation_as_before_it() -> None:
    """Where BatchNorm takes its statistics from the batch, and validation leaves them alone."""
    training, batch = engine(), toy_batch()
    mean = training.task.network.base_model.bn1.running_mean
    before = mean.clone()
    training.validate([(batch, [])])
    assert torch.equal(mean, before)
    step(training, batch)
    assert not torch.equal(mean, before)


def test_dropout_is_drawn_anew_in_each_step_and_from_its_number_alone() -> None:
    training, batch, drawn = engine(dropout=0.5), toy_batch(), []
    training.task.network.dropout.register_forward_hook(lambda module, x, y: drawn.append((y == 0) & (x[0] != 0)))
    for number in (0, 1, 0):
        step(training, batch, number)
        training.discard()
    assert 0.3 < drawn[0].float().mean() < 0.7
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize(("precision", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_network_computes_in_the_recipes_precision(precision: str, kind: torch.dtype) -> None:
    training, batch, kinds, innermost = engine(precision=precision), toy_batch(), [], []
    training.task.network.classifier.register_forward_hook(lambda module, x, y: kinds.append(y.dtype))
    for stage in (training.task.network.base_model.layer1, training.task.network.base_model.layer3):
        stage.register_forward_hook(
            lambda module, x, y: innermost.append(y.is_contiguous(memory_format=torch.channels_last))
        )
    step(training, batch)
    training.validate([(batch, [])])
    assert kinds == [kind, kind]
    assert innermost == [True] * 4, "the memory order is channels_last"
    assert {parameter.dtype for parameter in training.task.parameters()} == {torch.float32}


def test_processes_agree_on_the_smallest_share() -> None:
    """So that none of them cuts its share into more parts than another one has clips."""
    training = engine()
    other = torch.tensor([[1, 0, 2, 0, 0]])  # clips, with depth, unreadable, stop, error
    training.accelerator = SimpleNamespace(
        num_processes=2, device=torch.device("cpu"), gather=lambda share: torch.cat([share, other])
    )
    agreed = training.agree((toy_batch(), []), stop=True)
    assert (agreed.counts, agreed.fewest, agreed.unreadable, agreed.stop) == ((5, 3), 1, 2, True)
