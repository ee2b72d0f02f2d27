"""Generated clips rendered once and kept as memory-mapped arrays, so that hundreds of runs do not render them anew."""

import hashlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from multiprocessing import parent_process
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from dynagest.atomic import write_atomically
from dynagest.clips.dataset import Sample, make_sample
from dynagest.clips.view import View
from dynagest.clips.workers import fork_server
from dynagest.errors import RunError
from dynagest.machine import available_cores
from dynagest.reproduce.lock import locked
from dynagest.synth.recording import label_of, plan, record
from dynagest.synth.spec import Split, SynthSpec

_FLUSH = 64  # clips from one note of how far the rendering came to the next
Progress = Callable[[int, int], None]


def footage_folder(root: Path, spec: SynthSpec) -> Path:
    """Where the clips of ``spec`` are kept below ``root``: a name of its own for every spec."""
    return root / hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:16]


def is_rendered(folder: Path, split: Split) -> bool:
    """Whether all clips of a split are there."""
    return (folder / f"{split}.rgb.npy").exists()


def render_split(folder: Path, spec: SynthSpec, split: Split, progress: Progress | None = None) -> None:
    """Render a split into ``folder``: uint8 RGB (N, F, S, S, 3) and uint16 depth in mm (N, F, S, S).

    One that was begun is gone on with, after a kill too, and another process that is at it is waited for. Raises
    ``RunError`` when the disk does not take it.
    """
    try:
        with locked(folder / f".{split}.lock"):
            if not is_rendered(folder, split):
                _render(folder, spec, split, progress)
    except OSError as error:
        raise RunError(f"{folder}: the clips cannot be kept ({error}); free the disk and run it again") from error


def _render(folder: Path, spec: SynthSpec, split: Split, progress: Progress | None) -> None:
    write_atomically(folder / "synth.json", spec.model_dump_json(indent=1).encode())
    shape = (spec.length(split), spec.num_frames, spec.size, spec.size)
    size = int(np.prod(shape, dtype=np.int64)) * 5
    # A full disk would end a process that writes to a memory-mapped file with a bus error.
    if shutil.disk_usage(folder).free < size + (1 << 28):
        raise OSError(f"{size / 1e9:.1f} GB are needed")
    kinds: dict[str, tuple[npt.DTypeLike, tuple[int, ...]]] = {
        "rgb": (np.uint8, (*shape, 3)),
        "depth": (np.uint16, shape),
    }
    begun = {kind: folder / f"{split}.{kind}.part.npy" for kind in kinds}
    note = folder / f"{split}.rendered.json"
    done = json.loads(note.read_text()) if note.exists() and all(path.exists() for path in begun.values()) else 0
    arrays = {
        kind: np.lib.format.open_memmap(begun[kind], "r+" if done else "w+", dtype=dtype, shape=full)
        for kind, (dtype, full) in kinds.items()
    }
    with _filmed(spec, split, range(done, shape[0])) as clips:
        for index, (rgb, depth) in enumerate(clips, start=done):
            arrays["rgb"][index], arrays["depth"][index] = rgb, depth
            if (index + 1) % _FLUSH == 0:
                for array in arrays.values():
                    array.flush()
                write_atomically(note, json.dumps(index + 1).encode())
            if progress:
                progress(index + 1, shape[0])
    for kind in ("depth", "rgb"):  # the one that tells that all are there comes last
        arrays.pop(kind).flush()
        begun[kind].replace(folder / f"{split}.{kind}.npy")
    note.unlink(missing_ok=True)


@contextmanager
def _filmed(spec: SynthSpec, split: Split, indices: range) -> Iterator[Iterator[tuple[np.ndarray, np.ndarray]]]:
    """RGB and depth of each clip in order, rendered on all cores: whoever else needs them has to wait anyway."""
    cores = available_cores()
    if cores == 1 or len(indices) < _FLUSH:
        yield map(_film, repeat(spec), repeat(split), indices)
        return
    with ProcessPoolExecutor(cores, fork_server(__name__), _start_worker) as pool:
        try:
            yield pool.map(_film, repeat(spec), repeat(split), indices, chunksize=8)
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker that waits for its next clip would not notice that its parent was killed."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _film(spec: SynthSpec, split: Split, index: int) -> tuple[np.ndarray, np.ndarray]:
    """A clip: uint8 RGB (F, S, S, 3), uint16 depth (F, S, S)."""
    footage = record(spec, plan(spec, split, index))
    return footage.rgb.permute(0, 2, 3, 1).contiguous().numpy(), footage.depth.numpy().astype(np.uint16)


class RenderedClips:
    """A rendered split seen through a view: a ``ClipSource`` that gives what ``SynthDataset`` gives, without rendering.

    ``first`` cuts the split to its first clips (a multiple of the number of classes keeps them balanced): little
    training data without other subjects in the test.
    """

    def __init__(
        self, folder: Path, spec: SynthSpec, split: Split, view: View, *, seed: int, first: int | None = None
    ) -> None:
        self.spec, self.split, self.view, self.seed, self.folder = spec, split, view, seed, folder
        self._length = min(first or spec.length(split), spec.length(split))
        self._flipped = view.flip_table(spec.labels)
        self._open()

    def _open(self) -> None:
        self._rgb = np.load(self.folder / f"{self.split}.rgb.npy", mmap_mode="r")
        self._depth = np.load(self.folder / f"{self.split}.depth.npy", mmap_mode="r")

    def __getstate__(self) -> dict[str, object]:
        # A worker maps the files itself; pickling would copy them whole.
        return {name: value for name, value in self.__dict__.items() if name not in ("_rgb", "_depth")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._open()

    @classmethod
    def below(
        cls, root: Path, spec: SynthSpec, split: Split, view: View, *, seed: int, first: int | None = None
    ) -> Self:
        """The split of ``spec`` below ``root``, rendered now where it is not there yet."""
        folder = footage_folder(root, spec)
        render_split(folder, spec, split)
        return cls(folder, spec, split, view, seed=seed, first=first)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.labels

    def __len__(self) -> int:
        return self._length

    def label(self, index: int) -> int:
        """The class of clip ``index``."""
        return label_of(self.spec, index)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        if not 0 <= index < self._length:
            raise IndexError(f"clip {index} of {self._length}")
        rng = np.random.default_rng((self.seed, epoch, index))
        frames = self.view.indices(self.spec.num_frames, rng)
        raw = self._depth[index][frames] if self.view.depth else None
        rgb, depth, flip = self.view.transform(self._rgb[index][frames], raw, self.spec.depth_spec(), rng)
        label = self.label(index)
        return make_sample(rgb, depth, self._flipped[label] if flip else label, index)
