"""A recipe: every number of a training run, as a typed, frozen record that can be written as JSON. Needs no torch."""

from collections.abc import Mapping
from math import ceil
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import to_jsonable_python

from dynagest.card import Frames, Sampling, Side, Width
from dynagest.clips.splits import Split
from dynagest.errors import RecipeError
from dynagest.networks.spec import NetworkSpec, inputs_of
from dynagest.settings import override

Precision = Literal["auto", "bf16", "fp32"]
# Far above what anybody trains with, and so small that steps and clips of a whole run can be counted and listed.
Count = Annotated[int, Field(le=1_000_000)]
Processes = Annotated[int, Field(le=1024)]  # or threads: what a machine is not brought down by

# These may change when a run is resumed, because they do not affect its result.
WITHOUT_EFFECT = frozenset(
    {"workers", "prefetch", "checkpoint_seconds", "checkpoint_steps", "log_steps", "starts_from"}
)
# These belong to the run as a whole: a stage cannot have its own.
OF_THE_WHOLE = frozenset({"name", "seed", "init", "starts_from", "stages", "fewest_steps", "threads"})


class Stage(BaseModel):
    """A training that comes before a recipe's own: its name, and the recipe's fields that have other values in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    changes: dict[str, Any] = {}

    @field_validator("changes")
    @classmethod
    def _plain(cls, changes: dict[str, Any]) -> dict[str, Any]:
        whole = sorted(changes.keys() & OF_THE_WHOLE)
        if whole:
            raise ValueError(f"a stage cannot change {', '.join(whole)}; they are of the whole run")
        plain: dict[str, Any] = to_jsonable_python(changes)  # the same before and after recipe.json
        return plain


class Recipe(BaseModel):
    """Every number of a run, described field by field; the defaults are the paper's where it has any.

    Raises pydantic's ``ValidationError`` for a wrong value and for fields that do not fit together.

    Example: ``recipe = get_recipe("egogesture").with_overrides({"model": "tsm_resnet50", "batch": "8"})``
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(default="custom", description="the recipe that this one started as")
    seed: int = Field(default=0, ge=0, lt=2**63, description="decides initial weights, data order and augmentation")

    model: str = Field(default="action_resnet50", description="a name from `dynagest count --list`")
    width: Width = Field(default=64, description="channels of the stem; 64 is the published network")
    num_segments: Frames = Field(default=8, description="frames of a clip, T")
    size: Side = Field(default=224, description="side of the square input in pixels")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="before the classifier; the paper's figures are without"
    )
    options: dict[str, Any] = Field(default={}, description="the network's own switches, as in {inputs: rgbd}")
    init: str | None = Field(default=None, description="weights to start from: a run folder or a checkpoint file")
    starts_from: str = Field(
        default="",
        description="what `init` is meant to be; without it a run says so. Empty: made to start from scratch",
    )

    stages: tuple[Stage, ...] = Field(
        default=(), description="trainings before this one, each handing its weights to the next"
    )
    frozen: tuple[str, ...] = Field(
        default=(), description="modules that are not trained, BatchNorm statistics included, as in network.base_model"
    )

    task: Literal["msd", "alignment", "segmentation"] = Field(
        default="msd", description="what is learnt besides the class: depth masks, a depth network's features, hands"
    )
    class_weight: float = Field(default=1.0, ge=0, description="factor of the class's cross-entropy")
    alignment_weight: float = Field(default=5e-3, ge=0, description="factor of the alignment of features (MTUT)")
    align_at: str = Field(default="features.mixed_5c", description="module whose features are aligned (MTUT)")
    mask_weight: float = Field(default=1.0, ge=0, description="factor of the hand mask's cross-entropy (Segmentation)")

    msd: Literal["none", "local", "global", "both"] = Field(
        default="both", description="which depth decoders train along"
    )
    local_scale: Literal["full", "quarter"] = Field(default="full", description="side of the local mask (Table VII)")
    global_scale: Literal["full", "quarter"] = Field(
        default="quarter", description="side of the global mask (Table VII)"
    )
    activation: Literal["linear", "sigmoid"] = Field(default="linear", description="at the decoders' output")
    local_weight: float = Field(default=1.0, ge=0, description="factor of the local mask's squared error (Table VI)")
    global_weight: float = Field(default=0.01, ge=0, description="factor of the global mask's squared error (Table VI)")
    binarise: bool = Field(default=False, description="depth targets as 0 or 1 (Table VIII)")
    threshold: float = Field(
        default=10.0, ge=0, le=255, description="of 255; depth above it is 1 when binarised, or hand (Segmentation)"
    )

    chained: bool = Field(
        default=False,
        description="clips of a step follow one another as in a stream: an online network begins each with what it "
        "remembers of the one before (of the same process and accumulated part)",
    )
    epochs: Count = Field(default=25, ge=1, description="passes over the training clips; `fewest_steps` may add some")
    fewest_steps: Count = Field(
        default=0,
        ge=0,
        description="where `epochs` make fewer steps than this, there are more of them; 0 once epochs is set",
    )
    batch: Count = Field(
        default=16, ge=1, description="clips of an optimiser step, over all processes and accumulated parts"
    )
    accumulate: Count = Field(default=1, ge=1, description="parts that a process cuts its share of the batch into")
    optimiser: Literal["sgd", "adam", "adamw"] = Field(
        default="sgd", description="the paper's is sgd; adamw learns faster from scratch"
    )
    lr: float = Field(default=0.0025, gt=0, description="for `lr_batch` clips; scaled linearly to a step's clips")
    lr_batch: Count = Field(default=16, ge=1, description="clips of a step that `lr` is for")
    schedule: Literal["step", "cosine", "constant"] = Field(
        default="step", description="how lr falls: at the milestones, by a cosine to 0, or not at all (constant)"
    )
    milestones: tuple[Count, ...] = Field(
        default=(10, 15, 20), description="epochs after which lr is multiplied by `gamma`"
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="factor of lr after each milestone")
    warmup_epochs: float = Field(default=0.0, ge=0, description="lr rises linearly from 0 over these")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd; adam's and adamw's first beta")
    weight_decay: float = Field(default=1e-5, ge=0, description="of weights; biases and normalisation have none")
    classifier_lr: float = Field(
        default=5.0, gt=0, description="the classifier's learning rate, as a multiple of lr; its bias has twice that"
    )
    decoder_lr: float = Field(default=1.0, gt=0, description="the decoders' learning rate, as a multiple of lr")
    decoder_decay: float = Field(
        default=1.0, ge=0, description="the decoders' weight decay, as a multiple of weight_decay"
    )
    clip_norm: float = Field(default=20.0, gt=0, description="the gradient's norm is cut to this")

    train_splits: tuple[Split, ...] = Field(
        default=("train",), min_length=1, description="splits whose clips are trained on"
    )
    validate_on: Literal["val", None] = Field(
        default="val", description="split that chooses the best epoch; none: the last is kept"
    )
    sampling: Sampling = Field(
        default="segment", description="a frame of each of T equal parts, or T frames of one window (dense)"
    )
    # A choice of how to train, as all defaults here. Those of `View` and `NetworkCard` are 1, the frames as they come.
    stride: Count = Field(default=2, ge=1, description="frames from one to the next, with dense sampling")
    crop: Literal["paper", "action"] = Field(
        default="paper", description="5 places and equal sides, or ACTION-Net's 13 places"
    )
    scales: tuple[float, ...] | None = Field(
        default=None, min_length=1, description="crop side / short side; none: the published"
    )
    jitter: float = Field(default=0.4, ge=0, le=1, description="share of clips whose colours are jittered")
    brightness: float = Field(default=0.8, ge=0, description="jittered by a factor of 1 - this to 1 + this")
    contrast: float = Field(default=0.8, ge=0, description="jittered as brightness is")
    saturation: float = Field(default=0.8, ge=0, description="jittered as brightness is")
    hue: float = Field(default=0.2, ge=0, le=0.5, description="jittered by up to this part of the colour circle")
    flip_labels: dict[str, str] | None = Field(
        default=None, description="mirror clips, renaming these classes; none: no mirroring"
    )
    unreadable_share: float = Field(
        default=0.01, ge=0, lt=1, description="training stops when more of an epoch is unreadable, and more than 3"
    )

    precision: Precision = Field(default="auto", description="auto: bf16 where the hardware has it")
    threads: Processes | None = Field(
        default=None, ge=1, description="of PyTorch in each process; rounding depends on it. none: as many as cores"
    )
    workers: Processes | None = Field(default=None, ge=0, description="data-loading processes; none: autodetected")
    prefetch: Count = Field(default=2, ge=1, description="batches that each worker prepares ahead")
    checkpoint_seconds: float = Field(default=300.0, gt=0, description="at most this long between checkpoints")
    checkpoint_steps: Count | None = Field(default=None, ge=1, description="also a checkpoint every so many steps")
    log_steps: Count = Field(
        default=10, ge=1, description="a line in the log every so many steps of an epoch, and at its end"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if "test" in self.train_splits:
            raise ValueError("train_splits: the test split is for testing; train on train, val or both")
        if self.validate_on in self.train_splits:
            raise ValueError(
                "validate_on: the split is also trained on, so it cannot choose the best epoch; "
                "set validate_on=none (the last epoch is kept) or take it out of train_splits"
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones: must rise, as in 10,15,20")
        if self.warmup_epochs >= self.epochs:
            raise ValueError("warmup_epochs: must be fewer than epochs; set warmup_epochs=0 for a very short run")
        if any(not 0 < scale <= 1 for scale in self.scales or ()):
            raise ValueError("scales: each in (0, 1], as in 1,0.875,0.75")
        if self.task != "msd" and self.msd != "none":
            raise ValueError(f"msd: the task {self.task} trains no depth decoders; set msd=none")
        if self.task == "alignment" and self.inputs != "rgb":
            raise ValueError("options: alignment trains an RGB network beside one of depth; leave inputs out")
        if self.chained and (self.task != "msd" or not self.options.get("online")):
            raise ValueError(
                "chained: only online networks remember another clip; set options='{online: true}' and task=msd, or "
                "chained=false"
            )
        if self.fewest_steps and self.stages:
            raise ValueError("fewest_steps: not for a recipe with stages; set the epochs of each")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError("stages: two have the same name")
        for place, name in enumerate(names):
            try:
                self.stage(place)
            except RecipeError as error:
                raise ValueError(f"stage {name}: {error}") from error
        return self

    @property
    def inputs(self) -> str:
        """What the network is fed: "rgb", "rgbd" or "depth"."""
        return inputs_of(self.options)

    def network_spec(self, num_classes: int) -> NetworkSpec:
        """The network that is trained, for so many classes."""
        return NetworkSpec(
            self.model, num_classes, self.num_segments, self.width, self.dropout, self.size, self.options
        )

    @property
    def uses_depth(self) -> bool:
        """Whether clips are read with their depth."""
        teaches = self.msd != "none" or self.task == "alignment" or (self.task == "segmentation" and self.mask_weight)
        return bool(teaches) or self.inputs != "rgb"

    @property
    def trainings(self) -> "tuple[Recipe, ...]":
        """The recipes that are trained one after the other: those of the stages, then this one."""
        return (*(self.stage(place) for place in range(len(self.stages))), self)

    def stage(self, place: int) -> "Recipe":
        """The recipe of stage ``place`` (0-based). Only the first stage starts from ``init``."""
        whole: dict[str, Any] = {"stages": ()} if place == 0 else {"stages": (), "init": None, "starts_from": ""}
        return override(self.model_copy(update=whole), self.stages[place].changes)

    def scaled_lr(self, clips: float) -> float:
        """The learning rate of a step of ``clips`` clips, before schedule and multipliers."""
        return self.lr * clips / self.lr_batch

    def long_enough(self, steps_per_epoch: int) -> "Recipe":
        """The recipe with the epochs that it is trained for: more than its own if ``fewest_steps`` takes more."""
        return self.with_overrides({"epochs": max(self.epochs, ceil(self.fewest_steps / steps_per_epoch))})

    def with_overrides(self, overrides: Mapping[str, Any]) -> "Recipe":
        """A copy with fields replaced; strings, as ``--set lr=0.01`` gives them, become the field's type.

        ``STAGE.FIELD`` is a field of one stage. A stage takes over every field that it does not change itself. Whoever
        sets ``epochs`` gets so many: ``fewest_steps`` is 0 then, unless it is set as well.
        Raises ``RecipeError`` as ``dynagest.settings.override`` does, and for an unknown stage.

        Example: ``get_recipe("mtut").with_overrides({"batch": 8, "apart.epochs": 2})``
        """
        own = {name: value for name, value in overrides.items() if "." not in name}
        if "epochs" in own:
            own = {"fewest_steps": 0} | own
        staged = {name: value for name, value in overrides.items() if "." in name}
        if not staged:
            return override(self, own)
        changes = {stage.name: dict(stage.changes) for stage in self.stages}
        for path, value in staged.items():
            stage, _, field = path.partition(".")
            if stage not in changes or "stages" in own:
                raise RecipeError(f"{path}: there is no stage {stage!r}; there are {', '.join(changes) or 'none'}")
            changes[stage][field] = value
        return override(self, own | {"stages": [{"name": name, "changes": each} for name, each in changes.items()]})

    def throughout(self, overrides: Mapping[str, Any]) -> "Recipe":
        """A copy with fields replaced in all stages as well, even where a stage had a value of its own."""
        stages = [
            {"name": stage.name, "changes": {k: v for k, v in stage.changes.items() if k not in overrides}}
            for stage in self.stages
        ]
        return override(self, {**overrides, "stages": stages})

    def differences(self, other: "Recipe") -> list[str]:
        """A line ``field: ours, theirs`` for each field that differs and affects the result of a run."""
        ours, theirs = self.model_dump(), other.model_dump()
        return [
            f"{key}: {ours[key]}, {theirs[key]}"
            for key in ours
            if key not in WITHOUT_EFFECT and ours[key] != theirs[key]
        ]
