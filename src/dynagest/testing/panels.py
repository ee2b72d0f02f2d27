"""The paper's Fig. 5 for a run: RGB, depth, local mask and global mask side by side for a handful of tested clips.

For a network of RGB, this is the only part of testing that reads depth, and it does so after the accuracies are known.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from dynagest.atomic import write_atomically, write_together
from dynagest.card import NetworkCard
from dynagest.clips.captions import caption
from dynagest.clips.dataset import ClipDataset, ClipSource, normalise
from dynagest.clips.labelled import UnreadableClip
from dynagest.clips.manifest import Manifest
from dynagest.clips.png import encode_png
from dynagest.clips.view import View
from dynagest.errors import DepthError
from dynagest.networks.forward import evaluating
from dynagest.run_folder import DECODERS_CARD_FILE, PANELS_FILE, PANELS_FOLDER
from dynagest.task.decoder import MultiScaleDecoder
from dynagest.task.inputs import network_input
from dynagest.task.loss import DepthLoss
from dynagest.task.saved import learnt_threshold, load_decoders
from dynagest.testing.evaluation import ClipResult, Evaluation

CAPTIONS = "panels.json"  # in the folder of the panels
SIDE = 224  # pixels of a picture in the figure
GAP = 8
NO_DECODERS = "this run has no depth decoders, so there are no masks to show"
TRIES = 10  # clips that are tried for each wanted row before the set counts as one without depth


@dataclass(frozen=True)
class PanelRow:
    """One frame of a clip. ``rgb`` (s, s, 3) uint8; ``target`` (s, s) and the masks (h, w) float32, near = 1.

    ``target`` is the depth, 0 or 1 where the decoders learnt it ``binarised``. A mask is None for a decoder that the
    run does not have.
    """

    clip: ClipResult
    rgb: np.ndarray
    target: np.ndarray
    local: np.ndarray | None
    global_: np.ndarray | None
    binarised: bool = False


def make_panels(
    run: Path,
    net: nn.Module,
    card: NetworkCard,
    source: Manifest | ClipSource,
    evaluation: Evaluation,
    *,
    count: int = 6,
    seed: int = 0,
) -> str | None:
    """Write ``panels.png`` and ``panels/`` into a run folder. Returns None, or the reason why there are none.

    The reason is noted in the folder, too. ``source`` is what ``evaluation`` was made from: a manifest, or a dataset
    whose view gives depth. Two of three rows show recognised clips, if there are enough of both kinds; the rows differ
    in class as far as possible, and ``seed`` chooses among them.
    """
    rows: tuple[PanelRow, ...] = ()
    reason = _obstacle(run, source, evaluation, count)
    if reason is None:
        try:
            if isinstance(source, Manifest):
                view = View(num_segments=card.num_segments, size=card.size, sampling=card.sampling, stride=card.stride)
                source = ClipDataset(source.split(evaluation.conditions.split), view, seed=0)
            decoder, threshold = load_decoders(run, net), learnt_threshold(run)
            chosen = panel_rows(net, card, decoder, source, evaluation, threshold=threshold, count=count, seed=seed)
            rows = tuple(chosen)
        except DepthError as error:
            # The accuracies stand without depth; the report and the caller are told.
            reason = str(error)
        else:
            reason = None if rows else "none of the tested clips looked at has readable depth to compare the masks with"
    if rows:
        write_panels(run, rows)
    else:
        (run / PANELS_FILE).unlink(missing_ok=True)
        _remove_rows(run, first=0)
        write_atomically(run / PANELS_FOLDER / CAPTIONS, json.dumps({"missing": reason, "rows": []}, indent=1).encode())
    return reason


def panel_rows(
    net: nn.Module,
    card: NetworkCard,
    decoder: MultiScaleDecoder,
    source: ClipSource,
    evaluation: Evaluation,
    *,
    threshold: float | None = None,
    count: int,
    seed: int,
) -> Iterator[PanelRow]:
    """At most ``count`` rows; clips that cannot be read or have no depth are skipped.

    ``threshold`` in [0, 1] binarises depth, as in the loss.
    """
    found = 0
    for clip in preferred_clips(evaluation, seed)[: TRIES * count]:
        sample = source[(0, clip.index)]
        if isinstance(sample, UnreadableClip) or not bool(sample["has_depth"]):
            continue
        yield _row(net, card, decoder, clip, sample["rgb"], sample["depth"], threshold)
        found += 1
        if found == count:
            return


def preferred_clips(evaluation: Evaluation, seed: int) -> list[ClipResult]:
    """All tested clips, best choices first: two that were recognised, then one that was not, and so on.

    Among clips of one kind, every class's first clip in a random order comes before any class's second.
    """
    order = np.random.default_rng(seed).permutation(len(evaluation.clips))
    seen: dict[str, int] = {}
    turns = []
    for clip in (evaluation.clips[place] for place in order):
        turns.append((seen.get(clip.label, 0), clip))
        seen[clip.label] = seen.get(clip.label, 0) + 1
    ranked = [clip for _, clip in sorted(turns, key=lambda turn: turn[0])]
    right = [clip for clip in ranked if clip.correct]
    wrong = [clip for clip in ranked if not clip.correct]
    chosen: list[ClipResult] = []
    while right or wrong:
        chosen += right[:2] + wrong[:1]
        right, wrong = right[2:], wrong[1:]
    return chosen


def write_panels(run: Path, rows: tuple[PanelRow, ...]) -> None:
    """Write the captioned figure ``panels.png``, and ``panels/`` with a picture and a caption for each row."""
    strips = [strip(row) for row in rows]
    titles = ("RGB", "depth, binarised" if rows[0].binarised else "depth", "local mask", "global mask")
    columns = [name for name, picture in zip(titles, _pictures(rows[0]), strict=True) if picture is not None]
    captions = {
        "missing": "",
        "columns": columns,
        "rows": [
            {
                "image": f"{place}.png",
                "file": row.clip.file,
                "label": row.clip.label,
                "predicted": row.clip.predicted,
                "correct": row.clip.correct,
            }
            for place, row in enumerate(rows)
        ],
    }
    files = {run / PANELS_FOLDER / f"{place}.png": encode_png(image) for place, image in enumerate(strips)}
    files[run / PANELS_FOLDER / CAPTIONS] = json.dumps(captions, indent=1, ensure_ascii=False).encode()
    files[run / PANELS_FILE] = _figure(rows, strips, columns)
    write_together(files)
    _remove_rows(run, first=len(rows))


def strip(row: PanelRow) -> np.ndarray:
    """A row's pictures side by side, transparent between them: (SIDE, columns * (SIDE + GAP) - GAP, 4) uint8 RGBA."""
    pictures = [picture for picture in _pictures(row) if picture is not None]
    image = np.zeros((SIDE, len(pictures) * (SIDE + GAP) - GAP, 4), dtype=np.uint8)
    for place, picture in enumerate(pictures):
        left = place * (SIDE + GAP)
        image[:, left : left + SIDE, :3] = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        image[:, left : left + SIDE, 3] = 255
    return image


