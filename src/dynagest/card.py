"""The card: what must be known about a network to use it, kept as JSON beside its weights and inside every export."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dynagest.errors import WeightsError
from dynagest.fields import field_faults
from dynagest.networks.spec import NetworkSpec, inputs_of

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BACKGROUND = "none"  # the class of clips that show none of the gestures
FASTEST = 1000.0  # frames a second; what claims more has no times that could be trusted

Sampling = Literal["segment", "dense"]
Spread = Annotated[float, Field(gt=0)]
# A recipe takes these, too, so that what it trains has a card.
Frames = Annotated[int, Field(ge=1, le=1024)]
Side = Annotated[int, Field(ge=32, le=4096)]
Width = Annotated[int, Field(ge=8, le=1024)]


def check_classes(classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes as they are. Raises ``ValueError`` unless there are two or more, all different."""
    if len(classes) < 2:
        raise ValueError(
            f"there {'is one' if classes else 'are none'}, but a network tells at least two apart; train it on "
            'more gestures, or with clips of no gesture as the class "none"'
        )
    if twice := [name for name in classes if classes.count(name) > 1]:
        raise ValueError(f"{twice[0]!r} is there twice, but each names one logit; give each its own name")
    return classes


class NetworkCard(BaseModel):
    """All that is needed, besides the weights, to recognise gestures with a network. Needs no torch.

    The network sees T = ``num_segments`` frames: one from each of T equal parts of a clip (``sampling`` "segment"), or
    a window of T frames ``stride`` apart ("dense"). ``fps`` is the rate, in frames a second, at which a stream is
    sampled for the network, so that T frames last as long as a typical gesture did in training; ``None`` if that is not
    known. ``size`` is the side of the square input in pixels; ``mean`` and ``std`` normalise RGB scaled to [0, 1];
    ``classes[k]`` names logit k (at least two classes, all different); ``model``, ``width`` and ``options`` are
    arguments of ``create_model``; ``provenance`` says where the weights come from (recipe, data, version, revision).
    Raises pydantic's ``ValidationError`` for a wrong value.

    Example: ``card = NetworkCard(model="tsm_resnet50", classes=("wave", "grab"), num_segments=8, size=224)``
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str
    classes: tuple[str, ...]
    num_segments: Frames = 8
    sampling: Sampling = "segment"
    stride: int = Field(1, ge=1)
    fps: float | None = Field(default=None, gt=0, le=FASTEST)
    size: Side = 224
    width: Width = 64
    options: dict[str, Any] = {}
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[Spread, Spread, Spread] = IMAGENET_STD
    provenance: dict[str, str] = {}

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        return check_classes(classes)

    @property
    def inputs(self) -> str:
        """The network's input: "rgb", "rgbd" or "depth"."""
        return inputs_of(self.options)

    @property
    def network_spec(self) -> NetworkSpec:
        """The network that the weights belong to."""
        return NetworkSpec(
            self.model, len(self.classes), self.num_segments, width=self.width, size=self.size, options=self.options
        )

    @classmethod
    def read(cls, path: Path | str) -> "NetworkCard":
        """Read a card from JSON. Raises ``WeightsError`` when it is missing or malformed."""
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise WeightsError(
                f"{path}: cannot be read ({error.strerror}); a network needs its card beside its weights"
            ) from error
        except UnicodeDecodeError as error:
            raise WeightsError(f"{path}: not a network card: it is not text") from error
        except ValidationError as error:
            raise WeightsError(
                f"{path}: not a network card that can be used: {field_faults(cls, error)}. It is written beside the "
                "weights by training; take both from the run folder again"
            ) from error
