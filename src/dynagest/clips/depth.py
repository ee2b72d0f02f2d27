"""What the values of a depth image mean, where it lies in the RGB frame, and its conversion. Needs no torch."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dynagest.errors import DepthError
from dynagest.fields import field_faults, parse_yaml, yaml_fault

DEPTH_FILE = "depth.yaml"
# The relative difference up to which the aspect ratios of depth and RGB count as those of the same field of view.
ASPECT_TOLERANCE = 0.02

EXAMPLE = """\
near: bright        # or dark: which values are close to the camera
invalid: 0          # values at or below this hold no depth
# For 16-bit depth also: near: dark, scale_mm: 1.0, min_mm: 200, max_mm: 1200
"""

_HEADER = """\
# What the depth values of the clips beside this file mean.
# near: bright|dark, which values are close; invalid: values at or below it hold no depth;
# erode: pixels beside a hole that are dropped with it;
# scale_mm: millimetres a unit (16-bit depth), min_mm..max_mm: the range mapped to 1..0;
# affine: x_rgb = scale * x_depth + shift_x, y likewise, with both frames scaled to width x height.
"""


class DepthAffine(BaseModel):
    """Where depth lies in the RGB frame: ``x_rgb = scale * x_depth + shift_x``, ``y_rgb = scale * y_depth + shift_y``.

    Coordinates are pixels of a reference frame of ``width`` x ``height`` to which both images are scaled, so that the
    map holds at any resolution. They are those of pixel edges: the left border of the frame is 0, its right border
    ``width``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float = Field(gt=0, allow_inf_nan=False)
    shift_x: float = Field(allow_inf_nan=False)
    shift_y: float = Field(allow_inf_nan=False)
    width: int = Field(gt=0)
    height: int = Field(gt=0)

    @model_validator(mode="after")
    def _stays_in_the_picture(self) -> "DepthAffine":
        for name, shift, side in (("shift_x", self.shift_x, self.width), ("shift_y", self.shift_y, self.height)):
            if not -self.scale * side < shift < side:
                raise ValueError(f"{name} = {shift:g} moves all depth out of the picture of {side} pixels")
        return self


class DepthSpec(BaseModel):
    """The declaration of raw depth (``depth.yaml``), and its conversion to canonical depth.

    Canonical depth is float32 in [0, 1] with near = 1 and both invalid pixels and background = 0.

    * ``near``: whether near pixels have large ("bright") or small ("dark") values.
    * ``invalid``: values at or below it hold no depth.
    * ``scale_mm``: millimetres per unit of 16-bit depth. It needs ``min_mm`` and ``max_mm``, the distances that become
      canonical 1 and 0. Metric depth grows with distance, so its ``near`` must be "dark".
    * ``erode``: the width in pixels of the rim of a hole, in all eight directions, that is dropped with the hole,
      because compression has smeared it.
    * ``affine``: where depth lies in the RGB frame; ``None`` lays the whole depth image over the whole RGB frame.

    Raises pydantic's ``ValidationError`` for a wrong value and for fields that contradict each other.

    Example: ``DepthSpec(near="dark", scale_mm=1.0, min_mm=200, max_mm=1200).canonical(raw)``
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    near: Literal["bright", "dark"]
    scale_mm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    min_mm: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max_mm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    invalid: int = Field(default=0, ge=-1, le=65535)
    erode: int = Field(default=0, ge=0, le=32)
    affine: DepthAffine | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "DepthSpec":
        if self.scale_mm is None:
            if self.min_mm is not None or self.max_mm is not None:
                raise ValueError("min_mm and max_mm need scale_mm, the millimetres a unit")
            return self
        if self.near == "bright":
            raise ValueError("near is bright, but depth in millimetres (scale_mm) grows with distance: near is dark")
        if self.min_mm is None or self.max_mm is None:
            raise ValueError("scale_mm needs min_mm and max_mm, the range that is mapped to near = 1 and far = 0")
        if self.min_mm >= self.max_mm:
            raise ValueError(f"min_mm ({self.min_mm:g}) must be less than max_mm ({self.max_mm:g})")
        return self

    @classmethod
    def read(cls, path: Path | str) -> "DepthSpec":
        """Read ``depth.yaml``. Raises ``DepthError`` naming the file and every field that is wrong."""
        try:
            values = parse_yaml(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DepthError(f"{path}: missing; write what the depth values mean, for example:\n{EXAMPLE}") from error
        except OSError as error:
            raise DepthError(f"{path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise DepthError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
        except yaml.YAMLError as error:
            raise DepthError(
                f"{path}: not YAML ({yaml_fault(error)}); write one field a line, for example:\n{EXAMPLE}"
            ) from error
        if not isinstance(values, dict):
            raise DepthError(f"{path}: holds no fields; write what the depth values mean, for example:\n{EXAMPLE}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise DepthError(f"{path}: {field_faults(cls, error)}") from error

    def to_yaml(self) -> str:
        """The text of a ``depth.yaml`` from which ``read`` makes an equal ``DepthSpec``."""
        return _HEADER + yaml.safe_dump(self.model_dump(exclude_none=True), sort_keys=False)

    def canonical(self, raw: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Convert raw depth, uint8 or uint16 (..., H, W), to canonical depth, float32 in [0, 1] of the same shape.

        Near is 1, invalid pixels and background are 0. In a part cut out of a larger image, the outer ``erode`` pixels
        may differ from those of the whole, because holes beyond the part are unknown. Raises ``DepthError`` for another
        type, or if the bit depth contradicts the declaration: 8 bits cannot hold millimetres (and JPEG and 8-bit video
        blur them), and 16-bit values without ``scale_mm`` have no known range.
        """
        if raw.dtype == np.uint8:
            if self.scale_mm is not None:
                raise DepthError(
                    f"depth is 8-bit but declared in millimetres (scale_mm: {self.scale_mm:g}); keep millimetres as "
                    "16-bit PNG, FFV1 or npz, or remove scale_mm, min_mm and max_mm if the values are relative"
                )
            # For only 256 values, OpenCV's look-up in a table is several times faster than arithmetic on every pixel.
            value = np.arange(256, dtype=np.float32) / 255
            table = value if self.near == "bright" else 1 - value
            table[: self.invalid + 1] = 0
            return self._without_rims(cv2.LUT(raw.reshape(-1, 1), table).reshape(raw.shape), raw)
        if raw.dtype == np.uint16:
            if self.scale_mm is None:
                raise DepthError(
                    "depth is 16-bit but no unit is declared; write scale_mm (millimetres a unit: 1.0 for most "
                    "sensors, 0.125 for SR300), min_mm and max_mm into depth.yaml"
                )
            assert self.min_mm is not None
            assert self.max_mm is not None
            nearness = (self.max_mm - raw.astype(np.float32) * np.float32(self.scale_mm)) / (self.max_mm - self.min_mm)
            canonical = np.where(raw > self.invalid, np.clip(nearness, 0, 1), 0).astype(np.float32)
            return self._without_rims(canonical, raw)
        raise DepthError(f"depth is {raw.dtype}; it must be uint8 (relative) or uint16 (in units of scale_mm)")

    def _without_rims(
        self, canonical: npt.NDArray[np.float32], raw: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.float32]:
        if self.erode:
            kernel = np.ones((2 * self.erode + 1, 2 * self.erode + 1), np.uint8)
            height, width = raw.shape[-2:]
            # By cv2.erode's default border, pixels beyond the image do not count as holes.
            for image, values in zip(canonical.reshape(-1, height, width), raw.reshape(-1, height, width), strict=True):
                image *= cv2.erode((values > self.invalid).astype(np.uint8), kernel)
        return canonical

    def align(self, depth: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
        """Warp canonical depth (T, h, w) into the RGB frame: (T, height, width), 0 outside the depth sensor's field.

        Takes the nearest neighbour, so that no depth is made up between a hand and a hole or the background beside it.
        Training does not call this: ``transforms.apply_depth`` does the same map and the resize to the network's size
        in one.
        """
        scale_x, scale_y, shift_x, shift_y = to_rgb(self.affine, (depth.shape[1], depth.shape[2]), (height, width))
        # OpenCV's coordinates are those of pixel centres, half a pixel from those of pixel edges.
        matrix = np.array(
            [[scale_x, 0, shift_x + scale_x / 2 - 0.5], [0, scale_y, shift_y + scale_y / 2 - 0.5]], dtype=np.float64
        )
        warped = [cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_NEAREST) for frame in depth]
        return np.stack(warped) if warped else np.empty((0, height, width), np.float32)


