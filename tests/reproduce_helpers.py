"""What the tests of ``reproduce`` share: a small job on a small generated set, and speeds that nobody measured."""

from pathlib import Path

from dynagest.reproduce.jobs import Generated, Job
from dynagest.reproduce.speed import Speeds
from dynagest.synth.spec import PRESETS, PerSplit
from dynagest.training.recipe import Recipe
from dynagest.training.recipes import get_recipe


class SetSpeeds(Speeds):
    """One second a clip for each frame of it."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))

    def seconds_per_clip(self, recipe: Recipe, num_classes: int) -> float:
        return float(recipe.num_segments)


NO_SPEEDS = SetSpeeds()

SPEC = PRESETS["demo"].model_copy(
    update={
        "classes": ("grab", "swipe_left"),
        "size": 36,
        "num_frames": 8,
        "supersample": 1,
        "clips_per_class": PerSplit(train=4, val=1, test=2),
    }
)


def job(**fields) -> Job:
    changes = {"model": "tsm_resnet18", "width": 8, "size": 32, "batch": 4, "epochs": 2, "precision": "fp32"}
    recipe = get_recipe("demo").with_overrides(
        changes | {"num_segments": 4, "workers": 0, "validate_on": None, "warmup_epochs": 0, "msd": "local"} | fields
    )
    return Job(recipe=recipe, data=Generated(name="generated", spec=SPEC))
