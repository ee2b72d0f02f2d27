"""Generated clips as a dataset for training and testing, rendered when they are asked for."""

import numpy as np
from torch.utils.data import Dataset

from dynagest.clips.dataset import Sample, epoch_and_index, make_sample
from dynagest.clips.splits import SPLITS, Split
from dynagest.clips.view import View
from dynagest.errors import RecipeError
from dynagest.synth.recording import label_of, plan, record
from dynagest.synth.spec import FRAME_RATE, SynthSpec


class SynthDataset(Dataset[Sample]):
    """One split of a generated data set, seen through a view. ``dataset[(epoch, index)]`` gives a ``Sample``: rgb uint8
    (T, 3, H, W), canonical depth float32 (T, 1, H, W) in [0, 1], near = 1, and the label. For a ``DataLoader`` see
    ``ClipDataset``.

    A clip depends on (spec, split, index) alone, so any number of workers gives the same samples, bit for bit on the
    same kind of machine. ``seed`` (by default the spec's), epoch and index decide which frames of the clip are seen,
    their crop and their colours. With ``spec.fresh`` each epoch of the training split has new clips of the same
    subjects. Only the frames that the view asks for are rendered. Raises ``RecipeError`` for an unknown split, and for
    ``flip_labels`` of the view that do not fit the classes.

    Example: ``SynthDataset(SynthSpec(num_frames=12, size=72), "train", View(size=64))[(0, 0)]["rgb"]``
    """

    def __init__(self, spec: SynthSpec, split: Split, view: View, *, seed: int | None = None) -> None:
        if split not in SPLITS:
            raise RecipeError(f"there is no split {split!r}; the splits are {', '.join(SPLITS)}")
        self.spec, self.split, self.view = spec, split, view
        self.seed = spec.seed if seed is None else seed
        self._flipped = view.flip_table(spec.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.labels

    def __len__(self) -> int:
        return self.spec.length(self.split)

    def label(self, index: int) -> int:
        """The class of clip ``index``."""
        return label_of(self.spec, index)

    def name(self, index: int) -> str:
        return f"clip {index}"

    def timing(self, index: int) -> tuple[int, float]:
        """The number of frames of clip ``index``, and its frames a second."""
        return self.spec.num_frames, FRAME_RATE

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = epoch_and_index(key)
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        rng = np.random.default_rng((self.seed, epoch, index))
        pictures, raw = self._filmed(epoch, index, self.view.indices(self.spec.num_frames, rng))
        seen, depth, flip = self.view.transform(pictures, raw, self.spec.depth_spec(), rng)
        label = self.label(index)
        return make_sample(seen, depth, self._flipped[label] if flip else label, index)

    def _filmed(self, epoch: int, index: int, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The frames ``frames`` (T,) of a clip: RGB uint8 (T, S, S, 3), and if the view has depth, that in mm."""
        footage = record(self.spec, plan(self.spec, self.split, self._number(epoch, index)), frames)
        return footage.pictures(), footage.millimetres() if self.view.depth else None

    def _number(self, epoch: int, index: int) -> int:
        """The clip's number in the endless sequence of clips, where clips a whole epoch apart have the same class."""
        return index + epoch * len(self) if self.spec.fresh and self.split == "train" else index
