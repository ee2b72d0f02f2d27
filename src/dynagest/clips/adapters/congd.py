"""ChaLearn ConGD: continuous streams of the 249 gestures of IsoGD, one or several gestures in a video."""

import re
from itertools import pairwise
from pathlib import Path

from dynagest.clips.adapters.common import BadRows, Found, IndexOptions, find_lists, numbered_classes, rows_of
from dynagest.clips.adapters.isogd import NUM_CLASSES
from dynagest.clips.depth import PRESETS
from dynagest.clips.manifest import Clip
from dynagest.clips.streams import Span, Stream

LAYOUT = """<root>/{train,valid,test}.txt   (also in ConGD_labels/, ConGD_phase_1/ and ConGD_phase_2/; or --list)
<root>/train/001/{00001.M,00001.K}.avi   (also under ConGD_phase_1/ and ConGD_phase_2/; or M_00001.avi, K_00001.avi)"""

FPS = 10.0  # frames a second of the recordings; the headers of their files disagree
_NAMES = ("{number}.{kind}.avi", "{kind}_{number}.avi")


def index_congd(root: Path, options: IndexOptions) -> Found:
    """Read lists with lines ``001/00001 1,41:33 42,96:57``: first and last frame, counted from 1, and the label.

    Returns the streams with their gestures, and each gesture as a clip. A list without labels, as the challenge shipped
    them for valid and test, is left out with a note. Overlapping gestures are kept, with a note.
    """
    phases = [root, root / "ConGD_phase_1", root / "ConGD_phase_2"]
    # Phase 1 also has a valid.txt, without labels, so the folder of labels takes precedence.
    labels = options.labels or root / "ConGD_labels"
    folders = [labels] if labels.is_dir() else phases
    lists, notes = find_lists(root, options, r"(?P<split>train|valid|test)(?:_list)?\.txt", LAYOUT, folders=folders)
    classes = numbered_classes(NUM_CLASSES)
    clips: list[Clip] = []
    streams: list[Stream] = []
    bad = BadRows()
    overlaps = 0
    for path, split in lists:
        rows = [(line, text.split()) for line, text in rows_of(path)]
        if all(len(cells) == 1 for _, cells in rows):
            notes.append(f"{path.name}: no labels in it, so the {split} split is left out; the later release has them")
            continue
        found = _Videos(phases, {"val": "valid"}.get(split, split))
        seen: dict[str, int] = {}
        for line, (name, *cells) in rows:
            if not re.fullmatch(r"\d+/\d+", name):
                bad.add(path, line, f"expected 'FOLDER/NUMBER FIRST,LAST:LABEL ...', got {name!r} first")
                continue
            if name in seen:
                bad.add(path, line, f"{name} is in line {seen[name]} already")
                continue
            seen[name] = line
            ranges = [_range(path, line, cell, bad) for cell in cells]
            spans = sorted(one for one in ranges if one is not None)
            overlaps += sum(a[1] >= b[0] for a, b in pairwise(spans))
            video, depth = found.video(name, "M"), found.video(name, "K")
            gestures = tuple(Span(classes[label - 1], (a - 1) / FPS, b / FPS) for a, b, label in spans)
            streams.append(Stream(video, gestures, FPS, split, row=line))
            clips += [Clip(video, classes[label - 1], depth, a - 1, b, a - 1, b, split=split) for a, b, label in spans]
    bad.raise_if_any()
    if overlaps:
        notes.append(f"{overlaps} gestures begin before the one before them has ended; they are kept as they are")
    depth_spec = PRESETS["isogd-aligned" if options.aligned else "isogd"]
    return Found(clips, classes, depth_spec, notes, streams)


class _Videos:
    """Finds the videos of one split. All are taken to lie and to be named like the first one that is found."""

    def __init__(self, phases: list[Path], folder: str) -> None:
        self._places = [phase / folder for phase in phases]
        self._found: tuple[Path, str] | None = None

    def video(self, name: str, kind: str) -> Path:
        """The path of a recording's file of ``kind`` M (colour) or K (depth); its published path until one is found."""
        folder, number = name.split("/")
        if self._found is None:
            there = [(p, n) for p in self._places for n in _NAMES if _path(p, n, folder, number, "M").exists()]
            self._found = there[0] if there else None
        place, form = self._found or (self._places[0], _NAMES[0])
        return _path(place, form, folder, number, kind)


def _path(place: Path, form: str, folder: str, number: str, kind: str) -> Path:
    return place / folder / form.format(number=number, kind=kind)


def _range(path: Path, line: int, cell: str, bad: BadRows) -> tuple[int, int, int] | None:
    """Return (first, last, label) of ``1,41:33``; None if it is wrong, with the reason added to ``bad``."""
    match = re.fullmatch(r"(\d+),(\d+):(\d+)", cell)
    if match is None:
        bad.add(path, line, f"expected FIRST,LAST:LABEL, got {cell!r}")
        return None
    first, last, label = (int(match[group]) for group in (1, 2, 3))
    if not 1 <= label <= NUM_CLASSES:
        bad.add(path, line, f"label {label} is not among 1 to {NUM_CLASSES}")
    elif not 1 <= first <= last:
        bad.add(path, line, f"frames {first} to {last} are an empty range (frames count from 1)")
    else:
        return first, last, label
    return None
