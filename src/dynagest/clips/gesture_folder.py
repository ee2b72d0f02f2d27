"""Writes recorded clips into a folder of a user's own gestures, for ``dynagest record`` and the web page.

The layout is that of ``dynagest data index folders``, with the manifest kept up to date::

    FOLDER/manifest.csv  classes.txt
    FOLDER/LABEL/001.mkv  002.mkv  ...

A clip is Motion JPEG in Matroska. Every picture stands alone, so that a few of many are read fast. Its time is kept to
the millisecond, so that the recording of a camera that changes its rate has the right times. The file states its
length, so that a truncated one is noticed. A number is above all that are there, and no process ever overwrites a file.
The caller must see to it that threads of one process do not write at the same time. Needs no torch.
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
from dynagest.clips.adapters.common import SPLIT_WORDS, visible
from dynagest.clips.checks.lists import unlisted
from dynagest.clips.frames import check_frames
from dynagest.clips.manifest import MANIFEST_FILE, Manifest, natural_order
from dynagest.errors import ClipError, ManifestError, RunError, counted, some

SUFFIX = ".mkv"
LONGEST_LABEL = 64
_QUALITY = "3"  # quantiser of MJPEG, 2 (best) to 31
_TICKS = 1000  # a second
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def write_clip(folder: Path | str, label: str, frames: Sequence[np.ndarray], times: Sequence[float]) -> Path:
    """Write one clip of gesture ``label`` under the next free number, list it in the manifest, and return its path.

    ``frames`` are two or more, uint8 RGB (H, W, 3) of one size; ``times`` are the seconds at which they were taken,
    from any start, each a millisecond or more after the one before. A missing folder is made. A failure never leaves
    part of a clip. Raises ``ManifestError`` for a name that ``check_label`` refuses, or a folder that cannot be
    indexed; ``ClipError`` for unsuitable frames or times; ``RunError`` if the clip cannot be written.

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
    """Return ``label`` if it can name a gesture and its folder on every system; else raise ``ManifestError``.

    A label has at most 64 characters: letters (with accents and vowel signs), digits, ``_``, ``-`` and single blanks
    inside; the first is a letter or a digit. Refused are the names of splits (train, test, ...) and of Windows' devices
    (con, nul, ...), and the name of a gesture in ``folder`` in other capitals or another Unicode form, because some
    systems cannot tell the two apart. "none" names the background, which is no gesture.
    """
    name = f"the gesture {label[: LONGEST_LABEL + 1]!r}"
    # A separate accent or vowel sign (Hindi, Arabic, ...) is no letter to `re`, so it is treated like _.
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


def check_writable(folder: Path, labels: Sequence[str]) -> None:
    """Raise ``RunError`` unless clips of these gestures could be written into ``folder``, which may be missing yet."""
    for home in (folder, *(folder / label for label in labels)):
        there = next(path for path in (home, *home.absolute().parents) if os.access(path, os.F_OK))
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            reason = "may not be written by you" if there.is_dir() else "is a file"
            raise RunError(f"{folder}: no clip can be written there: {there} {reason}; choose another folder")


def _folded(label: str) -> str:
    return unicodedata.normalize("NFC", label).lower()


def gestures(folder: Path) -> tuple[str, ...]:
    """The names of the gestures that have a folder in ``folder``, in natural order; ``()`` if that does not exist."""
    return natural_order(path.name for path in _entries(folder) if path.is_dir())


def count_clips(folder: Path, label: str) -> int:
    """The number of recorded clips of a gesture, which are its ``.mkv`` files without depth."""
    return sum(path.suffix == SUFFIX and not path.name.endswith(f".depth{SUFFIX}") for path in _entries(folder / label))


def refresh_manifest(folder: Path | str) -> Manifest:
    """Bring ``manifest.csv`` up to date with the files in the folder, and return it.

    New clips are listed as by ``data index folders``, existing rows keep split, subject, ranges and depth, and rows
    whose file is gone are removed. Known classes keep their order, new ones follow. Raises ``ManifestError`` if the
    folder or its manifest cannot be read or the folder has no clip; ``DepthError`` if depth is not declared.
    """
    folder = Path(folder).absolute()
    path = folder / MANIFEST_FILE
    old = Manifest.read(path) if path.exists() else None
    # Without a depth option, because depth in the folder is declared in its depth.yaml.
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
    """Read the manifest of ``path``, and return it with a text about it for the user.

    A folder of class folders without a manifest is indexed and its manifest written. The text then says so, and has the
    notes of ``data index folders`` in further lines; those of a manifest that was there tell of clips that it does not
    list. Raises ``ManifestError`` if there is no manifest and no clip.
    """
    path = Path(path)
    there = not path.is_dir() or (path / MANIFEST_FILE).exists()
    found = None if there else index_dataset("folders", path)
    manifest = found.manifest.write(path / MANIFEST_FILE) if found else Manifest.read(path)
    told = f"{counted(len(manifest), 'clip')} of {counted(len(manifest.classes), 'class')}: {some(manifest.classes)}"
    lines = [f"{manifest.path}: {'written, ' if found else ''}{told}"]
    notes = found.notes if found else [problem.message for problem in unlisted(manifest)]
    lines += [f"note: {note}" for note in notes]
    return manifest, "\n".join(lines)


def _entries(folder: Path) -> list[Path]:
    return visible(folder) if folder.is_dir() else []


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
    """The path of the next free number, and a temporary path that reserves it for the process that creates it first."""
    # Of any file: depth that lies there without its clip would become that of a new clip of this number.
    found = (re.match(r"([0-9]+)(\.|$)", path.name) for path in _entries(home))
    number = max((int(each[1]) for each in found if each), default=0)
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
