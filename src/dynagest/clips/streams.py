"""Streams, which are long videos in which gestures begin and end, and the CSV file that lists them. Needs no torch.

``streams.csv`` has the header ``stream,label,begin,end[,fps,split,subject]`` in any order and a row for each gesture.
A stream without gestures has one row with ``label``, ``begin`` and ``end`` blank. ``stream`` is a video or a folder of
numbered images, relative to the file's folder. ``begin`` and ``end`` are seconds from the first frame: frame i is shown
from ``i / fps`` to ``(i + 1) / fps``, so that frames 41 to 57 counted from 1 at 10 fps are 4.0 to 5.7. With a blank
``fps`` the video's own times are used. A blank split is ``test``. Beside the file lies ``classes.txt``, as with a
manifest.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dynagest.atomic import write_together
from dynagest.clips.frames import FrameReader, is_folder
from dynagest.clips.manifest import CLASSES_FILE, natural_order, read_classes
from dynagest.clips.splits import SPLITS, check_split
from dynagest.clips.table import absolute, encoded, rate_text, read_number, read_rate, read_table, relative, table_text
from dynagest.clips.video import iterate_video, video_times
from dynagest.errors import ClipError, ManifestError

STREAMS_FILE = "streams.csv"
NEEDED = ("stream", "label", "begin", "end")
COLUMNS = (*NEEDED, "fps", "split", "subject")


@dataclass(frozen=True, slots=True)
class Span:
    """One true gesture, from ``begin`` to ``end`` in seconds from the stream's first frame; ``row`` is its line."""

    label: str
    begin: float
    end: float
    row: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Stream:
    """One long recording and its true gestures, sorted by their begin.

    ``video`` is an absolute path; with ``fps`` None the video's own times are used; ``row`` is the stream's first line
    in the file.
    """

    video: Path
    spans: tuple[Span, ...] = ()
    fps: float | None = None
    split: str = "test"
    subject: str = ""
    row: int = 0

    def frames(self) -> Iterator[tuple[np.ndarray, float]]:
        """Yield (frame uint8 RGB (H, W, 3), its time in seconds) in order, decoding one at a time.

        Raises ``ClipError`` if the recording cannot be read, states no times, or is a folder of images without ``fps``.
        """
        if not is_folder(self.video):
            yield from iterate_video(self.video, self.fps)
            return
        fps = self._rate_of_images()
        reader = FrameReader()
        for index in range(reader.count(self.video)):
            yield reader.frames(self.video, [index])[0], index / fps

    def edges(self) -> npt.NDArray[np.float64]:
        """The seconds at which each frame begins to be shown and the last one ends, (frames + 1,), without decoding.

        The last frame of a video with its own times counts as long as the one before it or the median one, whichever
        is longer. Raises ``ClipError`` as ``frames`` does.
        """
        if self.fps is not None or is_folder(self.video):
            fps = self.fps or self._rate_of_images()
            return np.arange(FrameReader().count(self.video) + 1) / fps
        times = np.array(video_times(self.video) or [])
        if len(times) < 2:
            raise ClipError(f"{self.video}: its pictures have no times; give the stream an fps in {STREAMS_FILE}")
        shown = np.diff(times)
        return np.append(times, times[-1] + max(shown[-1], np.median(shown))) - times[0]

    def _rate_of_images(self) -> float:
        if self.fps is None:
            raise ClipError(
                f"{self.video}: images have no times of their own; give the stream an fps in {STREAMS_FILE}"
            )
        return self.fps


