"""Pseudo-depth: depth that a monocular depth model (ONNX) estimates from RGB clips, written beside them. No torch.

``dynagest data depth MANIFEST --teacher model.onnx`` gives clips of a plain camera depth from which the decoders can
learn. Such models tell what is nearer, not how near: their output is relative. So each clip is scaled by itself, from
robust percentiles, to canonical depth (near = 1), and ``depth.yaml`` names the model that it comes from.

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
import io
import json
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from dynagest.atomic import write_atomically
from dynagest.card import IMAGENET_MEAN, IMAGENET_STD
from dynagest.clips.depth import DEPTH_FILE, DepthSpec
from dynagest.clips.frames import count_frames, is_folder, read_frames
from dynagest.clips.manifest import Clip, Manifest
from dynagest.errors import ClipError, DepthError, ModelError, RunError, first_line
from dynagest.fields import field_faults, yaml_fault

PSEUDO = DepthSpec(near="bright")
RECORD_FILE = "pseudo_depth.json"
STORED_SIDE = 256  # pixels of the longer side at most, which is far more than the decoders learn from
ROBUST = (2.0, 98.0)  # percentiles of a clip that become 0 and 1
_FLAT = 1e-3  # a range of values up to this share of their magnitude is no depth


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
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
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


def canonical(nearness: np.ndarray) -> np.ndarray:
    """Scale relative inverse depth (F, h, w) of one clip to canonical depth as uint8 (F, h, w): 255 near, 0 far.

    All frames have one scale, so that a hand that comes nearer becomes brighter. The percentiles ``ROBUST`` become 0
    and 255, so that a few outliers do not decide the scale. Raises ``DepthError`` if the depth is the same everywhere.
    """
    low, high = np.percentile(nearness, ROBUST)
    if high - low <= _FLAT * max(abs(low), abs(high)):
        raise DepthError("the teacher sees the same depth everywhere")
    return np.rint(np.clip((nearness - low) / (high - low), 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class Taught:
    """The result of ``write_pseudo_depth``.

    ``manifest`` lists the depth; ``written`` and ``kept`` count the videos whose depth is new or was there already;
    ``failed`` has a message for each video that failed.
    """

    manifest: Manifest
    written: int
    kept: int
    failed: tuple[str, ...]


def write_pseudo_depth(
    manifest: Manifest, teacher: Teacher, *, overwrite: bool = False, progress: Callable[[int, int], None] | None = None
) -> Taught:
    """Write the depth of every clip, declare it in ``depth.yaml`` beside the manifest, and list it in the manifest.

    The depth is ``<clip>.depth.npz`` beside a video, or ``depth.npz`` in a folder of images; a video in several rows
    gets it once. Depth that the same teacher wrote is kept, so that an interrupted run can be continued. Clips may be
    recorded and deleted meanwhile. ``progress`` is called with (videos done, number of videos). Raises ``DepthError``
    as ``check_origin`` does, ``ModelError`` if the teacher fails, ``RunError`` if a file cannot be written.
    """
    check_origin(manifest, teacher, overwrite=overwrite)
    assert manifest.path is not None, "checked"
    record = manifest.path.with_name(RECORD_FILE)
    paths = {clip.video: depth_path(clip.video) for clip in manifest.clips}
    if _read_record(record) != teacher.name:
        for path in paths.values():  # all before the record changes: an interrupted run must not mix two teachers
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise RunError(f"{path}: cannot be replaced ({error.strerror}); make its folder writable") from error
    # Both declarations come before any depth, which without them would be taken for a sensor's or be of unknown origin.
    _declare(record, json.dumps({"teacher": teacher.name}, indent=1) + "\n")
    origin = f"# Pseudo-depth: relative, not measured, by {teacher.name}; each clip is scaled by itself.\n"
    _declare(record.with_name(DEPTH_FILE), origin + PSEUDO.to_yaml())
    written, kept, failed = 0, 0, []
    for done, (video, path) in enumerate(paths.items(), 1):
        if path.exists():
            kept += 1
        else:
            try:
                _write_depth(video, path, teacher)
                written += 1
            except (ClipError, DepthError) as error:
                text = str(error)
                failed.append(text if str(video) in text else f"{video}: {text}")
        if progress:
            progress(done, len(paths))
    return Taught(list_pseudo_depth(manifest.path), written, kept, tuple(failed))


def check_origin(manifest: Manifest, teacher: Teacher, *, overwrite: bool = False) -> None:
    """Raise ``DepthError`` if pseudo-depth of ``teacher`` cannot be written beside the clips of ``manifest``.

    That is so if clips list depth of another kind, if two videos would share one depth file, if the record of the
    teacher cannot be read, or, without ``overwrite``, if there is depth of another teacher or of unknown origin.
    """
    assert manifest.path is not None, "a manifest that lies somewhere"
    record = manifest.path.with_name(RECORD_FILE)
    paths = {clip.video: depth_path(clip.video) for clip in manifest.clips}
    known = _read_record(record)
    ours = set(paths.values()) if known else set()
    if sensed := sum(clip.depth is not None and clip.depth not in ours for clip in manifest.clips):
        raise DepthError(
            f"{manifest.path}: {sensed} clips have depth already, which one depth.yaml cannot declare together with "
            "pseudo-depth; copy the clips elsewhere and index them without their depth"
        )
    twice = [path for path, count in Counter(paths.values()).items() if count > 1]
    if twice:
        raise DepthError(f"{twice[0]}: would be the depth of two videos that differ in their suffix only; rename one")
    # Another teacher's record counts even if there is no depth file yet: that teacher may be working on the first.
    if known != teacher.name and not overwrite and (known or any(path.exists() for path in paths.values())):
        again = shlex.join(["dynagest", "data", "depth", str(manifest.path), "--teacher", str(teacher.path)])
        raise DepthError(
            f"{record}: the depth here is of {known or 'an unknown origin'}; `{again} --overwrite` makes it again with "
            f"{teacher.name}"
        )


def list_pseudo_depth(path: Path) -> Manifest:
    """Update the manifest at ``path`` to list the pseudo-depth that lies beside its clips; return it as read back."""
    manifest = Manifest.read(path)
    return replace(manifest, clips=tuple(_with_depth(clip) for clip in manifest.clips)).write(path)


def depth_path(video: Path) -> Path:
    """The path where the pseudo-depth of a video, or of a folder of images, is written."""
    return video / "depth.npz" if is_folder(video) else video.with_name(f"{video.stem}.depth.npz")


def _depth_of(video: Path, teacher: Teacher) -> np.ndarray:
    """Estimate the canonical depth of a whole video: uint8 (F, h, w), in the aspect ratio of its pictures."""
    frames = read_frames(video, range(count_frames(video)))
    height, width = frames.shape[1:3]
    shrink = min(1.0, STORED_SIDE / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    depth = canonical(teacher.nearness(frames))
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in depth])


def _write_depth(video: Path, path: Path, teacher: Teacher) -> None:
    before = _version(video)
    data = io.BytesIO()
    np.savez_compressed(data, depth=_depth_of(video, teacher))
    if _version(video) == before:
        write_atomically(path, data.getvalue())
        if _version(video) == before:  # a deletion of the clip from now on deletes the depth, too
            return
        path.unlink(missing_ok=True)
    raise ClipError(f"{video}: was changed or deleted while the teacher looked at it")


def _version(video: Path) -> int | None:
    """A number that changes when a video is replaced, None if it is gone.

    For a folder it is always 0, because the depth written into a folder changes its time.
    """
    try:
        return 0 if is_folder(video) else video.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _with_depth(clip: Clip) -> Clip:
    path = depth_path(clip.video)
    if not path.exists():
        return replace(clip, depth=None, depth_start=0, depth_end=None)
    return replace(clip, depth=path, depth_start=clip.start, depth_end=clip.end)


def _declare(path: Path, text: str) -> None:
    # Not written again if it has this text: a folder that has all its depth may be read-only.
    if not path.exists() or path.read_bytes() != text.encode():
        write_atomically(path, text.encode())


def _read_record(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["teacher"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DepthError(f"{path}: cannot be read; remove it together with the depth beside it") from error
