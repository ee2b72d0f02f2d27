"""Views, which decide how clips are shown to a network: which frames, which crop, which colours. Needs no torch."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from dynagest.card import Sampling
from dynagest.clips.depth import DepthSpec
from dynagest.clips.jitter import ColourJitter
from dynagest.clips.sampling import sample_indices
from dynagest.clips.transforms import (
    ACTION_SCALES,
    PAPER_SCALES,
    Crop,
    action_crop,
    apply,
    apply_depth,
    center_crop,
    paper_crop,
)
from dynagest.errors import RecipeError, hint

_Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class View:
    """How every clip of a dataset is shown to a network. The defaults are the paper's (III-D), with ``augment`` off.

    A view has ``num_segments`` frames, each a square of ``size`` x ``size`` pixels. Without ``augment`` it takes the
    middle frame of each segment (for "dense" sampling, the middle window), the square in the centre that is as large as
    the shorter side, and the colours as they are. With ``augment``:

    * ``sampling``: "segment" takes a random frame of each segment, "dense" a random window of frames ``stride`` apart.
    * ``crop``: "paper" takes a square at one of 5 places and one of ``scales``, "action" ACTION-Net's 13 places with
      different scales of width and height. ``scales`` of ``None`` are the published ones of either.
    * ``jitter``: the share of clips whose colours change: ``brightness``, ``contrast`` and ``saturation`` s by a factor
      in [1 - s, 1 + s], not below 0, ``hue`` h by a shift in [-h, h] turns of the colour circle.
    * ``flip_labels``: ``None`` mirrors no clip, because left and right may be different classes. A mapping mirrors half
      of the clips, RGB and depth, and maps their labels; labels that are not in it stay the same when mirrored.

    ``depth``: whether depth is read at all. Raises pydantic's ``ValidationError`` for a wrong value: ``scales`` are in
    (0, 1], ``jitter`` in [0, 1], ``hue`` in [0, 0.5], the other strengths 0 or more.

    Example: ``View(num_segments=8, size=112, augment=True, flip_labels={"left": "right", "right": "left"})``
    """

    num_segments: int = Field(default=8, ge=1)
    size: int = Field(default=224, ge=1)
    augment: bool = False
    sampling: Sampling = "segment"
    stride: int = Field(default=1, ge=1)
    crop: Literal["paper", "action"] = "paper"
    scales: Annotated[tuple[_Share, ...], Field(min_length=1)] | None = None
    jitter: float = Field(default=0.4, ge=0, le=1)
    brightness: float = Field(default=0.8, ge=0)
    contrast: float = Field(default=0.8, ge=0)
    saturation: float = Field(default=0.8, ge=0)
    hue: float = Field(default=0.2, ge=0, le=0.5)
    flip_labels: Mapping[str, str] | None = None
    depth: bool = True

    def indices(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Choose the frames to read of a clip of ``n`` frames: int64 (num_segments,), ascending.

        Call it before ``transform``, which draws from the same ``rng``.
        """
        return sample_indices(n, self.num_segments, self.sampling, self.stride, rng if self.augment else None)

    def draw_crop(self, height: int, width: int, rng: np.random.Generator) -> Crop:
        """Draw the crop of a clip, the same for all its frames of ``height`` x ``width``."""
        if not self.augment:
            return center_crop(height, width)
        flip = self.flip_labels is not None and rng.random() < 0.5
        if self.crop == "action":
            return action_crop(height, width, rng, self.scales or ACTION_SCALES, flip)
        return paper_crop(height, width, rng, self.scales or PAPER_SCALES, flip)

    def transform(
        self,
        frames: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any] | None,
        spec: DepthSpec | None,
        rng: np.random.Generator,
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None, bool]:
        """Crop a clip's sampled frames (T, H, W, 3) and its depth (T, h, w), if it has any, and jitter the colours.

        ``depth`` is raw if ``spec`` is given, else canonical float32 that covers the whole RGB frame. Returns RGB uint8
        (T, size, size, 3), canonical depth float32 (T, size, size) or ``None``, and whether both are mirrored. Raises
        ``DepthError`` if depth contradicts its spec.
        """
        height, width = frames.shape[1:3]
        crop = self.draw_crop(height, width, rng)
        rgb = apply(crop, frames, self.size)
        under = None if depth is None else apply_depth(crop, depth, self.size, spec, (height, width))
        if self.augment:
            jitter = ColourJitter(self.jitter, self.brightness, self.contrast, self.saturation, self.hue)
            rgb = jitter(rgb, rng)
        return rgb, under, crop.flip

    def misfit(self, wanted: "View") -> tuple[str, str] | None:
        """The arguments that differ from ``wanted``: as they are, and as they should be; ``None`` if clips seen by this
        view suit a network that takes ``wanted``.

        Crops and colours do not matter, nor does depth that is not wanted, nor a stride without dense sampling.
        """
        keys = ["num_segments", "size", "sampling"]
        keys += ["stride"] if wanted.sampling == "dense" else []
        keys += ["depth"] if wanted.depth else []
        differing = [key for key in keys if getattr(self, key) != getattr(wanted, key)]
        if not differing:
            return None
        has, takes = (", ".join(f"{key}={getattr(each, key)!r}" for key in differing) for each in (self, wanted))
        return has, takes

    def flip_table(self, classes: Sequence[str]) -> tuple[int, ...]:
        """The index of the class that each of ``classes`` becomes when mirrored.

        Raises ``RecipeError`` if ``flip_labels`` names an unknown class, or does not map a class back when applied
        twice.
        """
        swap = self.flip_labels or {}
        unknown = sorted({*swap, *swap.values()} - set(classes))
        if unknown:
            names = ", ".join(map(repr, unknown))
            raise RecipeError(f"flip_labels: {names} is not among the classes; {hint(unknown[0], classes)}")
        # If left becomes right, right must become left.
        lost = [f"{a!r} -> {b!r}" for a, b in swap.items() if swap.get(b, b) != a]
        if lost:
            raise RecipeError(
                f"flip_labels: mirrored twice a class must be itself again; add the way back of {lost[0]}"
            )
        return tuple(classes.index(swap.get(name, name)) for name in classes)
