"""The clips of a dataset: one record per clip, and the manifest, the CSV file that lists them. Needs no torch.

``manifest.csv`` has the header ``video,label[,depth,start,end,depth_start,depth_end,split,subject,fps]`` in any order.
Paths are relative to its folder; labels are names; ranges of frames are 0-based and half-open. A blank range is the
whole file; a blank ``depth_start`` or ``depth_end`` equals ``start`` or ``end``; a blank split is ``train``; ``fps`` is
in frames a second, and a blank one is read from the video. Beside it lie ``depth.yaml`` (``DepthSpec``, required if any
clip has depth) and ``classes.txt`` (one label a line, in the order of the logits; without it, the classes are the
clips' labels in natural order).
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pydantic.dataclasses

from dynagest.atomic import write_together
from dynagest.clips.depth import DEPTH_FILE, EXAMPLE, DepthSpec
from dynagest.clips.splits import SPLITS, check_split
from dynagest.clips.table import (
    BadRow,
    absolute,
    encoded,
    rate_text,
    read_rate,
    read_table,
    read_text,
    relative,
    table_text,
)
from dynagest.errors import DepthError, ManifestError

MANIFEST_FILE = "manifest.csv"
CLASSES_FILE = "classes.txt"
NEEDED = ("video", "label")
COLUMNS = (*NEEDED, "depth", "start", "end", "depth_start", "depth_end", "split", "subject", "fps")


@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=pydantic.ConfigDict(extra="forbid"))
class Clip:
    """One gesture: RGB, optional depth, frame ranges, label, split, subject and frame rate.

    ``video`` and ``depth`` are paths (absolute if read from a manifest) of a video file or a folder of numbered images;
    ``depth`` may also be an npz file. Frames are 0-based, ``end`` is excluded, and an ``end`` of ``None`` is the end of
    the file. Depth frame ``depth_start + i`` belongs to frame ``start + i``. ``row`` is the line in the manifest, 0 if
    the clip does not come from one. ``fps`` is in frames a second; ``None`` takes the rate that the video states, which
    a folder of images cannot. Raises pydantic's ``ValidationError`` for a field of the wrong type.

    Example: ``Clip(Path("session1.avi"), "wave", Path("session1_depth.avi"), start=120, end=200, split="test")``
    """

    video: Path
    label: str
    depth: Path | None = None
    start: int = 0
    end: int | None = None
    depth_start: int = 0
    depth_end: int | None = None
    split: str = "train"
    subject: str = ""
    row: int = 0
    fps: float | None = None

    @property
    def name(self) -> str:
        """The video's path, followed by ``[start:end]`` if the clip is not the whole file."""
        if self.start == 0 and self.end is None:
            return str(self.video)
        return f"{self.video}[{self.start}:{'' if self.end is None else self.end}]"


