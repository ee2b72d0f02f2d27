"""Tests a network on RGB clips by a named protocol. Depth is opened only for networks that are fed depth."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import nn

from dynagest.card import NetworkCard
from dynagest.clips.dataset import ClipSource, normalise
from dynagest.clips.labelled import ManifestVideos, UnreadableClip, VideoSource, match_classes
from dynagest.clips.manifest import Manifest, refuse_path
from dynagest.clips.protocols import get_protocol
from dynagest.clips.splits import SPLITS
from dynagest.errors import ClipError, ManifestError, ModelError, RecipeError, WeightsError, first_line
from dynagest.networks.forward import evaluating
from dynagest.runtimes.arrays import check_logits
from dynagest.runtimes.exported import ExportedNetwork, StreamedClips
from dynagest.runtimes.torch_network import check_device
from dynagest.task.inputs import network_input
from dynagest.testing.evaluation import Conditions, Evaluation
from dynagest.testing.views import ClipView, read_views

_LogitsOf = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""Logits (N, K) of RGB (N, T, 3, s, s) uint8 and, for a network that is fed it, depth (N, T, 1, s, s)."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def evaluate(
    net: nn.Module | ExportedNetwork | StreamedClips,
    card: NetworkCard,
    source: Manifest | VideoSource | ClipSource,
    *,
    split: str = "test",
    protocol: str = "center",
    seed: int = 0,
    batch: int = 8,
    workers: int = 0,
    device: torch.device | str | None = None,
    dtype: str = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score every clip of a split and compute the accuracies.

    ``net`` maps clips (N, T, 3, H, W), normalised as ``card`` says, to logits (N, K); or it is an exported file, opened
    by ``dynagest.runtimes.load.load_clip_file``. ``source`` is a manifest, of which the clips of ``split`` are tested;
    any ``VideoSource``; or a ``ClipSource`` (a dataset with its own view, such as generated clips), which is tested as
    it is and only by ``center``. Labels are matched with ``card.classes`` by name. ``batch`` views run through the
    network at once; the result depends neither on it nor on ``workers``. ``progress(done, total)`` is called after each
    clip.

    A ``dtype`` other than "float32" runs under autocast. ``device``: where to compute (default: where ``net`` is); the
    network is moved there and stays. An exported file takes neither: it computes on the CPU as it was exported.

    A network whose ``card.inputs`` are "rgbd" or "depth" is fed the depth under the same squares of the same frames; a
    clip without depth then counts as unreadable. Of a ``VideoSource``, only ``ManifestVideos`` has depth.

    An unreadable clip is listed in ``unreadable`` and left out of the accuracies. Raises ``ManifestError`` for an empty
    split or labels that the network does not know, ``ClipError`` if no clip can be read, ``DepthError`` if depth.yaml
    is wrong for a network that is fed depth, ``ModelError`` when a dataset's view or the card's classes do not fit the
    network, ``WeightsError`` when scores are not finite, and ``RecipeError`` for an unknown protocol or type, a view
    that augments, a device that is not there, a ``batch`` below 1 or too large for its memory, and a ``device`` or
    ``dtype`` for an exported file.

    Example: ``evaluate(*load_network(run), Manifest.read("data/manifest.csv"), protocol="paper").summary.top1``
    """
    started = time.perf_counter()
    how = get_protocol(protocol)
    if dtype not in DTYPES:
        raise RecipeError(f"there is no type {dtype!r} to compute with; there are {', '.join(DTYPES)}")
    if batch < 1:
        raise RecipeError(f"batch: {batch} views cannot run through the network; give at least 1")
    videos = _open(source, split, card)
    truth = [videos.label(index) for index in range(len(videos))]
    logit = match_classes(videos.classes, card.classes, set(truth))

    logits_of: _LogitsOf
    if isinstance(net, nn.Module):
        if device is not None:
            check_device(str(device), f"device {str(device)!r}")
        place = torch.device(device) if device is not None else next(net.parameters()).device
        logits_of = partial(_by_torch, net.to(place), card, place, DTYPES[dtype])
    else:
        if device is not None or dtype != "float32":
            raise RecipeError("device and dtype are for networks that torch runs; a file computes as it was exported")
        place, dtype = torch.device("cpu"), net.info.precision
        logits_of = partial(_by_file, net)
    unread: list[UnreadableClip] = []
    views = read_views(videos, how, card, seed=seed, workers=workers, unread=unread, progress=progress)
    try:
        scores = _score(logits_of, views, len(videos), card, batch)
    except torch.OutOfMemoryError as error:  # of a GPU
        raise RecipeError(
            f"batch: {batch} views at once do not fit into the memory of {place} ({first_line(error)})"
        ) from error

    lost = {clip.index for clip in unread}
    kept = [index for index in range(len(videos)) if index not in lost]
    if not kept:
        raise ClipError(f"none of the {len(videos)} clips can be read; the first: {unread[0].message}")
    for index in kept:
        if not np.isfinite(scores[index]).all():
            raise WeightsError(f"the network's scores for {videos.name(index)} are not finite: its weights are broken")
    conditions = Conditions(
        model=card.model,
        data=_source_name(source),
        split=split,
        protocol=how.name,
        seed=seed,
        segments=card.num_segments,
        size=how.size(card.size),
        views=how.views,
        device=str(place),
        dtype=dtype,
        seconds=time.perf_counter() - started,
        inputs=card.inputs,
    )
    return Evaluation.from_scores(
        conditions,
        card.classes,
        scores[kept] / how.views,
        logit[[truth[index] for index in kept]],
        [(index, videos.name(index)) for index in kept],
        tuple(sorted(unread, key=lambda clip: clip.index)),
    )


