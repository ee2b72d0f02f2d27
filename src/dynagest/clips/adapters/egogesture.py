"""EgoGesture: 83 classes, 50 subjects, folders of images, one CSV of ranges per recording, split by subject."""

import re
from collections.abc import Iterator
from pathlib import Path

from dynagest.clips.adapters.common import (
    BadRows,
    Found,
    IndexOptions,
    numbered_classes,
    read_numbered_names,
    rows_of,
)
from dynagest.clips.depth import PRESETS
from dynagest.clips.manifest import Clip
from dynagest.errors import ManifestError

LAYOUT = """<root>/images/Subject01/Scene1/{Color/rgb1,Depth/depth1}/000001.jpg   (or frames/ for images/)
<root>/labels-final-revised1/subject01/Scene1/Group1.csv   (or labels/; or --labels FOLDER)"""

NUM_CLASSES = 83

_VAL = (1, 7, 12, 13, 24, 29, 33, 34, 35, 37)
_TEST = (2, 9, 11, 14, 18, 19, 28, 31, 41, 47)
SPLIT_OF_SUBJECT = dict.fromkeys(range(1, 51), "train") | dict.fromkeys(_VAL, "val") | dict.fromkeys(_TEST, "test")
"""The published split of each subject: 30 subjects in train, 10 in val and 10 in test."""

FLIP_PAIRS = ((0, 1), (9, 10), (13, 14), (58, 59), (64, 65), (70, 71), (76, 77), (80, 81))
"""Class indices (from 0) that a horizontal mirror exchanges."""


def index_egogesture(root: Path, options: IndexOptions) -> Found:
    """Read the CSV of every group. Its ranges become 0-based and half-open, and ``end_trim`` frames shorter."""
    labels = _labels_folder(root, options)
    frames = next((root / name for name in ("images", "frames") if (root / name).is_dir()), root / "images")
    # The label folders say subject01, the frame folders Subject01; either may have been renamed.
    subject_folders = {path.name.lower(): path for path in frames.iterdir()} if frames.is_dir() else {}
    names_file = _classes_file(root, labels)
    classes = read_numbered_names(names_file, NUM_CLASSES) if names_file else numbered_classes(NUM_CLASSES)

    clips: list[Clip] = []
    bad = BadRows()
    for path, subject, scene, group in _group_files(labels, bad):
        if subject not in SPLIT_OF_SUBJECT:
            bad.add(path, 1, f"subject {subject} is in none of the published splits (subjects are 1 to 50)")
            continue
        folder = subject_folders.get(f"subject{subject:02d}", frames / f"Subject{subject:02d}") / f"Scene{scene}"
        for label, start, end in parse_group(path, options.end_trim, bad):
            clips.append(
                Clip(
                    video=folder / "Color" / f"rgb{group}",
                    depth=folder / "Depth" / f"depth{group}",
                    label=classes[label - 1],
                    start=start,
                    end=end,
                    depth_start=start,
                    depth_end=end,
                    split=SPLIT_OF_SUBJECT[subject],
                    subject=f"{subject:02d}",
                )
            )
    bad.raise_if_any()
    return Found(clips, classes, PRESETS["egogesture"])


def parse_group(path: Path, end_trim: int, bad: BadRows) -> list[tuple[int, int, int]]:
    """Read one ``class,start,end`` file into (class 1..83, start, end), frames 0-based and half-open.

    The file counts frames from 1 and includes the last. Rows of blank cells, which occur, are skipped; bad rows are
    added to ``bad``.
    """
    rows = []
    for line, text in rows_of(path):
        cells = [cell.strip() for cell in text.split(",")]
        if not any(cells):
            continue
        if len(cells) != 3 or not all(re.fullmatch(r"\d+", cell) for cell in cells):
            bad.add(path, line, f"expected class,start,end, got {text!r}")
            continue
        label, first, last = (int(cell) for cell in cells)
        if not 1 <= label <= NUM_CLASSES:
            bad.add(path, line, f"class {label} is not among 1 to {NUM_CLASSES}")
        elif first < 1 or last - end_trim < first:
            trimmed = f" less {end_trim} at the end" if end_trim else ""
            bad.add(path, line, f"frames {first} to {last}{trimmed} are an empty range (frames count from 1)")
        else:
            rows.append((label, first - 1, last - end_trim))
    return rows


def _labels_folder(root: Path, options: IndexOptions) -> Path:
    candidates = [options.labels] if options.labels else [root / "labels-final-revised1", root / "labels"]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise ManifestError(f"no EgoGesture labels in {' or '.join(map(str, candidates))}; looked for\n{LAYOUT}")


def _classes_file(root: Path, labels: Path) -> Path | None:
    candidates = [folder / "egogesture-classes.txt" for folder in (root, root.parent, labels, labels.parent)]
    return next((path for path in candidates if path.is_file()), None)


def _group_files(labels: Path, bad: BadRows) -> Iterator[tuple[Path, int, int, int]]:
    """Yield (path, subject, scene, group), sorted by subject, scene and group. Other CSV files are added to ``bad``.

    The case of the names varies (group1.csv in subject33), and scenes may be missing.
    """
    pattern = re.compile(r"subject(\d+)/scene(\d+)/group(\d+)\.csv", re.IGNORECASE)
    found = []
    for path in labels.glob("*/*/*"):
        match = pattern.fullmatch(path.relative_to(labels).as_posix())
        if match:
            found.append((int(match[1]), int(match[2]), int(match[3]), path))
        elif path.suffix.lower() == ".csv" and not path.name.startswith("."):
            bad.add(path, 1, f"expected a name like subjectNN/SceneN/GroupN.csv under {labels}")
    if not found and not bad.found:
        raise ManifestError(f"no subjectNN/SceneN/GroupN.csv under {labels}; looked for\n{LAYOUT}")
    for subject, scene, group, path in sorted(found):
        yield path, subject, scene, group
