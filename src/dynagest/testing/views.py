"""From videos to the views that a protocol shows to the network, read ahead by worker processes."""

import signal
from collections.abc import Callable, Iterator

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from dynagest.card import NetworkCard
from dynagest.clips.dataset import ClipSource, UnreadableClip, View
from dynagest.errors import ClipError, ModelError, RecipeError
from dynagest.testing.evaluation import Unread
from dynagest.testing.protocols import Protocol, cut_squares, iterate_views, plan_frames
from dynagest.testing.sources import VideoSource


def read_views(
    videos: VideoSource | ClipSource,
    how: Protocol,
    card: NetworkCard,
    *,
    seed: int,
    workers: int,
    unread: list[Unread],
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Every view of every readable clip as (clip, (T, 3, s, s) uint8); the others are appended to ``unread``."""
    if isinstance(videos, VideoSource):
        dataset: Dataset | ClipSource = _PlannedFrames(videos, how, card, seed)
        keys: list = list(range(len(videos)))
    elif how.name == "center":
        _check_view(getattr(videos, "view", None), card)
        dataset, keys = videos, [(0, index) for index in range(len(videos))]
    else:
        raise RecipeError(
            f"the protocol {how.name!r} needs the frames of whole videos; {type(videos).__name__} gives ready views: "
            "write the clips to a folder (`dynagest data synth`) and test on its manifest, or use `center`"
        )
    loader = DataLoader(
        dataset,  # type: ignore[arg-type]  # a ClipSource's keys are pairs
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        # Not fork: a child forked while torch's threads hold a lock waits for ever.
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # its own: the default one would draw from torch's global generator
    )
    for done, (key, item) in enumerate(zip(keys, loader, strict=True), start=1):
        if isinstance(item, Unread | UnreadableClip):
            unread.append(Unread(item.index, str(item.file), item.reason))
        elif isinstance(videos, VideoSource):
            squares, samples = item
            for view in iterate_views(squares.numpy(), samples.numpy()):
                yield key, torch.from_numpy(view).permute(0, 3, 1, 2)
        else:
            yield key[1], _fitting(item["rgb"], card)
        if progress is not None:
            progress(done, len(keys))


class _PlannedFrames(Dataset):
    """Video i as (squares (crops, F, s, s, 3), samples (S, T)) tensors, or ``Unread``. Each frame is decoded once.

    The squares of a frame travel once, however many temporal samples show it.
    """

    def __init__(self, videos: VideoSource, how: Protocol, card: NetworkCard, seed: int) -> None:
        self.videos, self.how, self.card, self.seed = videos, how, card, seed

    def __len__(self) -> int:
        return len(self.videos)

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
    """Refuse a dataset that looks at clips otherwise than the network did; one without a view is taken as it is."""
    if view is None:
        return
    if view.augment:
        raise RecipeError("this dataset's view is for training (augment=True); build it with augment=False to test")
    if view.sampling != card.sampling or (card.sampling == "dense" and view.stride != card.stride):
        raise ModelError(
            f"the dataset's view has {view.sampling} sampling (stride {view.stride}), the network was trained with "
            f"{card.sampling} sampling (stride {card.stride}); build the dataset with "
            f"View(sampling={card.sampling!r}, stride={card.stride})"
        )


def _fitting(rgb: torch.Tensor, card: NetworkCard) -> torch.Tensor:
    """``rgb`` (T, 3, H, W) itself, if it has the number of frames and the size that the network was trained with."""
    frames, _, height, width = rgb.shape
    if (frames, height, width) != (card.num_segments, card.size, card.size):
        raise ModelError(
            f"the dataset's view gives {frames} frames of {width} x {height}, the network was trained with "
            f"{card.num_segments} of {card.size} x {card.size}; build the dataset with "
            f"View(num_segments={card.num_segments}, size={card.size})"
        )
    return rgb


def _start_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group; the main process ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One process a core is enough; OpenCV's own threads would only fight over them.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