def to_rgb(
    affine: DepthAffine | None, depth_size: tuple[int, int], rgb_size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The map from depth pixels to RGB pixels, ``(scale_x, scale_y, shift_x, shift_y)``. Sizes: (height, width).

    Without ``affine`` the whole depth image lies over the whole RGB frame.
    """
    (depth_height, depth_width), (height, width) = depth_size, rgb_size
    if affine is None:
        return width / depth_width, height / depth_height, 0.0, 0.0
    return (
        affine.scale * width / depth_width,
        affine.scale * height / depth_height,
        affine.shift_x * width / affine.width,
        affine.shift_y * height / affine.height,
    )


def shape_fault(depth_size: tuple[int, int], rgb_size: tuple[int, int], spec: DepthSpec | None) -> str:
    """Say what is wrong with depth and RGB of these sizes, (height, width); "" if nothing is.

    Depth of another resolution is scaled to fit. Another aspect ratio means that the two cameras see different fields,
    so that only a declared affine can tell where the one lies in the other.
    """
    (depth_height, depth_width), (height, width) = depth_size, rgb_size
    stretch = (depth_width / depth_height) / (width / height)
    if abs(stretch - 1) <= ASPECT_TOLERANCE or (spec is not None and spec.affine is not None):
        return ""
    sizes = f"depth is {depth_width}x{depth_height}, RGB {width}x{height}"
    return f"{sizes}: another shape; align the depth, or declare its affine in depth.yaml"


def _at_320x240(scale: float, shift_x: float, shift_y: float) -> DepthAffine:
    return DepthAffine(scale=scale, shift_x=shift_x, shift_y=shift_y, width=320, height=240)


PRESETS: dict[str, DepthSpec] = {
    "egogesture": DepthSpec(near="bright"),
    # The paper uses NVGesture and IsoGD as shipped, which is unaligned; the "-aligned" maps were measured on the clips.
    "nvgesture": DepthSpec(near="bright"),
    "nvgesture-aligned": DepthSpec(near="bright", affine=_at_320x240(1.3, -35, -35)),
    # Holes are 0, but lossy compression smears them up to 7, and further in the pixels right beside them: 69 % of these
    # are nearer by 30 of 255 than anything around (two pixels from a hole 8 %, three 1 %; 600 frames of 200 clips).
    "isogd": DepthSpec(near="dark", invalid=7, erode=1),
    "isogd-aligned": DepthSpec(near="dark", invalid=7, erode=1, affine=_at_320x240(0.87, 20, 30)),
    # The ranges suit a hand in front of a body at a desk; edit depth.yaml for another set-up.
    "realsense": DepthSpec(near="dark", scale_mm=1.0, min_mm=200, max_mm=1200),
    "sr300": DepthSpec(near="dark", scale_mm=0.125, min_mm=200, max_mm=1200),
}
