"""The learning rate as a function of the step alone, so that a resumed run needs no scheduler's state."""

from bisect import bisect_right
from math import cos, pi

from dynagest.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The rate of optimiser step ``step`` (0-based, over the whole run), before the groups' multipliers."""
    epoch = step / steps_per_epoch
    if epoch < recipe.warmup_epochs:
        return recipe.scaled_lr * (step + 1) / (recipe.warmup_epochs * steps_per_epoch + 1)
    if recipe.schedule == "cosine":
        done = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
        return recipe.scaled_lr * 0.5 * (1 + cos(pi * done))
    if recipe.schedule == "step":
        return recipe.scaled_lr * recipe.gamma ** bisect_right(recipe.milestones, epoch)
    return recipe.scaled_lr
