"""Renders generated clips once and keeps them as memory-mapped arrays, so that hundreds of runs can share them."""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from dynagest.atomic import write_atomically
from dynagest.clips.splits import Split
from dynagest.clips.view import View
from dynagest.errors import RunError
from dynagest.lock import locked
from dynagest.synth.dataset import SynthDataset
from dynagest.synth.pool import render_all
from dynagest.synth.recording import plan, record
from dynagest.synth.spec import SynthSpec
from dynagest.synth.write import SPEC_FILE

_FLUSH = 64  # clips between two notes of how far the rendering has come


def footage_folder(root: Path, spec: SynthSpec) -> Path:
    """The folder below ``root`` for the clips of ``spec``; each spec has a folder of its own."""
    return root / hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:16]


def is_rendered(folder: Path, split: Split) -> bool:
    """Whether all clips of a split have been rendered."""
    return (folder / f"{split}.rgb.npy").exists()


def render_split(folder: Path, spec: SynthSpec, split: Split) -> None:
    """Render a split into ``folder``: uint8 RGB (N, F, S, S, 3) and uint16 depth in mm (N, F, S, S).

    Continues a rendering that was begun, even one that was killed, and waits for another process that is rendering the
    same split. Raises ``RunError`` when the clips cannot be written or a worker is killed.
    """
    try:
        with locked(folder / f".{split}.lock"):
            if not is_rendered(folder, split):
                _render(folder, spec, split)
    except OSError as error:
        raise RunError(f"{folder}: the clips cannot be kept ({error}); free the disk and run it again") from error


def _render(folder: Path, spec: SynthSpec, split: Split) -> None:
    write_atomically(folder / SPEC_FILE, spec.model_dump_json(indent=1).encode())
    shape = (spec.length(split), spec.num_frames, spec.size, spec.size)
    begun = {kind: folder / f"{split}.{kind}.part.npy" for kind in ("rgb", "depth")}
    note = folder / f"{split}.rendered.json"
    done = json.loads(note.read_text()) if note.exists() and all(path.exists() for path in begun.values()) else 0
    if not done:
        note.unlink(missing_ok=True)  # a stale note beside the new, empty files would mislead a resumed rendering
    size = int(np.prod(shape[1:], dtype=np.int64)) * 5 * (shape[0] - done)
    # Writing to a memory-mapped file on a full disk would end the process with a bus error.
    if shutil.disk_usage(folder).free < size + (1 << 28):
        raise OSError(f"{size / 1e9:.1f} GB are needed")
    if not done:
        np.lib.format.open_memmap(begun["rgb"], "w+", np.uint8, (*shape, 3))
        np.lib.format.open_memmap(begun["depth"], "w+", np.uint16, shape)
    arrays = {kind: np.load(path, mmap_mode="r+") for kind, path in begun.items()}

    def put_down(count: int, total: int) -> None:
        if count % _FLUSH == 0 or count == total:
            for array in arrays.values():
                array.flush()
            write_atomically(note, json.dumps(count).encode())

    # On all cores, because other runs have to wait for these clips anyway.
    render_all(partial(_film, begun, spec, split), range(done, shape[0]), shape[0], put_down)
    arrays.clear()  # Windows cannot move a file that is mapped
    for kind in ("depth", "rgb"):  # RGB last, because its file marks the split as rendered
        begun[kind].replace(folder / f"{split}.{kind}.npy")
    note.unlink()


def _film(files: dict[str, Path], spec: SynthSpec, split: Split, index: int) -> None:
    """Render one clip into the files: RGB (F, S, S, 3), depth (F, S, S)."""
    footage = record(spec, plan(spec, split, index))
    np.load(files["rgb"], mmap_mode="r+")[index] = footage.pictures()
    np.load(files["depth"], mmap_mode="r+")[index] = footage.millimetres()


class RenderedClips(SynthDataset):
    """The samples of a ``SynthDataset`` from a rendered split.

    ``first`` cuts the split to its first clips (a multiple of the number of classes keeps them balanced), so that there
    can be less training data with the same test subjects.
    """

    def __init__(
        self, folder: Path, spec: SynthSpec, split: Split, view: View, *, seed: int, first: int | None = None
    ) -> None:
        super().__init__(spec, split, view, seed=seed)
        self.folder, self._length = folder, min(first or spec.length(split), spec.length(split))
        self._open()

    def _open(self) -> None:
        self._rgb = np.load(self.folder / f"{self.split}.rgb.npy", mmap_mode="r")
        self._raw = np.load(self.folder / f"{self.split}.depth.npy", mmap_mode="r")

    def __getstate__(self) -> dict[str, object]:
        # A worker maps the files itself, because pickling the arrays would copy them.
        return {name: value for name, value in self.__dict__.items() if name not in ("_rgb", "_raw")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._open()

    @classmethod
    def below(
        cls, root: Path, spec: SynthSpec, split: Split, view: View, *, seed: int, first: int | None = None
    ) -> Self:
        """The split of ``spec`` below ``root``; it is rendered now if that has not been done yet."""
        folder = footage_folder(root, spec)
        render_split(folder, spec, split)
        return cls(folder, spec, split, view, seed=seed, first=first)

    def through(self, view: View) -> Self:
        """The same clips through another view."""
        return type(self)(self.folder, self.spec, self.split, view, seed=self.seed, first=self._length)

    def __len__(self) -> int:
        return self._length

    def _filmed(self, epoch: int, index: int, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self._rgb[index][frames], self._raw[index][frames] if self.view.depth else None