@dataclass(frozen=True)
class Manifest:
    """The clips of a dataset, its classes in the order of the logits, and the declaration of its depth.

    ``path`` is the file that it was read from, ``None`` if there is none.

    Example: ``manifest = Manifest.read("data/manifest.csv"); train = manifest.split("train")``
    """

    clips: tuple[Clip, ...]
    classes: tuple[str, ...]
    depth: DepthSpec | None = None
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.clips)

    @classmethod
    def of(
        cls, clips: Iterable[Clip], depth: DepthSpec | None = None, classes: Sequence[str] | None = None
    ) -> "Manifest":
        """Make a manifest of ``clips``. Without ``classes``, the classes are the clips' labels in natural order.

        Raises ``ManifestError`` for a split that is none of ``SPLITS``: such a clip would be in no split.
        """
        clips = tuple(clips)
        strange = next((clip for clip in clips if clip.split not in SPLITS), None)
        if strange is not None:
            raise ManifestError(f"{strange.name}: split {strange.split!r} is none of {', '.join(SPLITS)}")
        return cls(clips, natural_order(clip.label for clip in clips) if classes is None else tuple(classes), depth)

    @classmethod
    def read(cls, path: Path | str, *, bad_rows: list[BadRow] | None = None) -> "Manifest":
        """Read a manifest, or the ``manifest.csv`` in a folder. Only ``data check`` looks whether the clips exist.

        Raises ``ManifestError`` with every bad row and its line number; ``DepthError`` if ``depth.yaml`` is faulty, or
        missing though a clip has depth. With ``bad_rows`` bad rows are added to that and left out of the manifest, as
        long as there are sound ones.
        """
        path = absolute(path)
        if path.is_dir():
            path = path / MANIFEST_FILE
        classes = read_classes(path.with_name(CLASSES_FILE))
        folder = path.parent if path.suffix else path  # a missing path without a suffix was meant as a folder
        home = shlex.quote(str(folder))
        indexed = home if folder.exists() else "CLIPS"
        clips: list[Clip] = []
        read_table(
            path,
            lambda row, line: _take(row, path.parent, classes, line, clips),
            needed=NEEDED,
            columns=COLUMNS,
            what="clip",
            writer=f"`dynagest data index` writes one, as in `dynagest data index folders {indexed} --out {home}`",
            bad_rows=bad_rows,
        )
        depth_file = path.with_name(DEPTH_FILE)
        depth = DepthSpec.read(depth_file) if depth_file.exists() else None
        if depth is None and any(clip.depth for clip in clips):
            raise DepthError(
                f"{depth_file}: missing, but {path.name} lists depth; write what the depth values mean into it, "
                f"for example:\n{EXAMPLE}"
            )
        return cls(tuple(clips), classes or natural_order(clip.label for clip in clips), depth, path)

    def write(self, path: Path | str, *, overwrite: bool = True) -> "Manifest":
        """Write ``path`` with ``classes.txt`` and ``depth.yaml`` beside it, all or none; return the manifest read back.

        If ``depth_end`` is ``None`` but ``end`` is set, the depth range is written as long as the RGB range. Files that
        have the same content already stay as they are; a ``depth.yaml`` that declares the same in other words counts as
        the same. Raises ``ManifestError`` for a name that reading would not give back, such as one that is not UTF-8,
        and without ``overwrite`` also, changing nothing, if one of the files exists with other content; ``RunError`` if
        the files cannot be written.
        """
        path = absolute(path)
        files = {file: data for file, data in self._files(path).items() if not _says(file, data, self.depth)}
        changed = [file.name for file in files if file.exists()]
        if changed and not overwrite:
            raise ManifestError(
                f"{path.parent}: {' and '.join(changed)} would change; pass --overwrite to replace what is there, or "
                "another place as --out"
            )
        write_together(files)
        return Manifest.read(path)

    def _files(self, path: Path) -> dict[Path, bytes]:
        """The files that ``write`` writes and their contents, the manifest last."""
        timed = any(clip.fps is not None for clip in self.clips)
        columns = COLUMNS if timed else COLUMNS[:-1]
        table = [_row(clip, path.parent)[: len(columns)] for clip in self.clips]
        _refuse_unkept(path, self.classes, (str(row[place]) for row in table for place in (0, 2)))
        rows = table_text(columns, table)
        files = {path.with_name(CLASSES_FILE): "".join(f"{name}\n" for name in self.classes)}
        if self.depth is not None:
            files[path.with_name(DEPTH_FILE)] = self.depth.to_yaml()
        return {file: encoded(text, file) for file, text in {**files, path: rows}.items()}

    def split(self, name: str) -> "Manifest":
        """The manifest with only the clips of split ``train``, ``val`` or ``test`` (maybe none), with all its classes.

        Raises ``ManifestError`` for another name.
        """
        check_split(name)
        return replace(self, clips=tuple(clip for clip in self.clips if clip.split == name))

    def held_out(self, used: Sequence[str] = ()) -> Literal["test", "val"] | None:
        """The split to test on: test, else val, if it has clips and is not among ``used``; ``None`` if neither."""
        present = {clip.split for clip in self.clips} - set(used)
        return "test" if "test" in present else "val" if "val" in present else None

    def index(self, label: str) -> int:
        """The index of a label's class, and so of its logit. Raises ``ManifestError`` if it is not a class."""
        try:
            return self.classes.index(label)
        except ValueError:
            raise ManifestError(f"{self.path or 'manifest'}: {label!r} is not one of its classes") from None


def refuse_path(data: object) -> None:
    """Raise ``ManifestError`` if ``data`` is the path of clips, which the command line takes but a program reads."""
    if isinstance(data, str | Path):
        raise ManifestError(f"{data}: a path where clips are wanted; read them first: Manifest.read({str(data)!r})")