def _open(source: Manifest | VideoSource | ClipSource, split: str, card: NetworkCard) -> VideoSource | ClipSource:
    """Open the source of the tested frames: the videos of a manifest's ``split``, or any other source as it is.

    Raises ``ManifestError`` when there are no clips, or for a path in place of a manifest; for a network that is fed
    depth, ``ModelError`` when the videos are of RGB alone, and ``DepthError`` as ``ManifestVideos.probe_depth`` does.
    """
    refuse_path(source)
    if isinstance(source, Manifest):
        if not source.split(split).clips:
            name = str(source.path or "the manifest")
            counts = [f"{each!r} ({len(source.split(each))})" for each in SPLITS if source.split(each).clips]
            raise ManifestError(
                f"{name}: split {split!r} has no clips to test on; there are clips in {' and '.join(counts) or 'none'}"
            )
        source = ManifestVideos(source.split(split))
    if card.inputs != "rgb" and isinstance(source, VideoSource):
        if not isinstance(source, ManifestVideos):
            raise ModelError(
                f"this network is fed {card.inputs}, so it cannot be tested on videos of RGB; give a manifest of clips "
                "with depth, or a dataset whose view gives depth"
            )
        source.probe_depth()
    if len(source) == 0:
        raise ManifestError(f"{type(source).__name__}: has no clips to test on")
    return source


def _source_name(source: object) -> str:
    """The name of the data in a report: the manifest's path, or the type of the dataset."""
    if isinstance(source, Manifest):
        return str(source.path or "a manifest in memory")
    return type(source).__name__


def _score(logits_of: _LogitsOf, views: Iterable[ClipView], clips: int, card: NetworkCard, batch: int) -> np.ndarray:
    """Sum of the softmax scores of each clip's views: (clips, K) float64. Memory holds ``batch`` views at once."""
    scores = np.zeros((clips, len(card.classes)))
    waiting: list[ClipView] = []

    def run() -> None:
        frames = [depth for *_, depth in waiting if depth is not None]
        logits = logits_of(torch.stack([rgb for _, rgb, _ in waiting]), torch.stack(frames) if frames else None)
        check_logits(logits.shape, len(waiting), card)
        # Accumulated in double precision on the CPU, so that the mean of 30 views is exact to float32.
        softmax = logits.cpu().double().softmax(dim=1).numpy()
        np.add.at(scores, [index for index, *_ in waiting], softmax)
        waiting.clear()

    for view in views:
        waiting.append(view)
        if len(waiting) == batch:
            run()
    if waiting:
        run()
    return scores


def _by_torch(
    net: nn.Module,
    card: NetworkCard,
    device: torch.device,
    dtype: torch.dtype,
    rgb_NTCHW: torch.Tensor,
    depth_NT1HW: torch.Tensor | None,
) -> torch.Tensor:
    autocast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
    with evaluating(net), torch.inference_mode(), autocast:
        rgb = normalise(rgb_NTCHW.to(device), card.mean, card.std)
        depth = None if depth_NT1HW is None else depth_NT1HW.to(device)
        return cast(torch.Tensor, net(network_input(rgb, depth, card.inputs)))


def _by_file(
    net: ExportedNetwork | StreamedClips, rgb_NTCHW: torch.Tensor, depth_NT1HW: torch.Tensor | None
) -> torch.Tensor:
    assert depth_NT1HW is None, "a network of depth is not exported"
    return torch.from_numpy(net.logits(normalise(rgb_NTCHW, net.card.mean, net.card.std).numpy()))
