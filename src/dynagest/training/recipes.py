"""The recipes by name: the paper's three schedules, and small ones: demo, live and webcam. Needs no torch.

The paper's settings are in its section IV. What it leaves out comes from ACTION-Net's public settings (issue 6 there:
batch 16, lr 0.0025, weight decay 1e-5, no dropout).
"""

from collections.abc import Callable

from dynagest.errors import RecipeError, hint
from dynagest.training.recipe import Recipe
from dynagest.training.recipes_systems import SYSTEMS


def egogesture() -> Recipe:
    """EgoGesture, 83 classes, from ImageNet weights (``init``).

    The paper trains on train + val, so no split is left to choose an epoch with: the last epoch is kept, and the test
    split is used once. To select by validation instead: ``train_splits=train validate_on=val``.
    """
    return Recipe(
        name="egogesture",
        starts_from="ImageNet weights of the backbone (torchvision's or Res2Net's)",
        epochs=25,
        milestones=(10, 15, 20),
        train_splits=("train", "val"),
        validate_on=None,
    )


def nvgesture() -> Recipe:
    """NVGesture, 25 classes, from the EgoGesture model (``init``).

    The data set has no validation split, so the last epoch is kept.
    """
    return Recipe(
        name="nvgesture", starts_from="the EgoGesture model", epochs=80, milestones=(50, 60, 70), validate_on=None
    )


def isogd() -> Recipe:
    """IsoGD, 249 classes, from the EgoGesture model (``init``).

    The paper reports on the validation split, so that split does not choose the epoch: the last one is kept.
    """
    return Recipe(
        name="isogd", starts_from="the EgoGesture model", epochs=35, milestones=(15, 25, 30), validate_on=None
    )


def _small() -> Recipe:
    """Settings for a small network that learns from scratch, or from another small one, on two CPU cores."""
    return Recipe(
        model="action_resnet18",
        width=16,
        size=64,
        optimiser="adamw",
        lr=0.002,
        weight_decay=0.02,
        classifier_lr=1.0,
        schedule="cosine",
        milestones=(),
        warmup_epochs=1,
        scales=(1.0, 0.875),
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
    )


def demo() -> Recipe:
    """A small ACTION network on generated gestures, from scratch, in minutes on two CPU cores.

    With the global decoder's weight at 10 it starts to learn sooner than at the paper's 0.01 (docs/results.md).
    """
    colours = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.05}
    return _small().with_overrides({"name": "demo", "epochs": 9, "lr": 0.003, "global_weight": 10.0, **colours})


def live() -> Recipe:
    """A small causal ACTION network for streams, from scratch, on generated gestures with pauses (preset ``live``).

    The network is at its best at the end, where the cosine reaches 0, so the last epoch is kept.
    """
    changes = {"name": "live", "options": {"online": True}, "chained": True, "epochs": 14, "warmup_epochs": 2}
    return _small().with_overrides({**changes, "validate_on": None})


def webcam() -> Recipe:
    """Fine-tunes a network (``init``) on a few clips of each gesture from your own camera, without depth.

    So few clips leave none to choose an epoch with: the last epoch is kept. Of a handful, 40 epochs are too few steps.
    """
    changes = {"name": "webcam", "msd": "none", "batch": 8, "lr": 0.002, "validate_on": None}
    length = {"epochs": 40, "fewest_steps": 240}
    origin = "a network that knows gestures, of the same model (such as runs/demo)"
    return _small().with_overrides({**changes, **length, "starts_from": origin})


PAPERS: dict[str, Callable[[], Recipe]] = {"egogesture": egogesture, "nvgesture": nvgesture, "isogd": isogd}
RECIPES: dict[str, Callable[[], Recipe]] = {**PAPERS, "demo": demo, "live": live, "webcam": webcam}


def get_recipe(name: str) -> Recipe:
    """The recipe of this name, or that of a system in the paper's tables: ``SYSTEM`` or ``SYSTEM@DATASET``.

    The default data set is EgoGesture. Raises ``RecipeError``, with close matches, for an unknown name.

    Example: ``get_recipe("tsm-msd@nvgesture")``
    """
    if name in RECIPES:
        return RECIPES[name]()
    system, at, dataset = name.partition("@")
    dataset = dataset if at else "egogesture"
    if not at and system not in SYSTEMS:
        raise _unknown("recipe", name, (*RECIPES, *SYSTEMS))
    if system not in SYSTEMS:
        raise _unknown("system", system, tuple(SYSTEMS))
    if dataset not in PAPERS:
        raise _unknown("data set of the paper", dataset, tuple(PAPERS))
    return SYSTEMS[system](PAPERS[dataset]()).with_overrides({"name": f"{system}@{dataset}"})


def _unknown(kind: str, name: str, known: tuple[str, ...]) -> RecipeError:
    return RecipeError(f"there is no {kind} {name!r}; {hint(name, known)}")
