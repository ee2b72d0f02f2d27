"""Pseudo-depth: depth that a teacher (``clips/teacher.py``) estimates from RGB clips, written beside them. No torch.

``dynagest data depth MANIFEST --teacher model.onnx`` gives clips of a plain camera depth from which the decoders can
learn. Monocular depth models tell what is nearer, not how near: their output is relative. So each clip is scaled by
itself, from robust percentiles, to canonical depth (near = 1), and ``depth.yaml`` names the model that it comes from.
"""

import io
import json
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from dynagest.atomic import write_atomically
from dynagest.clips.depth import DEPTH_FILE, DepthSpec
from dynagest.clips.frames import FrameReader, is_folder
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.teacher import Teacher
from dynagest.errors import ClipError, DepthError, RunError
from dynagest.fields import parse_json

PSEUDO = DepthSpec(near="bright")
RECORD_FILE = "pseudo_depth.json"
STORED_SIDE = 256  # pixels of the longer side at most, which is far more than the decoders learn from
ROBUST = (2.0, 98.0)  # percentiles of a clip that become 0 and 1
_FLAT = 1e-3  # a range of values up to this share of their magnitude is no depth


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
class PseudoDepthResult:
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
) -> PseudoDepthResult:
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
    return PseudoDepthResult(list_pseudo_depth(manifest.path), written, kept, tuple(failed))


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
    reader = FrameReader()
    frames = reader.frames(video, range(reader.count(video)))
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
        return str(parse_json(path.read_text(encoding="utf-8"))["teacher"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DepthError(f"{path}: cannot be read; remove it together with the depth beside it") from error
