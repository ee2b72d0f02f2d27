"""Writes recorded clips into a folder of a user's own gestures. The one writer for ``dynagest record`` and the page.

The layout is that of ``dynagest data index folders``, with the manifest kept up to date::

    FOLDER/manifest.csv  classes.txt
    FOLDER/LABEL/001.mkv  002.mkv  ...

A clip is Motion JPEG in Matroska: every picture stands alone, so that few of many are read fast; its time is kept to
the millisecond, so that a camera that changes its rate is played, and its rate read back, as it was; and the file says
how long it is, so that a truncated one is noticed. Numbers grow; no file is ever overwritten, by whichever process.
Threads of one process take turns (their caller sees to it). Needs no torch.
"""

import math
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from dynagest.clips.adapters import IndexOptions, index_dataset
from dynagest.clips.adapters.common import SPLIT_WORDS
from dynagest.clips.frames import check_frames
from dynagest.clips.manifest import MANIFEST_FILE, Manifest, natural_order
from dynagest.errors import ClipError, ManifestError, RunError, some

SUFFIX = ".mkv"
LONGEST_LABEL = 64
_QUALITY = "3"  # quantiser of MJPEG, 2 (best) to 31
_TICKS = 1000  # a second
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def write_clip(folder: Path | str, label: str, frames: Sequence[np.ndarray], times: Sequence[float]) -> Path:
    """Write one clip of gesture ``label`` under the next free number, and list it in the folder's manifest.

    ``frames`` are uint8 RGB (H, W, 3) of one size, two or more; ``times`` are when each was taken, in seconds from any
    start, rising by a millisecond or more. The folder is made where it is missing. The clip is there whole or not at
    all. Raises ``ManifestError`` for a name that ``check_label`` refuses, ``ClipError`` for frames or times that are no
    clip, ``RunError`` when it cannot be written.

    Example: ``write_clip("my_gestures", "wave", frames, times)  # my_gestures/wave/001.mkv``
    """
    folder = Path(folder)
    home = folder / check_label(label, folder)
    _check(frames, times)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _next_number(home) as (path, temporary):
            _encode(temporary, frames, times)
            temporary.replace(path)
    except (OSError, av.FFmpegError) as error:
        reason = error.strerror or error
        raise RunError(f"{home}: the clip cannot be written ({reason}); make room, or choose another folder") from error
    refresh_manifest(folder)
    return path


def check_label(label: str, folder: Path | None = None) -> str:
    """The label, if it can name a gesture and its folder everywhere; ``ManifestError`` saying why not.

    Letters (with accents and vowel signs), digits, ``_``, ``-`` and single blanks inside, at most 64; not what ``data
    index`` takes for a split (train, test, ...), and not the name of a gesture in ``folder`` in other capitals, or
    encoded otherwise, which some systems cannot tell apart. "none" is the name of what is no gesture.
    """
    name = f"the gesture {label[: LONGEST_LABEL + 1]!r}"
    # An accent or a vowel sign of its own (Hindi, Arabic, ...) is no letter to `re`: it may stand where _ may.
    signs = "".join("_" if unicodedata.category(sign).startswith("M") else sign for sign in label)
    if not re.fullmatch(r"[^\W_][\w-]*( [\w-]+)*", signs) or len(label) > LONGEST_LABEL:
        raise ManifestError(
            f"{name}: names begin with a letter or digit and hold letters, digits, _, - and blanks inside, "
            f"{LONGEST_LABEL} at most"
        )
    if label.lower() in SPLIT_WORDS or label.lower() in _WINDOWS_DEVICES:
        raise ManifestError(f"{name}: this word has another meaning as the name of a folder; choose another name")
    alike = next((each for each in gestures(folder) if _folded(each) == _folded(label)), label) if folder else label
    if alike != label:
        raise ManifestError(f"{name}: there is {alike!r} already, which some systems cannot tell apart; use that name")
    return label


def _folded(label: str) -> str:
    return unicodedata.normalize("NFC", label).lower()


