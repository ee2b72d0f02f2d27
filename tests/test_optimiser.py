"""Parameter groups: the published multipliers, each parameter once."""

import pytest
import torch
from torch import nn

from dynagest.errors import ModelError, RecipeError
from dynagest.networks.build import create_model
from dynagest.task.decoder import MultiScaleDecoder
from dynagest.task.depth import DepthTask
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
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(1, 4), nn.Flatten(), nn.Linear(4, 2))
    groups = {group.name: group for group in parameter_groups(DepthTask(net), Recipe())}
    assert (groups["biases"].names, groups["biases"].lr, groups["biases"].decay) == (("network.0.bias",), 2, 0)
    assert groups["normalisation"].names == ("network.1.weight", "network.1.bias")


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