def colour(depth: np.ndarray) -> np.ndarray:
    """Depth or a mask (h, w), clamped to [0, 1], as colours (h, w, 3) uint8 RGB: far is dark, near is bright."""
    grey = (np.clip(depth, 0, 1) * 255).round().astype(np.uint8)
    return cv2.applyColorMap(grey, cv2.COLORMAP_MAGMA)[..., ::-1]


def _pictures(row: PanelRow) -> tuple[np.ndarray | None, ...]:
    masks = (row.target, row.local, row.global_)
    return (row.rgb, *(None if mask is None else colour(mask) for mask in masks))


@torch.inference_mode()
def _row(
    net: nn.Module,
    card: NetworkCard,
    decoder: MultiScaleDecoder,
    clip: ClipResult,
    rgb: torch.Tensor,
    depth: torch.Tensor,
    threshold: float | None,
) -> PanelRow:
    """The middle frame of a sample: ``rgb`` (T, 3, s, s) uint8, ``depth`` (T, 1, s, s) in [0, 1]."""
    device = next(net.parameters()).device
    clip_NTCHW = normalise(rgb[None].to(device), card.mean, card.std)
    with evaluating(net), decoder.attached(net) as taps:
        net(network_input(clip_NTCHW, depth[None].to(device), card.inputs))
    masks = decoder.to(device)(taps)
    middle = len(rgb) // 2
    local, global_ = (None if mask is None else mask[middle, 0].float().cpu().numpy() for mask in masks)
    target = DepthLoss(threshold=threshold).target(depth[None, middle : middle + 1], depth.shape[-2:])[0, 0]
    picture = rgb[middle].permute(1, 2, 0).numpy()
    return PanelRow(clip, picture, target.numpy(), local, global_, binarised=threshold is not None)


def _obstacle(run: Path, source: Manifest | ClipSource, evaluation: Evaluation, count: int) -> str | None:
    """The reason why there can be no panels, if it is known before any clip is read."""
    if count == 0:
        return "none were asked for"
    if not (run / DECODERS_CARD_FILE).exists():
        return NO_DECODERS
    if isinstance(source, Manifest) and not any(clip.depth for clip in source.split(evaluation.conditions.split).clips):
        return "the tested clips have no depth to compare the masks with"
    return None


def _remove_rows(run: Path, first: int) -> None:
    """Remove the rows that an earlier test left, from number ``first`` on."""
    for path in (run / PANELS_FOLDER).glob("*.png"):
        if path.stem.isdecimal() and int(path.stem) >= first:
            path.unlink()


def _figure(rows: tuple[PanelRow, ...], strips: list[np.ndarray], columns: list[str]) -> bytes:
    """A PNG on white of the strips, one below the other, with column titles and captions."""
    width = strips[0].shape[1]
    titles = [caption(name, SIDE + GAP, 26, (51, 51, 51), centred=True) for name in columns]
    parts = [np.concatenate(titles, axis=1)[:, :width]]
    for row, image in zip(rows, strips, strict=True):
        right, clip = row.clip.correct, row.clip
        verdict = clip.label if right else f"{clip.label}, taken for {clip.predicted}"
        on_white = np.where(image[..., 3:] == 255, image[..., :3], np.uint8(255))
        words = caption(verdict, width, 24, (11, 110, 122) if right else (180, 69, 14))
        parts += [on_white, np.pad(words, ((0, 6), (0, 0), (0, 0)), constant_values=255)]
    return encode_png(np.concatenate(parts))
