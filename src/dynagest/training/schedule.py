"""The learning rate as a function of the step alone, so that a resumed run needs no scheduler's state."""

from bisect import bisect_right
from math import cos, pi

from dynagest.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int, clips: int) -> float:
    """The rate of optimiser step ``step`` (0-based, over the whole run), before the groups' multipliers.

    It is scaled to the average number of clips in a step, ``clips / steps_per_epoch``, and not to ``recipe.batch``:
    17 clips at a batch of 16 are cut into 9 + 8, and the paper halves the rate when the batch is halved. So a clip has
    the same weight in an epoch, wherever the epoch is cut.
    """
    epoch, full = step / steps_per_epoch, recipe.scaled_lr(clips / steps_per_epoch)
    if epoch < recipe.warmup_epochs:
        return full * (step + 1) / (recipe.warmup_epochs * steps_per_epoch + 1)
    if recipe.schedule == "cosine":
        done = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
        return full * 0.5 * (1 + cos(pi * done))
    if recipe.schedule == "step":
        return full * recipe.gamma ** bisect_right(recipe.milestones, epoch)
    return full
