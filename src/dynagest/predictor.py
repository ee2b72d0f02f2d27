"""Predicts the gesture in a video or in frames in memory. Needs neither depth nor a dataset.

The network is used through ``ClipNetwork`` alone, so that the predictor does not depend on the runtime; torch is
imported only when a torch network is loaded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dynagest.card import NetworkCard
from dynagest.clips.frames import FrameReader, check_frames
from dynagest.clips.protocols import cut_squares, get_protocol, iterate_views, plan_frames
from dynagest.errors import ClipError, WeightsError
from dynagest.runtimes.arrays import check_logits, normalise_frames, softmax
from dynagest.runtimes.load import load_clip_network
from dynagest.runtimes.torch_network import TorchNetwork

if TYPE_CHECKING:
    import torch

BATCH = 4  # views that the network takes at once


class ClipNetwork(Protocol):
    """Anything that turns normalised clips into logits."""

    @property
    def card(self) -> NetworkCard: ...

    def logits(self, clips: np.ndarray) -> np.ndarray:
        """(N, T, 3, s, s) float32, normalised as ``card`` says -> (N, K) float32."""


@dataclass(frozen=True)
class Prediction:
    """The scores of all K classes for one video: ``scores`` (K,) in [0, 1], in the order of ``classes``, with sum 1."""

    classes: tuple[str, ...]
    scores: np.ndarray

    @property
    def label(self) -> str:
        """The class with the highest score."""
        return self.top(1)[0][0]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The ``k`` classes with the highest scores, and these scores, best first; all classes if there are fewer."""
        order = np.argsort(-self.scores, kind="stable")[:k]
        return [(self.classes[index], float(self.scores[index])) for index in order]


class Predictor:
    """Predicts the gesture in a video.

    Example::

        predictor = dg.Predictor.load("runs/demo")  # or an exported file: demo.onnx
        for name, score in predictor.predict("wave.mp4").top(3):
            print(f"{score:6.1%}  {name}")
    """

    def __init__(self, network: ClipNetwork) -> None:
        self.network = network

    @classmethod
    def load(
        cls,
        path: Path | str,
        device: str | None = None,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
    ) -> "Predictor":
        """Load a run folder, a ``.safetensors`` file with its card beside it, or an exported ``.onnx`` or ``.xml``.

        ``device`` is a torch device such as ``cuda`` (default: the CPU). Exported files need no torch: for these,
        ``threads`` is the number of CPU threads and, for ``.onnx`` only, ``providers`` are ONNX Runtime's. Raises
        ``WeightsError`` when there is no network of clips or it cannot be used, and ``RecipeError`` for an option that
        the network's runtime does not have, or a device or runtime that is missing.
        """
        return cls(load_clip_network(path, device, threads, providers))

    @classmethod
    def of(cls, net: "torch.nn.Module", card: NetworkCard, device: str = "cpu") -> "Predictor":
        """Make a predictor of a torch network in memory and its card.

        The network, not a copy, is moved to ``device`` and put into evaluation mode; ``train()`` before training goes
        on, or test with ``evaluate``, which leaves the mode as it was.

        Raises ``WeightsError`` for a network that is fed depth and ``RecipeError`` for a device that cannot be used.
        """
        return cls(TorchNetwork(net, card, device))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that a prediction can have."""
        return self.network.card.classes

    def predict(
        self, video: Path | str | np.ndarray | Sequence[np.ndarray], protocol: str = "center", seed: int = 0
    ) -> Prediction:
        """Return the scores of all classes for a video of one gesture.

        ``video`` is a video file, a folder of numbered images, or RGB frames (H, W, 3) uint8 of one size, in order. The
        network sees T frames spread evenly over the video, however long it is (or the middle window, if it was trained
        on dense windows). Protocols other than ``center`` average several views of random frames, drawn from ``seed``.
        Raises ``ClipError`` when there are no frames, or frames that cannot be read or are not as said above,
        ``RecipeError`` for an unknown protocol, ``ModelError`` for a network whose logits are not of its card's
        classes, and ``WeightsError`` for one whose scores are not finite.
        """
        card, how = self.network.card, get_protocol(protocol)
        if isinstance(video, Path | str):
            path, reader = Path(video), FrameReader()
            count = reader.count(path)
            reader.require_whole(path, 0, count)
            plan = plan_frames(how, count, card, seed, index=0)
            frames = reader.frames(path, plan.frames)
        else:
            if len(video) == 0:
                raise ClipError("no frames to predict from: the list is empty")
            check_frames(video)
            plan = plan_frames(how, len(video), card, seed, index=0)
            frames = np.stack([video[index] for index in plan.frames])
        views = iterate_views(cut_squares(frames, how, card.size), plan.samples)
        total = np.zeros(len(card.classes))
        for batch in _batches(views, BATCH):
            clips = np.stack([normalise_frames(view, card) for view in batch])
            logits = self.network.logits(clips)
            check_logits(logits.shape, len(clips), card)
            total += softmax(logits).sum(axis=0)
        if not np.isfinite(total).all():
            raise WeightsError(
                f"the scores of {card.model} are not finite: its weights are broken; take a sound copy of them, or "
                "train it anew"
            )
        return Prediction(card.classes, total / how.views)


def _batches(views: Iterable[np.ndarray], size: int) -> Iterable[list[np.ndarray]]:
    iterator = iter(views)
    while batch := list(islice(iterator, size)):
        yield batch
