"""Turns videos into the views that a protocol shows to the network; worker processes read ahead."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat

import numpy as np
import torch

from dynagest.card import NetworkCard
from dynagest.clips.dataset import ClipSource, read_clip
from dynagest.clips.labelled import ManifestVideos, UnreadableClip, VideoSource
from dynagest.clips.protocols import Protocol, cut_depth_squares, cut_squares, iterate_views, plan_frames
from dynagest.clips.view import View
from dynagest.clips.workers import open_loader, read_ahead
from dynagest.errors import ClipError, DepthError, DynagestError, ModelError, RecipeError

ClipView = tuple[int, torch.Tensor, torch.Tensor | None]
"""A view: the clip's index, RGB (T, 3, s, s) uint8, and depth (T, 1, s, s) in [0, 1] if the network is fed it."""

_ClipViews = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""A clip's views: squares (crops, F, s, s, 3) uint8, samples (S, T) of their F frames, and depth (crops, F, s, s).

Each square is sent once by a worker, however many temporal samples contain it.
"""


def read_views(
    videos: VideoSource | ClipSource,
    how: Protocol,
    card: NetworkCard,
    *,
    seed: int,
    workers: int,
    unread: list[UnreadableClip],
    progress: Callable[[int, int], None] | None,
) -> Iterator[ClipView]:
    """Every view of every readable clip; unreadable clips are appended to ``unread``.

    Raises ``RecipeError`` or ``ModelError`` for a dataset whose view does not fit the protocol or the network.
    """
    if isinstance(videos, VideoSource):
        cut = partial(_cut_video, videos, how, card, seed)
    else:
        _check_view(videos, how, card)
        cut = partial(_cut_clip, videos, card)
    for index, item in enumerate(read_ahead(open_loader(cut, range(len(videos)), workers))):
        if isinstance(item, DynagestError):
            raise item
        if isinstance(item, UnreadableClip):
            unread.append(item)
        else:
            squares, samples, depth = item
            under = repeat(None) if depth is None else iterate_views(depth.numpy(), samples.numpy())
            for rgb, below in zip(iterate_views(squares.numpy(), samples.numpy()), under, strict=False):
                view = torch.from_numpy(rgb).permute(0, 3, 1, 2)
                yield index, view, None if below is None else torch.from_numpy(below)[:, None]
        if progress is not None:
            progress(index + 1, len(videos))


def _cut_video(
    videos: VideoSource, how: Protocol, card: NetworkCard, seed: int, index: int
) -> _ClipViews | UnreadableClip:
    """The views of video ``index``, each frame of which is decoded once."""
    depth = None
    try:
        plan = plan_frames(how, videos.num_frames(index), card, seed, index)
        frames = videos.frames(index, plan.frames)
        if card.inputs != "rgb":
            assert isinstance(videos, ManifestVideos)  # ``evaluate`` refuses others
            depth = _cut_depth(videos, how, card, index, plan.frames, frames.shape[1:3])
    except ClipError as error:
        return UnreadableClip(index, videos.name(index), str(error))
    return torch.from_numpy(cut_squares(frames, how, card.size)), torch.from_numpy(plan.samples), depth


def _cut_depth(
    videos: ManifestVideos, how: Protocol, card: NetworkCard, index: int, wanted: np.ndarray, rgb_size: tuple[int, int]
) -> torch.Tensor:
    """The depth of video ``index`` under its squares. Raises ``ClipError`` if there is none, or none that fits."""
    try:
        raw = videos.depth(index, wanted, rgb_size)
        return torch.from_numpy(cut_depth_squares(raw, videos.manifest.depth, rgb_size, how, card.size))
    except DepthError as error:
        raise ClipError(f"{videos.manifest.clips[index].depth}: {error}") from error


def _cut_clip(clips: ClipSource, card: NetworkCard, index: int) -> _ClipViews | UnreadableClip:
    """The one view of clip ``index``. Raises ``ModelError`` as ``read_clip`` does.

    A dataset that does not tell its view is known by its clips alone.
    """
    sample = read_clip(clips, (0, index), frames=card.num_segments, size=card.size, needs_depth=card.inputs != "rgb")
    if isinstance(sample, UnreadableClip):
        return sample
    squares = sample["rgb"].permute(0, 2, 3, 1)[None]
    return squares, torch.arange(card.num_segments)[None], None if card.inputs == "rgb" else sample["depth"][:, 0][None]


def _check_view(clips: ClipSource, how: Protocol, card: NetworkCard) -> None:
    """Refuse a dataset with ready views for a protocol that needs whole videos, or whose view is not the training's.

    One that does not tell its view is accepted.
    """
    if how.name != "center":
        raise RecipeError(
            f"the protocol {how.name!r} needs the frames of whole videos; {type(clips).__name__} gives ready views: "
            "write the clips to a folder (`dynagest data synth`) and test on its manifest, or use `center`"
        )
    view = getattr(clips, "view", None)
    if not isinstance(view, View):
        return
    if view.augment:
        raise RecipeError("this dataset's view is for training (augment=True); build it with augment=False to test")
    wanted = View(
        num_segments=card.num_segments,
        size=card.size,
        sampling=card.sampling,
        stride=card.stride,
        depth=card.inputs != "rgb",
    )
    if misfit := view.misfit(wanted):
        has, takes = misfit
        raise ModelError(
            f"the dataset's view has {has}, but the network takes {takes}; build the dataset with View({takes}, ...)"
        )
