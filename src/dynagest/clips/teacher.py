"""A teacher: a monocular depth model (ONNX), which estimates depth from single RGB pictures. Needs no torch.

``clips/pseudo_depth.py`` writes what it estimates beside clips.

A YAML file beside the model, ``model.yaml`` for ``model.onnx``, describes what the model's file does not; every field
may be left out::

    size: [252, 252]              # height, width of the input, where the file leaves them open
    mean: [0.485, 0.456, 0.406]   # of RGB in [0, 1]; these are the defaults
    std: [0.229, 0.224, 0.225]
    range: 1                      # the input's values before mean and std: 0 to 1, or 0 to 255
    colour: rgb                   # or bgr
    output: inverse               # near is large (MiDaS, Depth Anything); distance: near is small
"""

import hashlib
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from dynagest.card import IMAGENET_MEAN, IMAGENET_STD
from dynagest.errors import ModelError, first_line
from dynagest.fields import field_faults, parse_yaml, yaml_fault


class TeacherSpec(BaseModel):
    """The input and output of a depth model; see above for the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: tuple[int, int] | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    range: Literal[1, 255] = 1
    colour: Literal["rgb", "bgr"] = "rgb"
    output: Literal["inverse", "distance"] = "inverse"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if any(value <= 0 for value in self.std):
            raise ValueError("std: every value must be more than 0")
        if self.size is not None and not all(16 <= side <= 4096 for side in self.size):
            raise ValueError("size: height and width must be 16 to 4096")
        return self

    @classmethod
    def beside(cls, model: Path) -> Self:
        """Read the YAML beside ``model``; the defaults if there is none. Raises ``ModelError`` if it is faulty."""
        path = model.with_suffix(".yaml")
        if not path.exists():
            return cls()
        try:
            values = parse_yaml(path.read_text(encoding="utf-8"))
            return cls.model_validate({} if values is None else values)
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: cannot be read ({first_line(error)})") from error
        except yaml.YAMLError as error:
            raise ModelError(f"{path}: not YAML ({yaml_fault(error)})") from error
        except ValidationError as error:
            raise ModelError(f"{path}: {field_faults(cls, error)}") from error


class Teacher:
    """A monocular depth model.

    ``name`` identifies it: its file's name and a digest of the file and its ``TeacherSpec``. ``size`` is the (height,
    width) of its input.
    """

    def __init__(self, path: Path, spec: TeacherSpec | None = None) -> None:
        """Open an ONNX file; without ``spec``, with the YAML beside it.

        Raises ``ModelError`` if ONNX Runtime is not installed, the file cannot be read or is no ONNX model that runs
        here, its input is not one float32 picture, or the input's size is not known or contradicts ``spec``.
        """
        try:
            import onnxruntime  # type: ignore[import-untyped,unused-ignore]
        except ImportError as error:
            raise ModelError("depth models need ONNX Runtime: pip install onnxruntime") from error
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror}); name the teacher's ONNX file") from error
        self.path, self.spec = path, spec or TeacherSpec.beside(path)
        try:
            # From the path, not the bytes, because large models keep their weights in a file beside.
            self._session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common class but this one
            raise ModelError(f"{path}: not an ONNX model that runs here ({first_line(error)})") from error
        self._input, self._channels_last, self.size = self._read_input()
        identity = data + self.spec.model_dump_json().encode()
        self.name = f"{path.name} {hashlib.sha256(identity).hexdigest()[:16]}"

    def nearness(self, frames: np.ndarray) -> np.ndarray:
        """Map uint8 RGB (F, H, W, 3) to relative inverse depth, float32 (F, h, w), large = near, in no particular unit.

        h and w are the size of the model's output. Raises ``ModelError`` if the model fails or its output is not a
        depth image.
        """
        return np.stack([self._of_frame(frame) for frame in frames])

    def _read_input(self) -> tuple[str, bool, tuple[int, int]]:
        inputs = self._session.get_inputs()
        about = f"{self.path}: its inputs are {', '.join(f'{each.name} {each.type} {each.shape}' for each in inputs)}"
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            raise ModelError(f"{about}; a teacher takes one float32 picture (1, 3, H, W) or (1, H, W, 3)")
        batch, *shape = inputs[0].shape
        if shape[0] != 3 and shape[2] != 3:
            raise ModelError(f"{about}; none of its axes has the 3 colours")
        channels_last = shape[0] != 3
        sides = shape[:2] if channels_last else shape[1:]
        if isinstance(batch, int) and batch != 1:
            raise ModelError(f"{about}; a teacher takes one picture at a time, so export it with a batch of 1")
        wanted = self.spec.size or tuple(sides)
        for side, given in zip(sides, wanted, strict=True):
            if not isinstance(given, int):
                yaml_file = self.path.with_suffix(".yaml").name
                raise ModelError(f"{about}, which leaves the size open; write size: [252, 252], say, into {yaml_file}")
            if isinstance(side, int) and side != given:
                raise ModelError(f"{about}, but the YAML beside it says size: {list(wanted)}; correct or remove it")
        return inputs[0].name, channels_last, (int(wanted[0]), int(wanted[1]))

    def _of_frame(self, frame: np.ndarray) -> np.ndarray:
        spec, (height, width) = self.spec, self.size
        smaller = frame.shape[0] > height
        resized = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        scaled = resized.astype(np.float32) * np.float32(spec.range / 255)
        pixels = (scaled - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
        if spec.colour == "bgr":
            pixels = pixels[..., ::-1]
        batch = pixels[None] if self._channels_last else pixels.transpose(2, 0, 1)[None]
        try:
            output = self._session.run(None, {self._input: np.ascontiguousarray(batch)})[0]
        except Exception as error:  # its errors have no common class but this one
            raise ModelError(f"{self.path}: fails on a picture ({first_line(error)})") from error
        values = np.asarray(output, np.float32)
        image = values.reshape([side for side in values.shape if side != 1])
        if image.ndim != 2:
            raise ModelError(f"{self.path}: gives {values.shape}; expected one depth image (1, H, W)")
        if not np.isfinite(image).all():
            raise ModelError(f"{self.path}: gives values that are no numbers; are mean, std and range right?")
        if spec.output == "distance":
            if image.min() <= 0:
                raise ModelError(f"{self.path}: gives distances that are not above 0; perhaps it is output: inverse")
            image = 1 / image
        return image
