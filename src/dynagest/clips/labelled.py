"""Labelled videos: sources that give the length, the RGB frames and the class of each video. Needs no torch."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from dynagest.clips.depth import shape_fault
from dynagest.clips.frames import FrameReader
from dynagest.clips.manifest import Manifest
from dynagest.clips.sampling import DEPTH_LENGTH_TOLERANCE, depth_indices
from dynagest.errors import ClipError, DepthError, ManifestError, counted, some

NO_DEPTH = "has no depth, which this network is fed"
# The number of clips whose depth is tried before a run, to find out whether depth.yaml contradicts the files.
_PROBES = 16


@dataclass(frozen=True, slots=True)
class UnreadableClip:
    """A clip that could not be read: its index, the file at fault and the reason. It is left out, never replaced.

    It counts neither for nor against a network. So does a clip without depth, if the network is fed depth.
    """

    index: int
    file: str
    reason: str

    @property
    def message(self) -> str:
        """File and reason in one line. Most reasons name the file already, so it is added only where it is missing."""
        return self.reason if self.file in self.reason else f"{self.file}: {self.reason}"


@runtime_checkable
class VideoSource(Protocol):
    """Labelled videos with random access to their RGB frames. ``classes[label(i)]`` is the class name of video i."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def label(self, index: int) -> int: ...

    def name(self, index: int) -> str:
        """The video's name in messages and tables, such as its path."""

    def num_frames(self, index: int) -> int:
        """The length of the video in frames. Raises ``ClipError`` if it cannot be read."""

    def frames(self, index: int, wanted: np.ndarray) -> np.ndarray:
        """Read the frames ``wanted`` (F,) as uint8 RGB (F, H, W, 3). Raises ``ClipError`` if they cannot be read."""


@dataclass(frozen=True)
class ManifestVideos:
    """The videos of a manifest's clips. Depth is opened only by ``depth`` and ``probe_depth``: RGB alone needs none."""

    manifest: Manifest
    _reader: FrameReader = field(default_factory=FrameReader, compare=False, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.classes

    def __len__(self) -> int:
        return len(self.manifest)

    def label(self, index: int) -> int:
        return self.manifest.index(self.manifest.clips[index].label)

    def name(self, index: int) -> str:
        return self.manifest.clips[index].name

    def num_frames(self, index: int) -> int:
        return self._reader.length(self.manifest.clips[index])

    def frames(self, index: int, wanted: np.ndarray) -> np.ndarray:
        clip = self.manifest.clips[index]
        return self._reader.frames(clip.video, clip.start + wanted)

    def depth(self, index: int, wanted: np.ndarray, rgb_size: tuple[int, int]) -> np.ndarray:
        """Read the raw depth (F, h, w) of the frames ``wanted`` (F,), whose RGB is of ``rgb_size`` (height, width).

        Raises ``ClipError`` if there is none or it cannot be read, and ``DepthError``, which does not name the file, if
        it has another aspect ratio than its RGB.
        """
        clip, n = self.manifest.clips[index], self.num_frames(index)
        if clip.depth is None:
            raise ClipError(f"{clip.name}: {NO_DEPTH}")
        count = self._reader.count(clip.depth)
        n_depth = (count if clip.depth_end is None else min(count, clip.depth_end)) - clip.depth_start
        matching = depth_indices(wanted, n, n_depth)
        if matching is None:
            raise ClipError(
                f"{clip.depth}: {counted(max(n_depth, 0), 'frame')} of depth for {n} of RGB; they may differ by "
                f"{DEPTH_LENGTH_TOLERANCE} at most. Correct the ranges in the manifest, or leave its depth blank there"
            )
        self._reader.require_whole(clip.depth, clip.depth_start, clip.depth_start + n_depth)
        depth = self._reader.depth(clip.depth, clip.depth_start + matching)
        self._check_shape(depth, rgb_size)
        return depth

    def probe_depth(self) -> None:
        """Raise ``DepthError`` before a run starts if the declaration of depth is wrong, so that not all clips fail.

        Looks at the first clips with depth until one agrees with the declaration. A single clip that does not agree, or
        cannot be read, is reported with its reason whenever it is drawn.
        """
        first: DepthError | None = None
        for clip in [clip for clip in self.manifest.clips if clip.depth][:_PROBES]:
            assert clip.depth is not None
            if self.manifest.depth is None:
                raise DepthError(f"{clip.depth}: what its values mean is not declared; give the manifest a DepthSpec")
            try:
                raw = self._reader.depth(clip.depth, [clip.depth_start])
                self.manifest.depth.canonical(raw)
                self._check_shape(raw, self._reader.frames(clip.video, [clip.start]).shape[1:3])
            except ClipError:
                continue
            except DepthError as error:
                first = first or DepthError(f"{clip.depth}: {error}")
                continue
            return
        if first is not None:
            raise first

    def _check_shape(self, depth: np.ndarray, rgb_size: tuple[int, int]) -> None:
        fault = shape_fault((depth.shape[1], depth.shape[2]), rgb_size, self.manifest.depth)
        if fault:
            raise DepthError(fault)


def match_classes(source: tuple[str, ...], network: tuple[str, ...], used: set[int]) -> np.ndarray:
    """Map each class of the source to the network's logit of the same name: (len(source),) int64.

    A class that the network does not know becomes -1 if its index is not in ``used``; else raises ``ManifestError``,
    which names such classes.
    """
    logit = {name: index for index, name in enumerate(network)}
    unknown = [source[index] for index in sorted(used) if source[index] not in logit]
    if unknown:
        strange, known = (some([*map(repr, names)], 10) for names in (unknown, network))
        raise ManifestError(
            f"the network does not know {len(unknown)} of the classes of these clips: {strange}; "
            f"it knows {known}. Rename the labels, or train on these clips"
        )
    return np.array([logit.get(name, -1) for name in source], dtype=np.int64)
