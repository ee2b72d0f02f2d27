"""Finds, without decoding, damaged images in a folder and files with equal contents. Needs no torch."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from dynagest.clips import jpeg
from dynagest.clips.frames import IMAGE_SUFFIXES
from dynagest.errors import ClipError

_PNG_HEAD, _PNG_END = b"\x89PNG", b"IEND"


def image_faults(folder: Path) -> dict[int, str]:
    """Map the index of each missing, unreadable, empty or truncated image of a folder of images to what is wrong.

    Index 0 is the lowest number, as in ``frames``. Reads the head and the tail of every file; only decoding finds
    damage in the middle. A folder without numbered images gives no faults: ``count_frames`` reports that. Raises
    ``ClipError`` if the folder cannot be read.
    """
    numbered: dict[int, os.DirEntry[str]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                digits = re.findall(r"[0-9]+", Path(entry.name).stem)
                if digits and not entry.name.startswith(".") and Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                    numbered[int(digits[-1])] = entry
    except OSError as error:
        raise ClipError(f"{folder}: cannot be read ({error.strerror})") from error
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
    try:
        size = entry.stat().st_size
        # Not Path.open: to make a Path for each of a million images takes as long as to read them.
        with open(entry.path, "rb") as file:  # noqa: PTH123
            head = file.read(4)
            file.seek(max(size - jpeg.TAIL, 0))
            tail = file.read()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not size:
        return "empty file"
    cut_jpeg = head.startswith(jpeg.HEAD) and jpeg.is_truncated(tail)
    cut_png = head.startswith(_PNG_HEAD) and _PNG_END not in tail
    return "truncated image" if cut_jpeg or cut_png else ""


def equal_files(paths: Iterable[Path]) -> tuple[list[list[Path]], dict[Path, str]]:
    """Find the groups of two or more files with the same bytes, each sorted, and why some files cannot be compared.

    Only files that have the size of another are read. Paths that are missing, empty or not a file are passed over.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    unreadable: dict[Path, str] = {}
    for path in sorted(set(paths)):
        try:
            if path.is_file() and path.stat().st_size:
                by_size[path.stat().st_size].append(path)
        except OSError as error:
            unreadable[path] = f"cannot be read ({error.strerror})"
    groups = []
    for same_size in by_size.values():
        by_hash: dict[bytes, list[Path]] = defaultdict(list)
        for path in same_size if len(same_size) > 1 else ():
            try:
                with path.open("rb") as file:
                    by_hash[hashlib.file_digest(file, "sha256").digest()].append(path)
            except OSError as error:
                unreadable[path] = f"cannot be read ({error.strerror})"
        groups += [same for same in by_hash.values() if len(same) > 1]
    return groups, unreadable
