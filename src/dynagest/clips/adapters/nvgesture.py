"""NVGesture: 25 classes, ``.lst`` lists with a range of frames for each sensor."""

import re
from pathlib import Path

from dynagest.clips.adapters.common import BadRows, Found, IndexOptions, find_lists, numbered_classes, rows_of
from dynagest.clips.depth import PRESETS
from dynagest.clips.manifest import Clip

LAYOUT = """<root>/nvgesture_{train,test}_correct_cvpr2016_v2.lst  (any .lst with train, val or test in it; or --list)
<root>/Video_data/class_01/subject3_r0/{sk_color,sk_depth}.avi"""

NUM_CLASSES = 25

FLIP_PAIRS = ((0, 1), (4, 5), (19, 20))
"""Class indices (from 0) that a horizontal mirror exchanges."""


def index_nvgesture(root: Path, options: IndexOptions) -> Found:
    """Read the lists. The label is that of the list, not the folder: version 2 relabels clips without moving them."""
    pattern = r".*?(?P<split>train|val|test).*\.lst"
    lists, notes = find_lists(root, options, pattern, LAYOUT, folders=[options.labels or root], prefer="_v2")
    classes = numbered_classes(NUM_CLASSES)
    clips: list[Clip] = []
    bad = BadRows()
    for path, split in lists:
        for line, text in rows_of(path):
            clip = parse_row(text, root, classes, split)
            if isinstance(clip, str):
                bad.add(path, line, clip)
            else:
                clips.append(clip)
    bad.raise_if_any()
    return Found(clips, classes, PRESETS["nvgesture-aligned" if options.aligned else "nvgesture"], notes)


def parse_row(text: str, root: Path, classes: tuple[str, ...], split: str) -> Clip | str:
    """Read the clip of a row ``path:./F depth:sk_depth:146:226 color:sk_color:146:226 ... label:1``.

    Returns what is wrong, as text, for a bad row. The frames in the list are 0-based and half-open already; the depth
    and colour ranges differ by a frame in four train rows.
    """
    fields = dict(token.split(":", 1) for token in text.split() if ":" in token)
    missing = [name for name in ("path", "color", "depth", "label") if name not in fields]
    if missing:
        return f"no {' and no '.join(f'{name}:' for name in missing)} in {text!r}"
    color = re.fullmatch(r"(\w+):(\d+):(\d+)", fields["color"])
    depth = re.fullmatch(r"(\w+):(\d+):(\d+)", fields["depth"])
    if color is None or depth is None:
        return f"expected color:NAME:START:END and depth:NAME:START:END, got {text!r}"
    if int(color[2]) >= int(color[3]) or int(depth[2]) >= int(depth[3]):
        return f"empty frame range in color:{fields['color']} depth:{fields['depth']}"
    label = fields["label"]
    if not label.isdecimal() or not 1 <= int(label) <= len(classes):
        return f"label {label!r} is not among 1 to {len(classes)}"
    folder = root / fields["path"]
    subject = re.search(r"subject(\d+)", fields["path"])
    return Clip(
        video=folder / f"{color[1]}.avi",
        depth=folder / f"{depth[1]}.avi",
        label=classes[int(label) - 1],
        start=int(color[2]),
        end=int(color[3]),
        depth_start=int(depth[2]),
        depth_end=int(depth[3]),
        split=split,
        subject=f"{int(subject[1]):02d}" if subject else "",
    )
