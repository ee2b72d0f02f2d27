"""What the adapters share: their options and results, the search for lists, and the report of all bad rows at once."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dynagest.clips.depth import DepthSpec
from dynagest.clips.manifest import Clip
from dynagest.clips.splits import SPLITS
from dynagest.clips.streams import Stream
from dynagest.clips.table import read_text
from dynagest.errors import ManifestError, some

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""The datasets' names of the splits, in lower case -> a manifest's names."""

_SHOWN = 20


@dataclass(frozen=True)
class IndexOptions:
    """How to index a dataset. ``index_dataset`` refuses an option that its adapter does not take.

    * ``labels``: annotation file or folder, if it is not at its usual place under the root.
    * ``lists``: (list file, split) pairs to read instead of the lists found under the root.
    * ``end_trim``: frames to drop at the end of every annotated range (EgoGesture; ACTION-Net's loader drops 2).
    * ``aligned``: declare the measured map of depth into the RGB frame; off = as shipped, as in the paper.
    * ``depth``: name of a depth preset or path of a ``depth.yaml``, instead of the dataset's own.
    * ``holdout``: share of the train clips that becomes ``val``; 0 keeps the splits as published. ``seed`` seeds the
      choice of these clips.
    * ``require_files``: raise if none of the listed videos exists, and drop the depth if none of its files exists; off
      to read annotations without the files.
    """

    labels: Path | None = None
    lists: tuple[tuple[Path, str], ...] = ()
    end_trim: int = 0
    aligned: bool = False
    depth: str | None = None
    holdout: float = 0.0
    seed: int = 0
    require_files: bool = True


@dataclass(frozen=True)
class Found:
    """What an adapter read: the clips, the class names in the order of the logits, and notes for the user.

    ``depth`` declares the dataset's depth; it is None if there is no depth or nothing declares it. ``streams``: the
    recordings that the clips were cut from, for a dataset of continuous recordings.
    """

    clips: Sequence[Clip]
    classes: Sequence[str]
    depth: DepthSpec | None = None
    notes: Sequence[str] = ()
    streams: Sequence[Stream] = ()


@dataclass
class BadRows:
    """Collects the bad rows of all annotation files, so that one run shows them all."""

    found: list[str] = field(default_factory=list)

    def add(self, path: Path, line: int, reason: str) -> None:
        """Add one row; ``line`` counts from 1."""
        self.found.append(f"{path}:{line}: {reason}")

    def raise_if_any(self) -> None:
        """Raise ``ManifestError`` if there are bad rows: their number, and ``file:line: reason`` of the first 20."""
        if not self.found:
            return
        shown = "\n  ".join(self.found[:_SHOWN])
        more = f"\n  ... and {len(self.found) - _SHOWN} more" if len(self.found) > _SHOWN else ""
        rows = "row" if len(self.found) == 1 else "rows"
        raise ManifestError(f"{len(self.found)} bad {rows} in the annotations; mend or remove them:\n  {shown}{more}")


def rows_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, stripped text) for each line that is not blank.

    Raises ``ManifestError`` if the file is missing, cannot be read or is not UTF-8 text.
    """
    text = read_text(path, "say where the annotations are, by --list or --labels")
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def visible(folder: Path) -> list[Path]:
    """The files and folders in a folder, sorted by name, without hidden ones (.DS_Store, ._clip.mp4).

    Raises ``ManifestError`` if it cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ManifestError(f"{folder}: cannot be read ({error.strerror})") from error


def parse_lists(texts: Sequence[str]) -> tuple[tuple[Path, str], ...]:
    """Parse ``FILE:SPLIT`` texts from the command line into pairs for ``IndexOptions.lists``.

    Raises ``ManifestError`` for a text without a file and a colon, or with a split that is none of ``SPLIT_WORDS``.
    """
    lists = []
    for text in texts:
        file, _, split = text.rpartition(":")
        if not file or split.lower() not in SPLIT_WORDS:
            raise ManifestError(f"--list {text}: expected FILE:SPLIT with a split of {', '.join(SPLITS)}")
        lists.append((Path(file), SPLIT_WORDS[split.lower()]))
    return tuple(lists)


