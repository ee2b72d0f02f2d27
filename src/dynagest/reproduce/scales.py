"""The scales of the tables: ``smoke`` takes minutes, ``small`` nights on two cores, ``paper`` is as published.

``full`` has the published networks at their published size on generated clips, for a GPU (``benchmarks/full_size.py``).
At every scale but ``paper``, all systems learn the same clips from scratch, with one optimiser and one budget: they
share the method with the paper, not the numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dynagest.errors import RecipeError
from dynagest.synth.spec import PRESETS, PerSplit, SynthSpec
from dynagest.training.recipe import Recipe

# At these scales every system starts from random weights and trains by AdamW and a cosine, whatever its published
# schedule. It is the best of five recipes for plain TSM and TSN at scale small on seed 0; no network with decoders was
# used to choose it.
_FROM_SCRATCH: dict[str, Any] = {
    "starts_from": "",
    "optimiser": "adamw",
    "lr": 0.002,
    "lr_batch": 16,
    "weight_decay": 0.02,
    "classifier_lr": 1.0,
    "schedule": "cosine",
    "milestones": (),
    "warmup_epochs": 5,  # with 1, plain TSN stays at chance for half of its 20 epochs at scale small
    "train_splits": ("train",),
    "validate_on": None,
    "scales": (1.0, 0.875),
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "workers": 0,
    "checkpoint_seconds": 60.0,
}


# Fields of single systems at these scales. Generated clips have 16 frames; 3D networks see all of them, in order.
_ALL_FRAMES = {"num_segments": 16, "sampling": "segment"}
_SEEN: dict[str, dict[str, Any]] = {
    "prernn": {"num_segments": 32, "sampling": "segment"},  # two clips of 16, each frame shown twice
    **dict.fromkeys(("c3d", "resc3d", "mtut", "nas1", "resnext101_3d", "attention_lstm", "redundancy"), _ALL_FRAMES),
}
_SMALLER: dict[str, dict[str, Any]] = _SEEN | {
    "tsn": {"model": "tsn_resnet18"},
    "tsm": {"model": "tsm_resnet18"},
    "action": {"model": "action_resnet18"},
}
_PUBLISHED_SIDE = {name: fields | {"size": 224 if name == "mtut" else 112} for name, fields in _SEEN.items()}


@dataclass(frozen=True)
class Scale:
    """A scale: the number of seeds, the spec of the generated clips (None for ``paper``), and the recipes' fields.

    ``fields`` apply to every recipe, ``systems`` to the recipes of single systems.
    """

    name: str
    seeds: int
    spec: SynthSpec | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    systems: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def shrink(self, recipe: Recipe, system: str, each: int | None = None) -> Recipe:
        """A published recipe at this scale: task, stages and loss stay.

        The trainings share the scale's epochs, or have ``each`` so many.
        """
        fields = {"warmup_epochs": recipe.warmup_epochs, **self.fields}
        warmup = fields.pop("warmup_epochs")
        small = recipe.throughout({**fields, "warmup_epochs": 0}).with_overrides(self.systems.get(system, {}))
        if each is not None:
            return small.throughout(_epochs(each, warmup))
        each = max(small.epochs // (1 + len(small.stages)), 1)
        changes: dict[str, float] = {}
        for stage in small.stages:
            changes |= {f"{stage.name}.{field}": value for field, value in _epochs(each, warmup).items()}
        # The last training gets the remainder, so that all systems see the same number of clips.
        return small.with_overrides(changes | _epochs(max(small.epochs - each * len(small.stages), 1), warmup))


def _epochs(epochs: int, warmup: float) -> dict[str, float]:
    """The recipe fields for a training of this many epochs, of which at most a quarter are warm-up."""
    return {"epochs": epochs, "warmup_epochs": min(warmup, epochs // 4)}


# The people, scenes and clutter of the study.
_STUDY = PRESETS["demo"].model_copy(
    update={
        "num_frames": 16,
        "clutter": 0.4,
        "distractors": 0.3,
        "subjects": PerSplit(train=60, val=8, test=40),
        "scenes": PerSplit(train=300, val=40, test=200),
    }
)

SCALES = {
    "smoke": Scale(
        "smoke",
        seeds=1,
        spec=PRESETS["demo"].model_copy(
            update={
                "classes": PRESETS["demo"].classes[:4],
                "size": 36,
                "num_frames": 16,
                "supersample": 1,
                "clips_per_class": PerSplit(train=4, val=1, test=2),
                "subjects": PerSplit(train=4, val=1, test=2),
                "scenes": PerSplit(train=4, val=1, test=2),
            }
        ),
        fields=_FROM_SCRATCH
        | {"width": 8, "size": 32, "batch": 8, "epochs": 1, "warmup_epochs": 0, "precision": "fp32", "jitter": 0.0},
        systems=_SMALLER,
    ),
    "small": Scale(
        "small",
        seeds=5,
        spec=_STUDY.model_copy(update={"size": 56, "clips_per_class": PerSplit(train=100, val=10, test=120)}),
        fields=_FROM_SCRATCH | {"width": 16, "size": 48, "batch": 16, "epochs": 20, "precision": "bf16"},
        systems=_SMALLER,
    ),
    "full": Scale(
        "full",
        seeds=3,
        spec=_STUDY.model_copy(update={"size": 240, "clips_per_class": PerSplit(train=160, val=10, test=120)}),
        fields=_FROM_SCRATCH
        | {"lr": 0.001, "width": 64, "size": 224, "batch": 32, "epochs": 20, "precision": "bf16", "workers": None},
        systems=_PUBLISHED_SIDE,
    ),
    "paper": Scale("paper", seeds=1),
}


def get_scale(name: str) -> Scale:
    """The scale of this name. Raises ``RecipeError``, which lists the scales, for an unknown name."""
    if name not in SCALES:
        raise RecipeError(f"there is no scale {name!r}; there are {', '.join(SCALES)}")
    return SCALES[name]
