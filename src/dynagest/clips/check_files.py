"""What can be told of files without decoding them: damaged images in a folder, files with equal contents. No torch."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from dynagest.clips.frames import IMAGE_SUFFIXES

_TAIL = 1024
_PNG_HEAD, _PNG_END = b"\x89PNG", b"IEND"
_JPEG_HEAD, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


def image_faults(folder: Path) -> dict[int, str]:
    """Maps the index of each missing, empty or truncated image of a folder of numbered images to what is wrong.

    Index 0 is the lowest number, as in ``frames``. Reads the head and the tail of every file; damage in the middle
    takes decoding. A folder without numbered images has no faults here: ``count_frames`` says what it lacks.
    """
    numbered: dict[int, os.DirEntry[str]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            digits = re.findall(r"[0-9]+", Path(entry.name).stem)
            if digits and not entry.name.startswith(".") and Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                numbered[int(digits[-1])] = entry
    if not numbered:
        return {}
    first, last = min(numbered), max(numbered)
    faults = {n - first: f"the image with number {n} is missing" for n in range(first, last + 1) if n not in numbered}
    for number, entry in numbered.items():
        fault = _damage(entry)
        if fault:
            faults[number - first] = f"{entry.name}: {fault}"
    return faults


def _damage(entry: os.DirEntry[str]) -> str:
    size = entry.stat().st_size
    if not size:
        return "empty file"
    with open(entry.path, "rb") as file:  # noqa: PTH123 - a Path for each of a million images takes as long as reading
        head = file.read(4)
        file.seek(max(size - _TAIL, 0))
        tail = file.read()
    cut_jpeg = head.startswith(_JPEG_HEAD) and _JPEG_END not in tail
    cut_png = head.startswith(_PNG_HEAD) and _PNG_END not in tail
    return "truncated image" if cut_jpeg or cut_png else ""


def equal_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Groups of two or more files with the same bytes, each group sorted. Only files of equal size are read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in sorted(set(paths)):
        if path.is_file() and path.stat().st_size:
            by_size[path.stat().st_size].append(path)
    groups = []
    for same_size in by_size.values():
        by_hash: dict[bytes, list[Path]] = defaultdict(list)
        for path in same_size if len(same_size) > 1 else ():
            with path.open("rb") as file:
                by_hash[hashlib.file_digest(file, "sha256").digest()].append(path)
        groups += [same for same in by_hash.values() if len(same) > 1]
    return groups
