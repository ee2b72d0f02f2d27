"""Small clips with depth, their files and their manifest, for the tests of ``data check``."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from dynagest.clips.checks.report import CheckReport, Problem
from dynagest.clips.depth import DepthSpec
from dynagest.clips.manifest import Clip, Manifest

SIZE = (48, 64)
BRIGHT = DepthSpec(near="bright")


def rgb_frames(frames: int, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (frames, 6, 8, 3), np.uint8)
    return np.stack([cv2.resize(frame, size[::-1]) for frame in coarse])


def depth_frames(
    frames: int, hand: int = 200, wall: int = 60, size: tuple[int, int] = SIZE, dtype: type = np.uint8
) -> np.ndarray:
    """A hand that crosses the frame before a wall: a dome, whose outline is a twelfth nearer to the wall."""
    depth = np.full((frames, *size), wall, dtype)
    y, x = np.mgrid[-1:1:24j, -1:1:20j]
    beside = np.clip((x * x + y * y - 0.1) / 0.9, 0, 1)
    dome, inside = hand + (wall - hand) / 12 * beside, x * x + y * y < 1
    for i in range(frames):
        left = int((size[1] - 20) * i / max(frames - 1, 1))
        depth[i, 12:36, left : left + 20][inside] = np.round(dome[inside])
    return depth


def write_file(path: Path, text: str = "x") -> Path:
    """A file in folders that need not be there, for what looks at names and lists alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def save_video(path: Path, frames: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = frames.ndim == 3
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if grey else "mpeg4", rate=Fraction(30))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "gray" if grey else "yuv420p"
        for image in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="gray" if grey else "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def save_images(folder: Path, frames: np.ndarray, suffix: str = ".jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(frames, 1):
        cv2.imwrite(str(folder / f"{number:06d}{suffix}"), image)
    return folder


def make_clip(
    root: Path, name: str, label: str = "a", frames: int = 12, split: str = "train", **fields: object
) -> Clip:
    """A sound clip with depth, whose pixels no other has."""
    seed = sum(map(ord, name))
    video = save_video(root / f"{name}.avi", rgb_frames(frames, seed))
    depth = save_video(root / f"{name}.depth.mkv", depth_frames(frames))
    return replace(Clip(video, label, depth, split=split), **fields)


def make_manifest(*clips: Clip, depth: DepthSpec | None = BRIGHT, classes: Sequence[str] = ("a", "b")) -> Manifest:
    numbered = tuple(replace(clip, row=row) for row, clip in enumerate(clips, 2))
    return Manifest(numbered, tuple(classes), depth)


def of_files(report: CheckReport) -> list[Problem]:
    """The problems but those of the list as a whole: too few classes for a set to learn from."""
    return [problem for problem in report.problems if problem.kind != "class"]


def kinds(report: CheckReport) -> list[tuple[str, str, int | None]]:
    return [(problem.severity, problem.kind, problem.row) for problem in of_files(report)]
