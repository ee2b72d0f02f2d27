"""Renders generated clips once and keeps them as memory-mapped arrays, so that hundreds of runs can share them."""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from dynagest.atomic import write_atomically
from dynagest.clips.dataset import Sample, make_sample
from dynagest.clips.view import View
from dynagest.errors import RunError
from dynagest.reproduce.lock import locked
from dynagest.synth.pool import render_all
from dynagest.synth.recording import label_of, plan, record
from dynagest.synth.spec import FRAME_RATE, Split, SynthSpec
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
    same split. Raises ``RunError`` when the clips cannot be written.
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


class RenderedClips:
    """A ``ClipSource`` of a rendered split through a view: the samples of ``SynthDataset`` without the rendering.

    ``first`` cuts the split to its first clips (a multiple of the number of classes keeps them balanced), so that there
    can be less training data with the same test subjects.
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
        # A worker maps the files itself, because pickling the arrays would copy them.
        return {name: value for name, value in self.__dict__.items() if name not in ("_rgb", "_depth")}

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

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.labels

    def __len__(self) -> int:
        return self._length

    def label(self, index: int) -> int:
        """The class of clip ``index``."""
        return label_of(self.spec, index)

    def name(self, index: int) -> str:
        return f"clip {index}"

    def timing(self, index: int) -> tuple[int, float]:
        """Frames of clip ``index``, and frames a second."""
        return self.spec.num_frames, FRAME_RATE

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
