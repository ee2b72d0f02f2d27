"""Labelled videos: sources that give the length, the RGB frames and the class of each video. Needs no torch."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from dynagest.clips.frames import FrameReader
from dynagest.clips.manifest import Manifest
from dynagest.errors import ManifestError, some


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
    """The RGB videos of a manifest's clips. Depth is never opened, so that a test on RGB does not need it."""

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
