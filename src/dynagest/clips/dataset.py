"""Turns the clips of a manifest into batches of tensors: N clips, T frames, H x W pixels."""

from collections.abc import Sequence
from typing import Any, Protocol, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from dynagest.clips.frames import frame_rate
from dynagest.clips.labelled import NO_DEPTH, ManifestVideos, UnreadableClip
from dynagest.clips.manifest import Manifest
from dynagest.clips.view import View
from dynagest.errors import ClipError, DepthError, ModelError


class Sample(TypedDict):
    """One clip: rgb uint8 (T, 3, H, W), canonical depth float32 (T, 1, H, W), which is zeros if there is none."""

    rgb: torch.Tensor
    depth: torch.Tensor
    has_depth: bool
    label: int
    index: int


class Batch(TypedDict):
    """N clips. ``rgb`` uint8 (N, T, 3, H, W), with the channels innermost in memory, as in ``channels_last``.

    ``depth`` float32 (N, T, 1, H, W), canonical, zeros where ``has_depth``, bool (N,), is false; ``label`` and
    ``index`` int64 (N,).
    """

    rgb: torch.Tensor
    depth: torch.Tensor
    has_depth: torch.Tensor
    label: torch.Tensor
    index: torch.Tensor


class ClipSource(Protocol):
    """What training and testing need of a dataset, whether it is read from files or generated.

    A key is ``(epoch, index)``. Every random draw of a sample depends only on the key and the source's seed. Training
    takes sources as ``TrainingData.of_sources(train, validation)`` of ``dynagest.training.data``. If a source also has
    ``timing(index)``, as ``ClipDataset`` has, the network's card gets its ``fps`` from it.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> Sample | UnreadableClip: ...

    def label(self, index: int) -> int:
        """The index of the class of clip ``index``, unmirrored."""

    def name(self, index: int) -> str:
        """The clip's name in messages and tables: its path, or ``clip INDEX`` where it comes from no file."""


class ClipDataset(Dataset[Sample | UnreadableClip]):
    """The clips of a manifest, sampled, cropped and augmented by a view.

    ``dataset[(epoch, index)]`` is a ``Sample``, or an ``UnreadableClip`` for a clip that cannot be read, or whose depth
    contradicts ``depth.yaml`` or has another aspect ratio than its RGB. All draws come from
    ``np.random.default_rng((seed, epoch, index))``, so that any number of workers and processes gives the same samples.

    The constructor raises ``DepthError`` if depth is not declared, or if none of the first clips with depth agrees with
    the declaration (then that is wrong, not a file); ``ManifestError`` for a label that is not among the classes; and
    ``RecipeError`` for invalid ``flip_labels`` (see ``View.flip_table``).

    Example, an epoch in a training loop of your own::

        from dynagest.clips.dataset import collate, normalise

        card = dg.NetworkCard(model="mine", classes=dataset.classes)  # mean and std are ImageNet's
        keys = [(epoch, index) for index in torch.randperm(len(dataset)).tolist()]
        for batch, unreadable in DataLoader(dataset, batch_size=8, sampler=keys, collate_fn=collate, num_workers=2):
            rgb = normalise(batch["rgb"], card.mean, card.std)  # float32 (N, T, 3, H, W)
    """

    def __init__(self, manifest: Manifest, view: View, seed: int) -> None:
        self.manifest, self.view, self.seed = manifest, view, seed
        self._videos = ManifestVideos(manifest)
        self._labels = tuple(manifest.index(clip.label) for clip in manifest.clips)
        self._flipped = view.flip_table(manifest.classes)
        if view.depth:
            self._videos.probe_depth()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.classes

    def __len__(self) -> int:
        return len(self.manifest)

    def label(self, index: int) -> int:
        """The index of the class of clip ``index``, unmirrored."""
        return self._labels[index]

    def name(self, index: int) -> str:
        return self.manifest.clips[index].name

    def timing(self, index: int) -> tuple[int, float | None]:
        """The number of frames of clip ``index`` and its frames a second, ``None`` if neither clip nor video states it.

        Raises ``ClipError`` if the clip is unreadable.
        """
        clip = self.manifest.clips[index]
        return self._videos.num_frames(index), clip.fps or frame_rate(clip.video)

    def __getitem__(self, key: tuple[int, int]) -> Sample | UnreadableClip:
        epoch, index = epoch_and_index(key)
        clip = self.manifest.clips[index]
        rng = np.random.default_rng((self.seed, epoch, index))
        try:
            indices = self.view.indices(self._videos.num_frames(index), rng)
            frames = self._videos.frames(index, indices)
        except ClipError as error:
            return UnreadableClip(index, str(clip.video), str(error))
        try:
            read = self.view.depth and clip.depth is not None
            depth = self._videos.depth(index, indices, frames.shape[1:3]) if read else None
            rgb, canonical, flip = self.view.transform(frames, depth, self.manifest.depth, rng)
        except ClipError as error:
            return UnreadableClip(index, str(clip.depth or clip.video), str(error))
        except DepthError as error:
            assert clip.depth is not None
            return UnreadableClip(index, str(clip.depth), f"{clip.depth}: {error}")
        label = self._flipped[self._labels[index]] if flip else self._labels[index]
        return make_sample(rgb, canonical, label, index)


