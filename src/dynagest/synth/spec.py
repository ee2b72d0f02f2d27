"""The settings of a generated data set, and presets of them."""

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from dynagest.card import BACKGROUND
from dynagest.clips.depth import PRESETS as DEPTH_PRESETS
from dynagest.clips.depth import DepthAffine, DepthSpec
from dynagest.clips.splits import Split
from dynagest.errors import RecipeError
from dynagest.synth.gestures import GESTURES
from dynagest.synth.motion import Viewpoint

Misalignment = Literal["none", "nvgesture", "isogd"]

# The maps from depth to colour, as measured on the real data sets.
MISALIGNMENT: dict[Misalignment, DepthAffine | None] = {
    "none": None,
    "nvgesture": DEPTH_PRESETS["nvgesture-aligned"].affine,
    "isogd": DEPTH_PRESETS["isogd-aligned"].affine,
}
FRAME_RATE = 12  # frames a second of a clip
# Fields of a spec that change the depth of a clip but no pixel of its RGB.
SENSOR = frozenset({"depth_noise", "depth_holes", "misalign", "declare_misalignment"})
NEAR_MM, FAR_MM = 150.0, 1000.0  # where canonical depth is 1 and 0
_OMITTED_UNUSED = ("background", "slack", "unmirrored")


class PerSplit(BaseModel):
    """One number for each split."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    train: int = Field(ge=1)
    val: int = Field(ge=1)
    test: int = Field(ge=1)

    def of(self, split: Split) -> int:
        """The number of ``split``."""
        return {"train": self.train, "val": self.val, "test": self.test}[split]


class SynthSpec(BaseModel):
    """The settings of a generated data set: who performs, where, what, and how hard the clips are.

    The same spec gives the same clips everywhere. Shares and strengths lie in [0, 1]. No two splits share subjects or
    scenes. ``get_preset("demo")`` gives one of the presets. Raises pydantic's ``ValidationError`` for a
    wrong value and for fields that do not fit together.

    Example: ``SynthSpec(num_frames=12, size=72, clutter=0.9).labels``
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, description="decides every subject, scene and clip")
    classes: tuple[str, ...] = Field(default=tuple(GESTURES), description="the gestures, by name")
    background: int = Field(
        default=0,
        ge=0,
        description='clips of the class "none" (pauses, other movements), as a multiple of those of one gesture',
    )
    slack: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="how loosely clips are cut, as a share of their length: the gesture's middle is at most so far "
        "from the clip's, and its length differs by at most half as much",
    )
    clips_per_class: PerSplit = Field(
        default=PerSplit(train=60, val=12, test=20), description="clips of each gesture in each split"
    )
    subjects: PerSplit = Field(default=PerSplit(train=40, val=8, test=12), description="people in each split")
    scenes: PerSplit = Field(default=PerSplit(train=200, val=40, test=60), description="places in each split")
    size: int = Field(default=112, ge=16, le=1024, description="height and width of a frame in pixels")
    num_frames: int = Field(default=16, ge=2, description="frames recorded of a clip")
    views: tuple[Viewpoint, ...] = Field(
        default=("egocentric", "frontal"), description="where the camera is: on the head, or facing the performer"
    )
    unmirrored: bool = Field(
        default=False, description="frontal clips as a camera takes them, not as a mirror shows the performer"
    )
    left_handed: float = Field(default=0.25, ge=0, le=1, description="share of left-handed subjects")
    style: float = Field(default=0.7, ge=0, le=1, description="how much people and performances differ")
    clutter: float = Field(default=0.5, ge=0, le=1, description="background texture and objects, from none to hard")
    distractors: float = Field(default=0.4, ge=0, le=1, description="things that move, some of them skin-coloured")
    shake: float = Field(default=0.3, ge=0, le=1, description="movement of the camera")
    blur: float = Field(default=0.4, ge=0, le=1, description="motion blur and defocus")
    light: float = Field(default=0.6, ge=0, le=1, description="how much light varies between scenes")
    rgb_noise: float = Field(default=0.3, ge=0, le=1, description="sensor noise of the colour camera")
    depth_noise: float = Field(
        default=0.4, ge=0, le=1, description="temporal and edge noise, quantisation of the depth sensor"
    )
    depth_holes: float = Field(default=0.4, ge=0, le=1, description="shadows, dropouts and dark surfaces without depth")
    misalign: Misalignment = Field(
        default="none", description="depth seen from another place than colour, as in the real sets"
    )
    declare_misalignment: bool = Field(
        default=False, description="write the map into depth.yaml so that it can be undone"
    )
    supersample: int = Field(default=2, ge=1, le=4, description="rays a side of a pixel for the hand")
    fresh: bool = Field(default=False, description="new training clips in every epoch instead of the same ones")

    @model_validator(mode="after")
    def _known_classes(self) -> Self:
        unknown = [name for name in self.classes if name not in GESTURES]
        if unknown or not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must be different names out of {', '.join(GESTURES)}; got {self.classes}")
        if not self.views:
            raise ValueError("views must name at least one of egocentric and frontal")
        if self.unmirrored and "frontal" in self.views and self.declare_misalignment:
            raise ValueError("declare_misalignment: the map between depth and colour is not that of unmirrored clips")
        return self

    # Specs name folders and identify runs. So the fields for live use, which came later, are left out where they are
    # not used: specs without them read as they did before.
    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name not in _OMITTED_UNUSED or value}

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(name, value) for name, value in super().__repr_args__() if name not in _OMITTED_UNUSED or value]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of the clips: the gestures, followed by "none" if there are background clips."""
        return (*self.classes, BACKGROUND) if self.background else self.classes

    @property
    def cycle(self) -> int:
        """The number of clips after which classes repeat: one of each gesture and ``background`` of "none"."""
        return len(self.classes) + self.background

    @property
    def seconds(self) -> float:
        """How long a clip lasts, in seconds."""
        return self.num_frames / FRAME_RATE

    def length(self, split: Split) -> int:
        """The number of clips in ``split``."""
        return self.clips_per_class.of(split) * self.cycle

    def depth_spec(self) -> DepthSpec:
        """How to read the generated depth: 16-bit millimetres, 0 where there is no depth."""
        affine = MISALIGNMENT[self.misalign] if self.declare_misalignment else None
        return DepthSpec(near="dark", scale_mm=1.0, min_mm=NEAR_MM, max_mm=FAR_MM, invalid=0, affine=affine)


# Small enough that, on two cores, it is rendered in a minute and learnt in four.
_DEMO = SynthSpec(
    classes=tuple(
        name
        for name in GESTURES
        if name not in ("circle_counterclockwise", "zoom_out", "show_fist", "tap", "double_tap", "beckon")
    ),
    clips_per_class=PerSplit(train=72, val=12, test=16),
    size=72,
    num_frames=12,
    views=("egocentric",),
    style=0.5,
    clutter=0.3,
    distractors=0.15,
    shake=0.2,
)

# For networks that watch a stream. They must know what is between gestures, which makes up most of a stream, and must
# know gestures that are not in the middle of a clip.
_LIVE = _DEMO.model_copy(
    update={
        "background": 8,
        "slack": 0.3,
        "clips_per_class": PerSplit(train=170, val=10, test=34),
        "subjects": PerSplit(train=80, val=8, test=16),
        "scenes": PerSplit(train=400, val=40, test=80),
    }
)

PRESETS: dict[str, SynthSpec] = {
    "default": SynthSpec(),
    "demo": _DEMO,
    "live": _LIVE,
    "desk": _LIVE.model_copy(update={"views": ("frontal",), "unmirrored": True}),
    "hard": SynthSpec(
        style=1.0,
        clutter=1.0,
        distractors=1.0,
        shake=0.8,
        blur=0.8,
        light=1.0,
        rgb_noise=0.6,
        depth_noise=0.8,
        depth_holes=0.8,
    ),
}


def get_preset(name: str) -> SynthSpec:
    """The preset called ``name``. Raises ``RecipeError``, which lists the presets, if there is none."""
    if name not in PRESETS:
        raise RecipeError(f"there is no preset {name!r}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]