def numbered_classes(count: int, first: int = 1) -> tuple[str, ...]:
    """Names for classes that have only numbers: class_01, class_02, ..., with the last one's digits, but at least 2."""
    digits = max(2, len(str(first + count - 1)))
    return tuple(f"class_{number:0{digits}d}" for number in range(first, first + count))


def read_numbered_names(path: Path, count: int | None = None) -> tuple[str, ...]:
    """Read the class names from ``1 Name`` lines, which are numbered from 1 without gaps, in any order.

    Raises ``ManifestError`` for a line without number and name, a repeated number, a gap, or (if ``count`` is given)
    another number of classes.
    """
    names: dict[int, str] = {}
    bad = BadRows()
    for line, text in rows_of(path):
        match = re.fullmatch(r"(\d+)[\s,]+(\S.*)", text)
        if match is None or int(match[1]) in names:
            bad.add(path, line, f"expected 'NUMBER NAME' with each number once, got {text!r}")
        else:
            names[int(match[1])] = match[2]
    bad.raise_if_any()
    wanted = len(names) if count is None else count
    missing = [str(number) for number in range(1, wanted + 1) if number not in names]
    beyond = [str(number) for number in sorted(names) if not 1 <= number <= wanted]
    if missing or beyond:
        told = [*([f"without {some(missing)}"] if missing else []), *([f"with {some(beyond)}"] if beyond else [])]
        raise ManifestError(f"{path}: expected the class numbers 1 to {wanted}, but it is {' and '.join(told)}")
    return tuple(names[number] for number in sorted(names))


def read_names(path: Path) -> tuple[str, ...]:
    """Read one class name per line, in the order of the logits. Raises ``ManifestError`` for a repeated name."""
    names = tuple(text for _, text in rows_of(path))
    if len(set(names)) != len(names):
        raise ManifestError(f"{path}: a class name occurs twice; each line names another class")
    return names


def find_lists(
    root: Path, options: IndexOptions, pattern: str, layout: str, *, folders: Sequence[Path], prefer: str = ""
) -> tuple[list[tuple[Path, str]], list[str]]:
    """Find the annotation list of each split. Returns (path, split) pairs in the order train, val, test, and notes.

    If ``options.lists`` is given, returns those in their order, each looked for in the working directory and then in
    ``root``. Otherwise searches those ``folders`` that exist. ``pattern``: regular expression for a whole file name, in
    upper or lower case, with a group ``split`` that matches a word of ``SPLIT_WORDS``. ``prefer``: text in the name of
    the list to take if a split has several. Raises ``ManifestError`` if there is no list (the message has ``layout``),
    if a split has several and ``prefer`` does not single out one, or if a file of ``options.lists`` does not exist.
    """
    if options.lists:
        return [(_listed(root, path), split) for path, split in options.lists], []
    found: dict[str, list[Path]] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            match = re.fullmatch(pattern, path.name, flags=re.IGNORECASE)
            if match and path.is_file():
                found.setdefault(SPLIT_WORDS[match["split"].lower()], []).append(path)
    if not found:
        places = ", ".join(str(folder) for folder in folders)
        raise ManifestError(
            f"no annotation list in {places}; say where it is (--list FILE:train), or lay it out as\n{layout}"
        )
    lists, notes = list[tuple[Path, str]](), list[str]()
    for split in SPLITS:
        paths = found.get(split, [])
        preferred = [path for path in paths if prefer and prefer.lower() in path.name.lower()]
        if len(paths) > 1 and len(preferred) != 1:
            names = ", ".join(str(path) for path in paths)
            raise ManifestError(f"several lists for the {split} split: {names}; choose one, as in --list FILE:{split}")
        if len(paths) > 1:
            notes.append(f"{split}: read {preferred[0].name}, the other lists of this split are left alone")
        lists += [(path, split) for path in (preferred if len(paths) > 1 else paths)]
    return lists, notes


def _listed(root: Path, path: Path) -> Path:
    for candidate in (path, root / path):
        if candidate.is_file():
            return candidate
    raise ManifestError(f"--list {path}: no such file, neither here nor in {root}")