def epoch_and_index(key: Any) -> tuple[int, int]:
    """Split a key into epoch and index. Raises ``TypeError`` for a plain index, a ``DataLoader``'s default key."""
    try:
        epoch, index = key
    except TypeError:
        raise TypeError(
            f"clips are asked for by (epoch, index), not {key!r}; give a DataLoader sampler=[(epoch, index), ...]"
        ) from None
    return epoch, index


def read_clip(
    source: ClipSource, key: tuple[int, int], *, frames: int, size: int, needs_depth: bool
) -> Sample | UnreadableClip:
    """A clip of a source, for a network that takes ``frames`` frames of ``size`` x ``size`` pixels.

    With ``needs_depth``, because the network is fed depth, a clip without it is unreadable. Raises ``ModelError``
    unless ``rgb`` is uint8 (``frames``, 3, ``size``, ``size``) and ``label`` is one of the source's classes.
    """
    clip, name = source[key], source.name(key[1])
    if isinstance(clip, UnreadableClip):
        return clip
    if needs_depth and not clip["has_depth"]:
        return UnreadableClip(key[1], name, f"{name}: {NO_DEPTH}")
    rgb, label, shape = clip["rgb"], clip["label"], (frames, 3, size, size)
    if rgb.dtype != torch.uint8 or tuple(rgb.shape) != shape:
        raise ModelError(
            f"{name}: the dataset gives RGB as {rgb.dtype} {tuple(rgb.shape)}, the network takes torch.uint8 {shape}: "
            f"{frames} frames of {size} x {size}; have it give those"
        )
    if not 0 <= label < len(source.classes):
        raise ModelError(f"{name}: the dataset gives label {label}, but of {len(source.classes)} classes, from 0 on")
    return clip


def make_sample(rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32] | None, label: int, index: int) -> Sample:
    """Make a sample of RGB uint8 (T, H, W, 3) and canonical depth, float32 (T, H, W) or ``None``."""
    pixels = torch.zeros(rgb.shape[:3]) if depth is None else torch.from_numpy(depth)
    return {
        "rgb": torch.from_numpy(rgb).permute(0, 3, 1, 2),
        "depth": pixels[:, None],
        "has_depth": depth is not None,
        "label": label,
        "index": index,
    }


def collate(samples: Sequence[Sample | UnreadableClip]) -> tuple[Batch | None, list[UnreadableClip]]:
    """Split samples into a batch of the readable ones, ``None`` if there are none, and a list of the unreadable ones.

    For ``DataLoader(collate_fn=)``.
    """
    unreadable = [sample for sample in samples if isinstance(sample, UnreadableClip)]
    good = [sample for sample in samples if not isinstance(sample, UnreadableClip)]
    if not good:
        return None, unreadable
    # Stacked in their memory order, channels innermost, so that no pixel is moved twice.
    rgb = torch.stack([sample["rgb"].permute(0, 2, 3, 1) for sample in good]).permute(0, 1, 4, 2, 3)
    batch: Batch = {
        "rgb": rgb,
        "depth": torch.stack([sample["depth"] for sample in good]),
        "has_depth": torch.tensor([sample["has_depth"] for sample in good]),
        "label": torch.tensor([sample["label"] for sample in good]),
        "index": torch.tensor([sample["index"] for sample in good]),
    }
    return batch, unreadable


def normalise(rgb: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """``(rgb / 255 - mean) / std`` of uint8 (..., 3, H, W): float32 on the same device, in the same memory order."""
    mean_3hw, std_3hw = (torch.tensor(values, device=rgb.device).view(3, 1, 1) for values in (mean, std))
    return rgb.to(torch.float32, copy=True).mul_(1 / (255 * std_3hw)).sub_(mean_3hw / std_3hw)
