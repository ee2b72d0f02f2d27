"""Draws a picture of a manifest's clips (RGB, depth, depth over RGB) for the user to look at before a training run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dynagest.clips.captions import caption
from dynagest.clips.labelled import ManifestVideos
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.png import write_png
from dynagest.clips.sampling import segment_indices
from dynagest.clips.splits import SPLITS
from dynagest.errors import ClipError, DepthError, ManifestError

FRAMES = 3
CELL = (160, 120)
_CAPTION = 22
_GAP = 6
_EDGE = 0.12
_INK, _ALARM = (0, 0, 0), (200, 0, 0)
_TITLES = ("RGB", "depth: near is white, none is black", "depth over RGB: its edges, in cyan, should follow the hand")

Image = npt.NDArray[np.uint8]


def contact_sheet(manifest: Manifest, path: Path | str, rows: int = 8, seed: int = 0) -> Path:
    """Write a PNG with one captioned row per clip, at most ``rows``, and return its path.

    A row shows 3 frames of RGB, the same frames of canonical depth (near = white), and depth over RGB. That overlay
    tints RGB orange where it is near, and draws the edges of the depth in cyan at the place that the declared affine
    gives them: if they do not follow the hand, depth is not aligned. RGB and depth are paired as in training; what is
    missing, cannot be read or does not fit is marked so. ``seed`` seeds the choice of clips, which takes as many
    classes and splits as fit into ``rows``.

    Raises ``ManifestError`` if there is no clip to show, ``RunError`` if the picture cannot be written or matplotlib,
    which draws the captions, is not installed.
    """
    clips = _choose(manifest, rows, seed)
    if not clips:
        raise ManifestError(f"{manifest.path or 'manifest'}: no clip to show")
    videos = ManifestVideos(replace(manifest, clips=tuple(clips)))
    sheet = np.concatenate([_titles(), *(_row(videos, index) for index in range(len(clips)))])
    return write_png(Path(path), sheet)


def _choose(manifest: Manifest, rows: int, seed: int) -> list[Clip]:
    """Choose clips from the splits in turn, each of a class not chosen yet if there is one; sort by split and class."""
    rng = np.random.default_rng(seed)
    clips = {split: manifest.split(split).clips for split in SPLITS}
    left = {split: [clips[split][i] for i in rng.permutation(len(clips[split]))] for split in SPLITS}
    shown: list[Clip] = []
    while len(shown) < rows and any(left.values()):
        for split in SPLITS:
            if not left[split] or len(shown) == rows:
                continue
            labels = {clip.label for clip in shown}
            fresh = next((i for i, clip in enumerate(left[split]) if clip.label not in labels), 0)
            shown.append(left[split].pop(fresh))
    return sorted(shown, key=lambda clip: (SPLITS.index(clip.split), manifest.classes.index(clip.label)))


def _titles() -> Image:
    """The titles of the three blocks of a row, to be put above the first row."""
    width = FRAMES * CELL[0] + _GAP
    return np.concatenate([caption(title, width, _CAPTION, _INK) for title in _TITLES], axis=1)[:, :-_GAP]


def _row(videos: ManifestVideos, index: int) -> Image:
    """The caption and the three blocks of a clip, uint8 RGB (height, width, 3), of the same size for every clip."""
    manifest, clip = videos.manifest, videos.manifest.clips[index]
    problem, rgb, depth = "", None, None
    try:
        wanted = segment_indices(videos.num_frames(index), FRAMES)
        rgb = videos.frames(index, wanted)
        if clip.depth is not None and manifest.depth is not None:
            raw = videos.depth(index, wanted, rgb.shape[1:3])
            depth = manifest.depth.align(manifest.depth.canonical(raw), *rgb.shape[1:3])
    except (ClipError, DepthError) as error:
        problem = str(error)
    if rgb is None:
        blocks = [_sign("unreadable")] * 3
    elif depth is None:
        blocks = [_strip(rgb), _sign("no depth" if not problem else "unreadable"), _sign("")]
    else:
        grey = np.repeat(np.round(depth[..., None] * 255).astype(np.uint8), 3, axis=3)
        blocks = [_strip(rgb), _strip(grey), _strip(_overlay(rgb, depth))]
    gap = np.full((CELL[1], _GAP, 3), 255, np.uint8)
    body = np.concatenate([blocks[0], gap, blocks[1], gap, blocks[2]], axis=1)
    words = f"{clip.split}  {clip.label}  {_name(clip, manifest)}" + (f"  line {clip.row}" if clip.row else "")
    return np.concatenate([caption(problem or words, body.shape[1], _CAPTION, _ALARM if problem else _INK), body])


def _name(clip: Clip, manifest: Manifest) -> str:
    """The path of a clip relative to the manifest's folder, without a last folder ``color``.

    A path outside of that folder is shortened to its last three parts.
    """
    place = clip.video.parent if clip.video.name.lower() == "color" else clip.video
    root = manifest.path.parent if manifest.path else None
    return (place.relative_to(root) if root and place.is_relative_to(root) else Path(*place.parts[-3:])).as_posix()


def _overlay(rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """RGB dimmed and tinted orange by nearness, with the edges of the depth in cyan, all in the size of the cells."""
    frames = []
    for picture, near in zip(rgb, depth, strict=True):
        picture, near = _resize(picture), _resize(near)
        warm = np.array([255, 80, 0], np.float32)
        mixed = picture * 0.75 + (warm - picture) * 0.45 * near[..., None]
        smooth = cv2.GaussianBlur(near, (3, 3), 0)
        slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)) / 4
        mixed[slope > _EDGE] = (0, 255, 255)
        frames.append(np.clip(mixed, 0, 255).astype(np.uint8))
    return np.stack(frames)


def _resize(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Fit an image into a cell on black, keeping its aspect ratio."""
    width, height = CELL
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    fitted = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    cell = np.zeros((height, width, *image.shape[2:]), image.dtype)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = fitted
    return cell


def _strip(frames: npt.NDArray[np.uint8]) -> Image:
    return np.concatenate([_resize(frame) for frame in frames], axis=1)


def _sign(text: str) -> Image:
    width, height = CELL
    return caption(text, FRAMES * width, height, (200, 200, 200), (40, 40, 40), centred=True)
