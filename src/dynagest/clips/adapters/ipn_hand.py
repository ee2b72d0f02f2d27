"""IPN Hand: 13 gestures (with "no gesture" 14 classes), RGB only, clips are ranges of long recordings."""

import re
from pathlib import Path

from dynagest.clips.adapters.common import (
    BadRows,
    Found,
    IndexOptions,
    find_lists,
    read_numbered_names,
    rows_of,
)
from dynagest.clips.manifest import Clip

LAYOUT = """<root>/frames/1CM1_4_R_#229/1CM1_4_R_#229_000018.jpg
<root>/{train,val}listall_but_None.txt   (13 gestures; or listall.txt, 14 classes; or --list)
    also in <root>/annotation_ipnGesture/"""

GESTURES = ("B0A", "B0B", "G01", "G02", "G03", "G04", "G05", "G06", "G07", "G08", "G09", "G10", "G11")
NO_GESTURE = "D0X"


def index_ipn_hand(root: Path, options: IndexOptions) -> Found:
    """Read lists with lines ``./frames/VIDEO LABEL FIRST LAST``, frames counted from 1 and the last included.

    If there are both kinds of lists, those without "no gesture" are read; in the other kind "no gesture" is class 1.
    The subject is the first two words of the recording's name (1CM1_4): 50 subjects with four recordings each.
    """
    folders = [options.labels] if options.labels else [root, root / "annotation_ipnGesture"]
    pattern = r"(?P<split>train|val|test)listall(?:_but_None)?\.txt"
    lists, notes = find_lists(root, options, pattern, LAYOUT, folders=folders, prefer="_but_None")
    with_none = not all("but_none" in path.name.lower() for path, _ in lists)
    classes: tuple[str, ...] = (NO_GESTURE, *GESTURES) if with_none else GESTURES
    names_file = lists[0][0].with_name("classIndAll.txt" if with_none else "classIndAllbutNone.txt")
    if names_file.is_file():
        classes = read_numbered_names(names_file)
    clips: list[Clip] = []
    bad = BadRows()
    for path, split in lists:
        for line, text in rows_of(path):
            match = re.fullmatch(r"(\S.*?)\s+(\d+)\s+(\d+)\s+(\d+)", text)
            if match is None:
                bad.add(path, line, f"expected 'FOLDER LABEL FIRST LAST', got {text!r}")
                continue
            label, first, last = (int(match[group]) for group in (2, 3, 4))
            if not 1 <= label <= len(classes):
                bad.add(path, line, f"label {label} is not among 1 to {len(classes)}")
            elif not 1 <= first <= last:
                bad.add(path, line, f"frames {first} to {last} are an empty range (frames count from 1)")
            else:
                video = root / match[1]
                subject = "_".join(video.name.split("_")[:2])
                name = classes[label - 1]
                clips.append(Clip(video=video, label=name, start=first - 1, end=last, split=split, subject=subject))
    bad.raise_if_any()
    return Found(clips, classes, None, notes)
