"""Lists with lines ``FOLDER NUM_FRAMES LABEL``, as TSM, TEA, ACTION-Net and MMAction use them."""

import re
from pathlib import Path

from dynagest.clips.adapters.common import (
    BadRows,
    Found,
    IndexOptions,
    find_lists,
    numbered_classes,
    read_names,
    rows_of,
)
from dynagest.clips.manifest import Clip

LAYOUT = """<root>/{train,val,test}*.txt with lines 'FOLDER NUM_FRAMES LABEL', labels from 0   (or --list)
<root>/FOLDER/img_00001.jpg
<root>/category.txt or classes.txt, one class name a line, if there is one   (or --labels FILE)"""

_LARGEST_LABEL = 99_999  # without their names, as many classes are made up as the largest label says


def index_tsm(root: Path, options: IndexOptions) -> Found:
    """Read the lists. A clip is the first ``NUM_FRAMES`` images of its folder; labels count from 0.

    Without a file of class names the classes are class_00, class_01, ... up to the largest label.
    """
    lists, notes = find_lists(root, options, r"(?P<split>train|val|test).*\.txt", LAYOUT, folders=[root])
    rows: list[tuple[Path, int, str, str, int, int]] = []
    bad = BadRows()
    for path, split in lists:
        for line, text in rows_of(path):
            match = re.fullmatch(r"(\S.*?)\s+(\d+)\s+(\d+)", text)
            if match is None or int(match[2]) < 1:
                bad.add(path, line, f"expected 'FOLDER NUM_FRAMES LABEL' with at least one frame, got {text!r}")
            elif int(match[3]) > _LARGEST_LABEL:
                bad.add(path, line, f"label {match[3]} is above {_LARGEST_LABEL:,}, so it is no number of a class")
            else:
                rows.append((path, line, split, match[1], int(match[2]), int(match[3])))
    classes = _classes(root, options, highest=max((label for *_, label in rows), default=0))
    clips: list[Clip] = []
    for path, line, split, folder, num_frames, label in rows:
        if label < len(classes):
            clips.append(Clip(video=root / folder, label=classes[label], start=0, end=num_frames, split=split))
        else:
            bad.add(path, line, f"label {label} is not among 0 to {len(classes) - 1}, the named classes")
    bad.raise_if_any()
    return Found(clips, classes, None, notes)


def _classes(root: Path, options: IndexOptions, highest: int) -> tuple[str, ...]:
    usual = (path for path in (root / "category.txt", root / "classes.txt") if path.is_file())
    names_file = options.labels or next(usual, None)
    return read_names(names_file) if names_file else numbered_classes(highest + 1, first=0)