def gestures(folder: Path) -> tuple[str, ...]:
    """The names of the gestures that have a folder, in natural order; none where there is no folder."""
    return natural_order(path.name for path in _entries(folder) if path.is_dir())


def count_clips(folder: Path, label: str) -> int:
    """How many clips of a gesture were recorded."""
    return sum(path.suffix == SUFFIX and not path.name.endswith(f".depth{SUFFIX}") for path in _entries(folder / label))


def refresh_manifest(folder: Path | str) -> Manifest:
    """Bring ``manifest.csv`` up to what lies in the folder, and return it.

    Clips that are new are listed as ``data index folders`` does, rows that were there keep split, subject, ranges and
    depth, and rows whose file is gone go. Known classes keep their order, new ones follow. Raises ``ManifestError``
    where the folder or its manifest cannot be read.
    """
    folder = Path(folder).absolute()
    path = folder / MANIFEST_FILE
    old = Manifest.read(path) if path.exists() else None
    # Depth that is there already is declared already.
    found = index_dataset("folders", folder, IndexOptions()).manifest
    if old is None:
        return found.write(path)
    listed = {clip.video for clip in old.clips}
    kept = [clip for clip in old.clips if clip.video.exists()]
    clips = [*kept, *(clip for clip in found.clips if clip.video not in listed)]
    used = {clip.label for clip in clips}
    known = [name for name in old.classes if name in used]
    classes = (*known, *natural_order(used - set(known)))
    return Manifest(tuple(clips), classes, found.depth or old.depth).write(path)


def open_clips(path: Path | str) -> tuple[Manifest, str]:
    """The manifest of ``path``, and a line on it; a folder of class folders that has none is indexed, which it says,
    with the notes of ``data index folders`` in lines of their own.

    Raises ``ManifestError`` when there is neither a manifest nor a clip.
    """
    path = Path(path)
    there = not path.is_dir() or (path / MANIFEST_FILE).exists()
    found = None if there else index_dataset("folders", path)
    manifest = found.manifest.write(path / MANIFEST_FILE) if found else Manifest.read(path)
    told = f"{len(manifest)} clips of {len(manifest.classes)} classes: {some(manifest.classes)}"
    lines = [f"{manifest.path}: {'written, ' if found else ''}{told}"]
    lines += [f"note: {note}" for note in found.notes] if found else []
    return manifest, "\n".join(lines)


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise ManifestError(f"{folder}: cannot be read ({error.strerror})") from error


def _check(frames: Sequence[np.ndarray], times: Sequence[float]) -> None:
    if len(frames) < 2 or len(frames) != len(times):
        raise ClipError(f"a clip of {len(frames)} frames and {len(times)} times; give two frames or more, and as many")
    check_frames(frames)
    if not all(math.isfinite(time) for time in times):
        raise ClipError("the times of a clip are not all numbers; give seconds")
    stamps = _stamps(times)
    late = next((i for i in range(1, len(stamps)) if stamps[i] <= stamps[i - 1]), None)
    if late is not None:
        raise ClipError(f"frame {late} is at {times[late]:.4f} s, the one before at {times[late - 1]:.4f}: times rise")


def _stamps(times: Sequence[float]) -> list[int]:
    return [round((time - times[0]) * _TICKS) for time in times]


@contextmanager
def _next_number(home: Path) -> Iterator[tuple[Path, Path]]:
    """The next free name and a temporary one that reserves it: whoever creates that first has the number."""
    taken = [int(path.stem) for path in _entries(home) if re.fullmatch(r"[0-9]+", path.stem)]
    number = max(taken, default=0)
    while True:
        number += 1
        path = home / f"{number:03d}{SUFFIX}"
        temporary = home / f".{path.name}.tmp"
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            continue
        try:
            if not path.exists():
                yield path, temporary
                return
        finally:
            temporary.unlink(missing_ok=True)


def _encode(path: Path, frames: Sequence[np.ndarray], times: Sequence[float]) -> None:
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", options={"qmin": _QUALITY, "qmax": _QUALITY})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        for image, stamp in zip(frames, _stamps(times), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, _TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with path.open("rb+") as file:
        os.fsync(file.fileno())
