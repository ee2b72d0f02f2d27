"""20BN Jester v1: 27 classes, RGB only, folders of JPEG frames."""

from pathlib import Path

from dynagest.clips.adapters.common import BadRows, Found, IndexOptions, find_lists, read_names, rows_of
from dynagest.clips.manifest import Clip, natural_order

LAYOUT = """<root>/jester-v1-{train,validation,test}.csv   (or --list; jester-v1-labels.csv gives the class order)
<root>/20bn-jester-v1/34870/00001.jpg"""
FPS = 12.0  # frames a second; the folders of images do not state it


def index_jester(root: Path, options: IndexOptions) -> Found:
    """Read lists with lines ``34870;Drumming Fingers``.

    A list without labels, as shipped for test, is left out with a note. The classes are in the order of
    ``jester-v1-labels.csv``, or in natural order if that file is missing.
    """
    folder = options.labels or root
    pattern = r"jester-v1-(?P<split>train|validation|test)\.csv"
    lists, notes = find_lists(root, options, pattern, LAYOUT, folders=[folder])
    videos = root / "20bn-jester-v1"
    names_file = folder / "jester-v1-labels.csv"
    known = read_names(names_file) if names_file.is_file() else None
    clips: list[Clip] = []
    bad = BadRows()
    for path, split in lists:
        rows = [(line, *text.partition(";")) for line, text in rows_of(path)]
        if not any(label for _, _, _, label in rows):
            notes.append(f"{path.name}: no labels in it, so the {split} split is left out")
            continue
        for line, video, _, label in rows:
            if not video.strip() or not label.strip():
                bad.add(path, line, f"expected 'VIDEO;LABEL', got {video!r} and {label!r}")
            elif known is not None and label.strip() not in known:
                bad.add(path, line, f"label {label.strip()!r} is not in {names_file.name}")
            else:
                clips.append(Clip(video=videos / video.strip(), label=label.strip(), split=split, fps=FPS))
    bad.raise_if_any()
    return Found(clips, known or natural_order(clip.label for clip in clips), None, notes)
