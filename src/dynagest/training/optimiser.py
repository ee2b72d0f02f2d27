"""The optimiser with ACTION-Net's published parameter groups and an explicit one for the decoders.

The groups' (lr multiplier, weight-decay multiplier): convolutions (1, 1), their biases (2, 0), normalisation (1, 0),
the classifier's weight (5, 1) and bias (10, 0). The paper does not give the decoders' multipliers; here the recipe sets
them. It also sets the classifier's factor of 5, which is right for fine-tuning by SGD but too much for AdamW from
scratch.
"""

from dataclasses import dataclass

import torch
from torch import nn

from dynagest.errors import ModelError, RecipeError
from dynagest.networks.clipnet import ClipNet
from dynagest.task.base import Task
from dynagest.training.recipe import Recipe

NORMALISATIONS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that share multipliers of learning rate and weight decay.

    ``names`` are as in ``task.named_parameters``.
    """

    name: str
    lr: float
    decay: float
    names: tuple[str, ...]


def parameter_groups(task: Task, recipe: Recipe) -> tuple[ParameterGroup, ...]:
    """The task's parameter groups: every parameter that is trained is in exactly one. Empty groups are left out."""
    multipliers = {
        "weights": (1.0, 1.0),
        "biases": (2.0, 0.0),
        "normalisation": (1.0, 0.0),
        "classifier weight": (recipe.classifier_lr, 1.0),
        "classifier bias": (2 * recipe.classifier_lr, 0.0),
        "decoders": (recipe.decoder_lr, recipe.decoder_decay),
    }
    members: dict[str, list[str]] = {name: [] for name in multipliers}
    classifiers = _classifiers(task)
    for path, module in task.named_modules():
        for name, parameter in module.named_parameters(path, recurse=False):
            if not parameter.requires_grad:
                continue
            if name.startswith("decoder."):
                kind = "decoders"
            elif module in classifiers:
                kind = "classifier weight" if parameter.dim() > 1 else "classifier bias"
            elif isinstance(module, NORMALISATIONS):
                kind = "normalisation"
            else:
                kind = "weights" if parameter.dim() > 1 else "biases"
            members[kind].append(name)
    return tuple(ParameterGroup(kind, *multipliers[kind], tuple(names)) for kind, names in members.items() if names)


def build_optimiser(task: Task, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over the parameter groups, each with its ``lr_multiplier`` for ``set_learning_rate``.

    Raises ``RecipeError`` when nothing is left to be trained, ``ModelError`` for a network without a linear layer.
    """
    parameters = dict(task.named_parameters())
    chosen = parameter_groups(task, recipe)
    if not chosen:
        raise RecipeError("frozen: nothing is left to be trained; name fewer modules")
    groups = [
        {
            "params": [parameters[name] for name in group.names],
            "lr": recipe.scaled_lr(recipe.batch) * group.lr,
            "lr_multiplier": group.lr,
            "weight_decay": recipe.weight_decay * group.decay,
        }
        for group in chosen
    ]
    if recipe.optimiser != "sgd":
        kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
        return kind(groups, lr=recipe.scaled_lr(recipe.batch), betas=(recipe.momentum, 0.999))
    return torch.optim.SGD(groups, lr=recipe.scaled_lr(recipe.batch), momentum=recipe.momentum)


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group to ``lr`` times its multiplier."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["lr_multiplier"]


def _classifiers(task: Task) -> list[nn.Module]:
    """The layers that compute logits: one in each ``ClipNet``; in a network of another kind, the last linear layer."""
    found: list[nn.Module] = [module.classifier for module in task.modules() if isinstance(module, ClipNet)]
    if isinstance(task.network, ClipNet):
        return found
    linear = [module for module in task.network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        name = type(task.network).__name__
        raise ModelError(f"{name} has no linear layer, so no classifier to give its learning rate")
    return [*found, linear[-1]]
