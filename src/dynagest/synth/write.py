"""Writes a generated data set to disk, with the same folder layout and manifest as a user's own clips.

    folder/manifest.csv  classes.txt  depth.yaml  synth.json (the SynthSpec)
    folder/train/swipe_left/S003-000123.avi         MJPEG: every frame stands alone, so a few are read fast
    folder/train/swipe_left/S003-000123.depth.npz   uint16 mm (F, S, S), 0 = no depth

Every file is written under another name first and then renamed, and the manifest comes last. So each clip file that an
interrupted run leaves behind is complete, and the next run adds the missing ones.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from pydantic import BaseModel

from dynagest.atomic import write_atomically
from dynagest.clips.manifest import MANIFEST_FILE, Clip, Manifest
from dynagest.clips.splits import SPLITS, Split
from dynagest.errors import RunError
from dynagest.fields import read_record
from dynagest.lock import sole_writer
from dynagest.synth.pool import Progress, render_all
from dynagest.synth.recording import label_of, plan, record, subject_number
from dynagest.synth.spec import FRAME_RATE, SynthSpec
from dynagest.synth.subject import subject_name

SPEC_FILE = "synth.json"
_QUALITY = "3"  # quantiser of MJPEG, 2 (best) to 31
_BITEXACT = 1 << 23  # AV_CODEC_FLAG_BITEXACT: no encoder version in the file

Spec = TypeVar("Spec", bound=BaseModel)


def write_synth(
    folder: Path | str, spec: SynthSpec, *, workers: int | None = None, progress: Progress | None = None
) -> Path:
    """Render every clip of ``spec`` into ``folder`` and return the path of its manifest.

    ``workers``: the number of processes, by default one a core; the files do not depend on it. ``progress``: called
    with (clips done, clips in all). A folder that was begun with the same spec is completed. Raises ``RunError`` for a
    folder that contains anything else, when the files cannot be written, and when a worker is killed.
    """
    folder = Path(folder).absolute()
    keys = [(split, index) for split in SPLITS for index in range(spec.length(split))]
    try:
        claim(folder / SPEC_FILE, spec, read_spec)
        missing = [key for key in keys if not all(path.exists() for path in clip_paths(folder, spec, *key))]
        for split, label in {(split, label_of(spec, index)) for split, index in missing}:
            (folder / split / spec.labels[label]).mkdir(parents=True, exist_ok=True)
        with sole_writer(folder) if missing else nullcontext():
            render_all(partial(_write_clip, folder, spec), missing, len(keys), progress, workers=workers)
        clips = [_clip(folder, spec, *key) for key in keys]
        manifest = Manifest.of(clips, depth=spec.depth_spec(), classes=spec.labels).write(folder / MANIFEST_FILE)
    except OSError as error:
        raise RunError(f"{folder}: the clips cannot be written: {error}; free the disk and run it again") from error
    assert manifest.path is not None
    return manifest.path


def read_spec(folder: Path | str) -> SynthSpec:
    """Read the spec of a folder that ``write_synth`` wrote. Raises ``RunError`` if there is none."""
    advice = "name a folder of `dynagest data synth`"
    return read_record(SynthSpec, Path(folder) / SPEC_FILE, "a spec of generated clips", advice)


def clip_paths(folder: Path, spec: SynthSpec, split: Split, index: int) -> tuple[Path, Path]:
    """The paths of a clip's RGB file and depth file."""
    name = f"{subject_name(subject_number(spec, split, index))}-{index:06d}"
    home = folder / split / spec.labels[label_of(spec, index)]
    return home / f"{name}.avi", home / f"{name}.depth.npz"


def claim(file: Path, spec: Spec, read: Callable[[Path], Spec]) -> None:
    """Write ``spec`` to ``file``, in a new or empty folder, unless ``file`` already holds the same spec.

    Raises ``RunError`` for a folder that contains anything else, such as another spec. ``read`` reads a folder's spec.
    """
    folder = file.parent
    if file.exists():
        if read(folder) != spec:
            raise RunError(f"{folder}: was made to another spec ({file.name}); choose another folder or delete it")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder}: exists and holds something else; choose a new or an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, spec.model_dump_json(indent=2).encode())


def _write_clip(folder: Path, spec: SynthSpec, key: tuple[Split, int]) -> None:
    split, index = key
    footage = record(spec, plan(spec, split, index))
    video, depth = clip_paths(folder, spec, split, index)
    with place(depth) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, depth=footage.millimetres())
    with place(video) as temporary:
        write_mjpeg(str(temporary), footage.pictures(), spec.size, FRAME_RATE)


@contextmanager
def place(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write a file to, which becomes ``path`` at the end of the block.

    If the block fails, the temporary file is removed, so that ``path`` is complete or missing. The file is not forced
    to the disk: to wait for that with thousands of clips takes too long, and lost clips can be rendered again.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_mjpeg(path: str, frames: Iterable[np.ndarray], size: int, fps: float) -> None:
    """Write an AVI (Motion JPEG) of ``frames``, uint8 (S, S, 3) RGB with S = ``size``."""
    options = {"qmin": _QUALITY, "qmax": _QUALITY}
    with av.open(path, "w", format="avi", options={"fflags": "+bitexact"}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("mjpeg", rate=rate, options=options)
        stream.height = stream.width = size
        stream.pix_fmt = "yuvj444p"
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= _BITEXACT
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _clip(folder: Path, spec: SynthSpec, split: Split, index: int) -> Clip:
    video, depth = clip_paths(folder, spec, split, index)
    label = spec.labels[label_of(spec, index)]
    return Clip(video, label, depth, split=split, subject=subject_name(subject_number(spec, split, index)))
