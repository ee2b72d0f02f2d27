"""ChaLearn IsoGD: 249 classes, one gesture per video."""

from pathlib import Path

from dynagest.clips.adapters.common import BadRows, Found, IndexOptions, find_lists, numbered_classes, rows_of
from dynagest.clips.depth import PRESETS
from dynagest.clips.manifest import Clip

LAYOUT = """<root>/{train,valid,test}_list.txt   (also in IsoGD_phase_1/ and IsoGD_phase_2/; or --list)
<root>/train/001/{M_00001,K_00001}.avi   (also under IsoGD_phase_1/ and IsoGD_phase_2/)"""

NUM_CLASSES = 249


def index_isogd(root: Path, options: IndexOptions) -> Found:
    """Read the lists. One without labels, as the challenge shipped them for valid and test, is left out with a note."""
    phases = [root, root / "IsoGD_phase_1", root / "IsoGD_phase_2"]
    folders = [options.labels] if options.labels else phases
    lists, notes = find_lists(root, options, r"(?P<split>train|valid|test)_list\.txt", LAYOUT, folders=folders)
    classes = numbered_classes(NUM_CLASSES)
    clips: list[Clip] = []
    bad = BadRows()
    for path, split in lists:
        rows = [(line, text.split()) for line, text in rows_of(path)]
        if all(len(cells) == 2 for _, cells in rows):
            notes.append(f"{path.name}: no labels in it, so the {split} split is left out; the later release has them")
            continue
        base = next((phase for phase in phases if any((phase / cells[0]).exists() for _, cells in rows)), root)
        for line, cells in rows:
            if len(cells) != 3 or not cells[2].isdecimal() or not 1 <= int(cells[2]) <= NUM_CLASSES:
                bad.add(path, line, f"expected 'RGB DEPTH LABEL' with a label 1 to {NUM_CLASSES}, got {cells}")
            else:
                label = classes[int(cells[2]) - 1]
                clips.append(Clip(video=base / cells[0], depth=base / cells[1], label=label, split=split))
    bad.raise_if_any()
    return Found(clips, classes, PRESETS["isogd-aligned" if options.aligned else "isogd"], notes)