@dataclass(frozen=True)
class StreamSet:
    """The streams of a dataset and the classes of their gestures.

    ``names_splits`` is False for a list that was read and has no split in any row.

    Example: ``for stream in StreamSet.read("data/streams").split("val").streams: ...``
    """

    streams: tuple[Stream, ...]
    classes: tuple[str, ...]
    path: Path | None = None
    names_splits: bool = True

    def __len__(self) -> int:
        return len(self.streams)

    @classmethod
    def read(cls, path: Path | str) -> "StreamSet":
        """Read a list of streams, or the ``streams.csv`` in a folder. Does not check whether the videos exist.

        Raises ``ManifestError`` with every bad row and its line number, for a faulty ``classes.txt``, or for labels
        that it does not list.
        """
        path = absolute(path)
        path = path / STREAMS_FILE if path.is_dir() else path
        found: dict[Path, Stream] = {}
        splits: set[str] = set()

        def take(row: dict[str, str], line: int) -> Sequence[str]:
            splits.add(row.get("split", ""))
            return _add(row, path.parent, line, found)

        read_table(
            path,
            take,
            needed=NEEDED,
            columns=COLUMNS,
            what="gesture",
            writer=f"`dynagest data streams FOLDER` generates streams; a list of your own begins {','.join(NEEDED)}",
        )
        streams = tuple(replace(stream, spans=in_order(stream.spans)) for stream in found.values())
        known = natural_order(span.label for stream in streams for span in stream.spans)
        classes = read_classes(path.with_name(CLASSES_FILE)) or known
        if unknown := set(known) - set(classes):
            raise ManifestError(f"{path}: labels that are not in {CLASSES_FILE}: {', '.join(sorted(unknown))}")
        return cls(streams, classes, path, names_splits=splits != {""})

    def write(self, path: Path | str) -> "StreamSet":
        """Write ``path`` with ``classes.txt`` beside it, both or none; return the set as read back.

        Raises ``RunError`` if they cannot be written, ``ManifestError`` for a path that is not UTF-8.
        """
        path = absolute(path)
        rows: list[tuple[str, ...]] = []
        for stream in self.streams:
            video = relative(stream.video, path.parent)
            rest = (rate_text(stream.fps), stream.split, stream.subject)
            if not stream.spans:
                rows.append((video, "", "", "", *rest))
            for span in stream.spans:
                rows.append((video, span.label, f"{span.begin:.4f}", f"{span.end:.4f}", *rest))
        classes = "".join(f"{name}\n" for name in self.classes)
        files = {path.with_name(CLASSES_FILE): classes, path: table_text(COLUMNS, rows)}
        write_together({file: encoded(text, file) for file, text in files.items()})
        return StreamSet.read(path)

    def split(self, name: str) -> "StreamSet":
        """The set with only the streams of split ``train``, ``val`` or ``test`` (maybe none), with all its classes.

        Raises ``ManifestError`` for another name.
        """
        check_split(name)
        return replace(self, streams=tuple(stream for stream in self.streams if stream.split == name))


def in_order(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The spans sorted by begin, and by end where that is equal."""
    return tuple(sorted(spans, key=lambda span: (span.begin, span.end)))


def _add(row: dict[str, str], folder: Path, line: int, found: dict[Path, Stream]) -> Sequence[str]:
    """Add the row's stream and gesture to ``found``, or return what is wrong with the row."""
    name, label, split = row["stream"], row["label"], row.get("split") or "test"
    if not name:
        return ["the stream is empty"]
    if split not in SPLITS:
        return [f"split {split!r} is none of {', '.join(SPLITS)}"]
    faults: list[str] = []
    fps = read_rate(row.get("fps", ""), faults)
    begin, end = (read_number(row[key]) for key in ("begin", "end"))
    if (row["begin"] and begin is None) or (row["end"] and end is None):
        faults.append(f"{row['begin'] or 'nothing'} to {row['end'] or 'nothing'}: begin and end are numbers of seconds")
    if faults:
        return faults
    video = absolute(folder / name)  # one recording, also where rows call it a.mp4 and ./a.mp4
    stream = found.setdefault(video, Stream(video, (), fps, split, row.get("subject", ""), line))
    if (stream.fps, stream.split, stream.subject) != (fps, split, row.get("subject", "")):
        return [f"fps, split or subject differ from those in line {stream.row}, of the same stream"]
    if not label:
        return [] if begin is None and end is None else ["begin or end without a label"]
    if begin is None or end is None or not 0 <= begin < end < math.inf:
        return [f"{row['begin'] or 'nothing'} to {row['end'] or 'nothing'} is no range of seconds"]
    found[video] = replace(stream, spans=(*stream.spans, Span(label, begin, end, line)))
    return []