def natural_order(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels, sorted regardless of case and with numbers by value: ``("swipe 2", "swipe 10")``."""

    def key(label: str) -> tuple[list[tuple[int, str]], str]:
        # (value, "") for digits, (-1, text) for the rest, so that the two kinds are comparable with each other.
        parts = re.split(r"([0-9]+)", label.casefold())
        return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)], label

    return tuple(sorted(set(labels), key=key))


def read_classes(path: Path) -> tuple[str, ...]:
    """Read the labels of a ``classes.txt``, in the order of the logits; ``()`` if there is no such file.

    Raises ``ManifestError`` if it is empty, repeats a label, cannot be read, or is not UTF-8 text.
    """
    if not path.exists():
        return ()
    names = [line.strip() for line in read_text(path, "write one label a line").splitlines() if line.strip()]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ManifestError(f"{path}: each class once, but these are repeated: {', '.join(twice)}")
    if not names:
        raise ManifestError(f"{path}: is empty; write one label a line, or remove it to take the labels of the clips")
    return tuple(names)


def _refuse_unkept(path: Path, labels: Iterable[str], paths: Iterable[str]) -> None:
    """Raise ``ManifestError`` for a name that would be another one when the manifest is read back."""
    lost = next((name for name in labels if len(name.strip().splitlines()) != 1), None)
    lost = next((name for name in paths if name != name.strip() or "\r" in name), None) if lost is None else lost
    if lost is not None:
        raise ManifestError(
            f"{path}: cannot hold {lost!r}, for a blank at its ends or a line break in it; rename the file or folder"
        )


def _says(file: Path, data: bytes, depth: DepthSpec | None) -> bool:
    """Whether ``file`` exists with the bytes ``data`` or, for ``depth.yaml``, with a declaration equal to ``depth``."""
    if not file.exists():
        return False
    try:
        if file.name == DEPTH_FILE:
            return DepthSpec.read(file) == depth
        return file.read_bytes() == data
    except (DepthError, OSError):
        return False


def _row(clip: Clip, folder: Path) -> list[str | int]:
    end = "" if clip.end is None else clip.end
    start: str | int = clip.start or (0 if clip.end is not None else "")
    depth, depth_start, depth_end = "", "", ""
    if clip.depth is not None:
        depth = relative(clip.depth, folder)
        last = clip.depth_end
        if last is None and clip.end is not None:
            last = clip.depth_start + clip.end - clip.start
        depth_start = "" if (clip.depth_start, clip.start) == (0, 0) and start == "" else str(clip.depth_start)
        depth_end = "" if last is None else str(last)
    rest = (clip.split, clip.subject, rate_text(clip.fps))
    return [relative(clip.video, folder), clip.label, depth, start, end, depth_start, depth_end, *rest]


def _take(row: dict[str, str], folder: Path, classes: tuple[str, ...], line: int, clips: list[Clip]) -> list[str]:
    """Append the clip of a row to ``clips``, or return what is wrong with the row."""
    faults: list[str] = []

    def frame(column: str) -> int | None:
        cell = row.get(column, "")
        if not cell:
            return None
        if not re.fullmatch(r"[0-9]{1,9}", cell):
            faults.append(f"{column} {cell!r} is not a frame number (a whole number from 0, of 9 digits at most)")
            return None
        return int(cell)

    start, end, depth_start, depth_end = map(frame, ("start", "end", "depth_start", "depth_end"))
    label, split, depth = row["label"], row.get("split") or "train", row.get("depth", "")
    if not row["video"]:
        faults.append("the video is empty")
    if not label:
        faults.append("the label is empty")
    elif classes and label not in classes:
        faults.append(f"label {label!r} is not in {CLASSES_FILE}")
    if split not in SPLITS:
        faults.append(f"split {split!r} is none of {', '.join(SPLITS)}")
    start, subject = start or 0, row.get("subject", "")
    if end is not None and end <= start:
        faults.append(f"the range from start {start} to end {end} holds no frame")
    if depth:
        depth_start = start if depth_start is None else depth_start
        depth_end = end if depth_end is None else depth_end
        if depth_end is not None and depth_end <= depth_start:
            faults.append(f"the range from depth_start {depth_start} to depth_end {depth_end} holds no frame")
    elif depth_start is not None or depth_end is not None:
        faults.append("has depth_start or depth_end but no depth")
    fps = read_rate(row.get("fps", ""), faults)
    if not faults:
        video, at = absolute(folder / row["video"]), absolute(folder / depth) if depth else None
        clips.append(Clip(video, label, at, start, end, depth_start or 0, depth_end, split, subject, line, fps))
    return faults
