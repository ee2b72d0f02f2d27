"""What the adapters share: options, what they find, finding lists, and reporting every bad row at once."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dynagest.clips.depth import DepthSpec
from dynagest.clips.manifest import SPLITS, Clip
from dynagest.clips.streams import Stream
from dynagest.errors import ManifestError

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What the sets call their splits -> what a manifest calls them."""

_SHOWN = 20


@dataclass(frozen=True)
class IndexOptions:
    """How to index a dataset. An adapter refuses an option that means nothing to it.

    * ``labels``: annotation file or folder, where it is not at its usual place under the root.
    * ``lists``: (list file, split) pairs instead of the lists found under the root.
    * ``end_trim``: frames to drop at the end of every annotated range (EgoGesture; ACTION-Net's loader drops 2).
    * ``aligned``: declare the measured map of depth into the RGB frame; off = as shipped, as in the paper.
    * ``depth``: name of a depth preset or path of a ``depth.yaml``, instead of the dataset's own.
    * ``holdout``: share of the train clips that becomes ``val``; 0 keeps the splits as published. ``seed`` is its own.
    * ``require_files``: raise where none of the listed videos exists; off to read annotations alone.
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
    """What an adapter read: clips, the class names in the order of the logits, and what the user should know.

    ``depth`` is the dataset's declared depth, or None where it has none or the folder does not say. ``streams``: the
    recordings that the clips were cut from, for a set of continuous ones.
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
        """Note one row; ``line`` counts from 1."""
        self.found.append(f"{path}:{line}: {reason}")

    def raise_if_any(self) -> None:
        """Raise ``ManifestError`` with ``file:line: reason`` for each bad row."""
        if not self.found:
            return
        shown = "\n  ".join(self.found[:_SHOWN])
        more = f"\n  ... and {len(self.found) - _SHOWN} more" if len(self.found) > _SHOWN else ""
        rows = "row" if len(self.found) == 1 else "rows"
        raise ManifestError(f"{len(self.found)} bad {rows} in the annotations; mend or remove them:\n  {shown}{more}")


def rows_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, stripped text) of the lines that are not blank.

    Raises ``ManifestError`` when the file is missing or is not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such annotation file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not a readable text file ({error})") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def parse_lists(texts: Sequence[str]) -> tuple[tuple[Path, str], ...]:
    """Read ``FILE:SPLIT`` as the command line takes it, for ``IndexOptions.lists``.

    Raises ``ManifestError`` for one without a colon, or with a split that is none of ``SPLIT_WORDS``.
    """
    lists = []
    for text in texts:
        file, _, split = text.rpartition(":")
        if not file or split.lower() not in SPLIT_WORDS:
            raise ManifestError(f"--list {text}: expected FILE:SPLIT with a split of {', '.join(SPLITS)}")
        lists.append((Path(file), SPLIT_WORDS[split.lower()]))
    return tuple(lists)


def numbered_classes(count: int, first: int = 1) -> tuple[str, ...]:
    """Names for a set that only numbers its classes: class_01, class_02, ..., in as many digits as the last one has."""
    digits = max(2, len(str(first + count - 1)))
    return tuple(f"class_{number:0{digits}d}" for number in range(first, first + count))


def read_numbered_names(path: Path, count: int | None = None) -> tuple[str, ...]:
    """Read ``1 Name`` lines, numbered from 1 without gaps.

    Raises ``ManifestError`` for a line without number and name, a gap, or another number of classes than ``count``.
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
    if sorted(names) != list(range(1, wanted + 1)):
        raise ManifestError(f"{path}: expected the class numbers 1 to {wanted}, got {len(names)} others")
    return tuple(names[number] for number in sorted(names))


def read_names(path: Path) -> tuple[str, ...]:
    """Read one class name a line, in the order of the logits. Raises ``ManifestError`` for one that is there twice."""
    names = tuple(text for _, text in rows_of(path))
    if len(set(names)) != len(names):
        raise ManifestError(f"{path}: a class name occurs twice; each line names another class")
    return names


def find_lists(
    root: Path, options: IndexOptions, pattern: str, layout: str, *, folders: Sequence[Path], prefer: str = ""
) -> tuple[list[tuple[Path, str]], list[str]]:
    """Find the annotation list of each split, as (path, split) in the order train, val, test, and notes.

    ``options.lists``, relative to here or to ``root``, win over what lies in ``folders``, of which those that do not
    exist are passed over. ``pattern``: regular expression of a whole file name, with a group ``split`` that matches a
    word of ``SPLIT_WORDS``; ``prefer``: text in the name of the list to take where a split has several. Raises
    ``ManifestError``, which tells of ``layout``, where there is no list, or are several of one split.
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
    lists, notes = [], []
    for split in SPLITS:
        paths = found.get(split, [])
        preferred = [path for path in paths if prefer and prefer in path.name]
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
