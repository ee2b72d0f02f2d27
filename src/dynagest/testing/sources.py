"""Where tested frames come from: anything that can say how long a clip is and read some of its RGB frames."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from dynagest.card import NetworkCard
from dynagest.clips.dataset import ClipDataset, ClipSource
from dynagest.clips.frames import FrameReader
from dynagest.clips.manifest import SPLITS, Clip, Manifest
from dynagest.clips.view import View
from dynagest.errors import ManifestError, ModelError, some


@runtime_checkable
class VideoSource(Protocol):
    """Labelled videos with random access to their RGB frames. ``classes[label(i)]`` names the class of video i."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def label(self, index: int) -> int: ...

    def name(self, index: int) -> str:
        """What messages and tables call the video, such as its path."""

    def num_frames(self, index: int) -> int:
        """Length of the video. Raises ``ClipError`` when it cannot be read."""

    def frames(self, index: int, wanted: np.ndarray) -> np.ndarray:
        """Frames ``wanted`` (F,) as uint8 RGB (F, H, W, 3). Raises ``ClipError`` when they cannot be read."""


@dataclass(frozen=True)
class ManifestVideos:
    """The RGB of a manifest's clips. Its depth is never opened: a test on RGB must not need it."""

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
        return clip_name(self.manifest.clips[index])

    def num_frames(self, index: int) -> int:
        return self._reader.length(self.manifest.clips[index])

    def frames(self, index: int, wanted: np.ndarray) -> np.ndarray:
        clip = self.manifest.clips[index]
        return self._reader.frames(clip.video, clip.start + wanted)


def clip_name(clip: Clip) -> str:
    """A clip's path, with its frame range when it is not the whole file."""
    if clip.start == 0 and clip.end is None:
        return str(clip.video)
    return f"{clip.video}[{clip.start}:{'' if clip.end is None else clip.end}]"


def video_name(source: VideoSource | ClipSource, index: int) -> str:
    """What messages and tables call clip ``index``; a plain number when it comes from no file."""
    if isinstance(source, VideoSource):
        return source.name(index)
    return clip_name(source.manifest.clips[index]) if isinstance(source, ClipDataset) else f"clip {index}"


def open_source(source: Manifest | VideoSource | ClipSource, split: str, card: NetworkCard) -> VideoSource | ClipSource:
    """Where the frames to be tested come from: the RGB of a manifest's ``split``, or whatever else is given, as it is.

    A network that is fed depth sees a manifest through a view with depth. Raises ``ManifestError`` for a split without
    clips, ``ModelError`` for videos of RGB, on which such a network cannot be tested.
    """
    if isinstance(source, Manifest):
        if not source.split(split).clips:
            name = str(source.path or "the manifest")
            counts = [f"{each!r} ({len(source.split(each))})" for each in SPLITS if source.split(each).clips]
            raise ManifestError(
                f"{name}: split {split!r} has no clips to test on; there are clips in {' and '.join(counts) or 'none'}"
            )
        if card.inputs == "rgb":
            return ManifestVideos(source.split(split))
        return with_depth(source.split(split), card)
    if card.inputs != "rgb" and isinstance(source, VideoSource):
        raise ModelError(
            f"this network is fed {card.inputs}, so it cannot be tested on videos of RGB; give a manifest of clips "
            "with depth, or a dataset whose view gives depth"
        )
    if len(source) == 0:
        raise ManifestError(f"{type(source).__name__}: has no clips to test on")
    return source


def with_depth(clips: Manifest, card: NetworkCard) -> ClipDataset:
    """The clips as they are shown to the network of ``card`` when it is tested, and their depth."""
    view = View(num_segments=card.num_segments, size=card.size, sampling=card.sampling, stride=card.stride)
    return ClipDataset(clips, view, seed=0)


def match_classes(source: tuple[str, ...], network: tuple[str, ...], used: set[int]) -> np.ndarray:
    """The logit of each class of the source: (len(source),) int64, matched by name; -1 for unused unknown classes.

    Raises ``ManifestError`` naming the classes among ``used`` that the network does not know.
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
