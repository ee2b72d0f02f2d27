"""Turns videos into the views that a protocol shows to the network; worker processes read ahead."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from dynagest.card import NetworkCard
from dynagest.clips.dataset import ClipSource, Sample, UnreadableClip
from dynagest.clips.labelled import VideoSource
from dynagest.clips.protocols import Protocol, cut_squares, iterate_views, plan_frames
from dynagest.clips.view import View
from dynagest.clips.workers import in_shared_memory, read_ahead, start_worker, worker_context
from dynagest.errors import ClipError, DynagestError, ModelError, RecipeError
from dynagest.testing.evaluation import Unread

Seen = tuple[int, torch.Tensor, torch.Tensor | None]
"""A view: the clip's index, RGB (T, 3, s, s) uint8, and depth (T, 1, s, s) in [0, 1] if the network is fed it."""


def read_views(
    videos: VideoSource | ClipSource,
    how: Protocol,
    card: NetworkCard,
    *,
    seed: int,
    workers: int,
    unread: list[Unread],
    progress: Callable[[int, int], None] | None,
) -> Iterator[Seen]:
    """Every view of every readable clip; unreadable clips are appended to ``unread``.

    Raises ``RecipeError`` or ``ModelError`` for a dataset whose view does not fit the protocol or the network.
    """
    if isinstance(videos, VideoSource):
        source: _PlannedFrames | ClipSource = _PlannedFrames(videos, how, card, seed)
        keys: list = list(range(len(videos)))
    elif how.name == "center":
        _check_view(getattr(videos, "view", None), card)
        source, keys = videos, [(0, index) for index in range(len(videos))]
    else:
        raise RecipeError(
            f"the protocol {how.name!r} needs the frames of whole videos; {type(videos).__name__} gives ready views: "
            "write the clips to a folder (`dynagest data synth`) and test on its manifest, or use `center`"
        )
    loader = DataLoader(
        _Shared(source),
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        multiprocessing_context=worker_context("dynagest.clips.dataset") if workers else None,
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # its own, because the default would draw from torch's global generator
    )
    for done, (key, item) in enumerate(zip(keys, read_ahead(loader), strict=True), start=1):
        if isinstance(item, DynagestError):
            raise item
        if isinstance(item, Unread | UnreadableClip):
            unread.append(Unread(item.index, str(item.file), item.reason))
        elif isinstance(videos, VideoSource):
            squares, samples = item
            for view in iterate_views(squares.numpy(), samples.numpy()):
                yield key, torch.from_numpy(view).permute(0, 3, 1, 2), None
        elif card.inputs != "rgb" and not item["has_depth"]:
            name = videos.name(key[1])
            unread.append(Unread(key[1], name, f"{name}: has no depth, which this network is fed"))
        else:
            yield _fitting(key[1], item, card)
        if progress is not None:
            progress(done, len(keys))


class _Shared(Dataset):
    """A source as data workers read it: items lie in shared memory, and named errors are returned as values."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __getitem__(self, key: Any) -> Any:
        try:
            return in_shared_memory(self.source[key])
        except DynagestError as error:
            return error


class _PlannedFrames:
    """Item i is video i as tensors (squares (crops, F, s, s, 3), samples (S, T)), or ``Unread``.

    Each frame is decoded once, and its squares are sent once, however many temporal samples contain it.
    """

    def __init__(self, videos: VideoSource, how: Protocol, card: NetworkCard, seed: int) -> None:
        self.videos, self.how, self.card, self.seed = videos, how, card, seed

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor] | Unread:
        try:
            length = self.videos.num_frames(index)
            plan = plan_frames(self.how, length, self.card, self.seed, index)
            frames = self.videos.frames(index, plan.frames)
        except ClipError as error:
            return Unread(index, self.videos.name(index), str(error))
        squares = cut_squares(frames, self.how, self.card.size)
        return torch.from_numpy(squares), torch.from_numpy(plan.samples)


def _check_view(view: View | None, card: NetworkCard) -> None:
    """Refuse a dataset whose view differs from that of the network's training; one without a view is accepted."""
    if view is None:
        return
    if view.augment:
        raise RecipeError("this dataset's view is for training (augment=True); build it with augment=False to test")
    if card.inputs != "rgb" and not view.depth:
        raise ModelError(f"this network is fed {card.inputs}; build the dataset with View(depth=True)")
    if view.sampling != card.sampling or (card.sampling == "dense" and view.stride != card.stride):
        raise ModelError(
            f"the dataset's view has {view.sampling} sampling (stride {view.stride}), the network was trained with "
            f"{card.sampling} sampling (stride {card.stride}); build the dataset with "
            f"View(sampling={card.sampling!r}, stride={card.stride})"
        )


def _fitting(index: int, sample: Sample, card: NetworkCard) -> Seen:
    """A dataset's sample as a view. Raises ``ModelError`` unless frames and size are those of the training."""
    rgb = sample["rgb"]
    frames, _, height, width = rgb.shape
    if (frames, height, width) != (card.num_segments, card.size, card.size):
        raise ModelError(
            f"the dataset's view gives {frames} frames of {width} x {height}, the network was trained with "
            f"{card.num_segments} of {card.size} x {card.size}; build the dataset with "
            f"View(num_segments={card.num_segments}, size={card.size})"
        )
    return index, rgb, None if card.inputs == "rgb" else sample["depth"]
