"""Finds, without decoding, damaged images in a folder and files with equal contents. Needs no torch."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from dynagest.clips import jpeg, png
from dynagest.clips.image_folder import ImageFolder


def image_faults(images: ImageFolder) -> dict[int, str]:
    """Map the index of each missing, unreadable, empty or truncated image of a folder to what is wrong.

    Reads the head and the tail of every file; only decoding finds damage in the middle.
    """
    faults = {index: f"the image with number {images.first + index} is missing" for index in images.missing}
    for index in range(images.count):
        if index not in faults and (fault := _damage(os.path.join(images.path, images.name(index)))):  # noqa: PTH118
            faults[index] = f"{images.name(index)}: {fault}"
    return faults


def _damage(image: str) -> str:
    """What is wrong with an image. Not as a ``Path``: to make one for each of a million takes as long as reading."""
    try:
        with open(image, "rb") as file:  # noqa: PTH123
            head = file.read(4)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - jpeg.TAIL, 0))
            tail = file.read()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not size:
        return "empty file"
    cut_jpeg = head.startswith(jpeg.HEAD) and jpeg.is_truncated(tail)
    cut_png = head.startswith(png.SIGNATURE[:4]) and b"IEND" not in tail
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
