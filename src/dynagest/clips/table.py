"""Reads and writes the CSV files that list clips and streams; all faults of a file are reported at once. No torch."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dynagest.card import FASTEST
from dynagest.errors import ManifestError

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
Take = Callable[[dict[str, str], int], Sequence[str]]
"""Takes a row (column -> stripped cell) and its line number; returns what is wrong with the row."""

BadRow = tuple[int, str]
"""A line number, and what is wrong with the row there."""


def absolute(path: Path | str) -> Path:
    """The absolute path. Unlike ``resolve``, it keeps symbolic links under the names that the user knows."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def relative(path: Path, folder: Path) -> str:
    """The path relative to ``folder``, with forward slashes; absolute if it is on another drive of Windows."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def read_table(
    path: Path,
    take: Take,
    *,
    needed: Sequence[str],
    columns: Sequence[str],
    what: str,
    writer: str,
    bad_rows: list[BadRow] | None = None,
) -> None:
    """Read a CSV file and call ``take`` on each row that is not blank.

    The header may name the ``columns`` in any order and must name the ``needed`` ones. ``what`` (the thing that a row
    lists) and ``writer`` (how such a file is made) are for messages. Raises ``ManifestError``, which lists every bad
    row, also for a file that is missing, has no rows, has another header, is not CSV text, or has a path that is not
    UTF-8. With ``bad_rows`` bad rows are added to that instead, as long as there are sound ones.
    """
    _check_path(path)
    reader = csv.reader(io.StringIO(read_text(path, writer), newline=""), strict=True)
    faults: list[BadRow] = []
    rows = sound = 0
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, needed, columns)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            rows += 1
            if len(cells) != len(header):
                faults.append((reader.line_num, f"{len(cells)} cells, the header has {len(header)}"))
                continue
            row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
            wrong = take(row, reader.line_num)
            sound += not wrong
            faults += [(reader.line_num, fault) for fault in wrong]
    except csv.Error as error:
        faults.append((reader.line_num, f"not CSV: {error}"))
    if faults and bad_rows is not None and sound:
        bad_rows += faults
    elif faults:
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        raise ManifestError(
            f"{path}: {count} to correct:\n" + "\n".join(f"  line {line}: {fault}" for line, fault in faults)
        )
    if not rows:
        raise ManifestError(f"{path}: has no rows; list one {what} a line below the header")


def read_number(cell: str) -> float | None:
    """The number in a cell; ``None`` if there is none, or what only Python takes for one (``1_5``, ``nan``)."""
    return float(cell) if _NUMBER.fullmatch(cell) else None


def read_rate(cell: str, faults: list[str]) -> float | None:
    """Parse frames a second, above 0 and finite. ``None`` for a blank cell, or a faulty one, noted in ``faults``."""
    if not cell:
        return None
    rate = read_number(cell)
    if rate is not None and 0 < rate <= FASTEST:
        return rate
    faults.append(f"fps {cell!r} is not a frame rate (more than 0, at most {FASTEST:g} frames a second)")
    return None


def rate_text(rate: float | None) -> str:
    """The cell that ``read_rate`` reads back."""
    return "" if rate is None else f"{rate:.10g}"


def read_text(path: Path, writer: str) -> str:
    """Read UTF-8 text, with or without a byte order mark.

    Raises ``ManifestError`` if the file is missing (``writer`` then tells how to make one), cannot be read or is not
    UTF-8 text.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: is not there; {writer}") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8, or name another file"
        ) from error
    if "\0" in text:
        raise ManifestError(
            f"{path}: holds NUL bytes, as text in UTF-16 does, or a file after a power cut; save it as UTF-8, or write "
            "it anew"
        )
    return text


def table_text(columns: Sequence[str], rows: Iterable[Sequence[str | int]]) -> str:
    """The CSV text of a header and rows."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def encoded(text: str, path: Path) -> bytes:
    """Encode ``text``, which is for the file ``path``, as UTF-8. Raises ``ManifestError`` if it cannot be encoded."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        line = os.fsencode(text.splitlines()[text.count("\n", 0, error.start)]).decode(errors="backslashreplace")
        raise ManifestError(f"{path}: cannot hold {line}: the name is not UTF-8; rename the file or folder") from error


def _check_path(path: Path) -> None:
    # Told before hours of training: neither a network's card nor a test's record could hold where the clips lie.
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise ManifestError(f"{shown}: the path is not UTF-8, as records of runs are; rename its folder") from error


def _check_header(path: Path, header: list[str], needed: Sequence[str], columns: Sequence[str]) -> None:
    has = f"it has {', '.join(header) or 'none'}"
    for sign, called in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and sign in header[0]:
            raise ManifestError(f"{path}: its columns are separated by {called}; save it as CSV with commas")
    missing = [name for name in needed if name not in header]
    if missing:
        raise ManifestError(f"{path}: missing column {' and '.join(missing)}; {has}; it needs {', '.join(needed)}")
    if "" in header:
        raise ManifestError(f"{path}: column {header.index('') + 1} has no name; remove it, or name it")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise ManifestError(f"{path}: repeated column {', '.join(twice)}; {has}")
    # Refused because a misspelt "depth" would silently mean training without depth.
    unknown = [name for name in header if name not in columns]
    if unknown:
        raise ManifestError(f"{path}: unknown column {', '.join(map(repr, unknown))}; it may have {', '.join(columns)}")
