"""Measures whether the decoders find the hand in unseen clips, by error and correlation, beside three simple guesses.

For each clip, over all pixels of its T frames, these are the mean squared error between mask and target and Pearson's
correlation of the two; the mean over the clips of a split is reported. The guesses are

* ``mean depth``: the mean target of the training clips, the same for every frame;
* ``brightness``: the RGB frame's luma;
* ``untrained``: the decoders as they were before the first step, on the untrained network.

For the error, brightness and the untrained decoder are fitted to the training clips by least squares (a factor and an
offset), so that they do not lose merely because of their scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from dynagest.card import IMAGENET_MEAN, IMAGENET_STD
from dynagest.clips.dataset import ClipSource, normalise
from dynagest.clips.labelled import UnreadableClip
from dynagest.errors import RunError
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.weights import load_network
from dynagest.task.decoder import GLOBAL, LOCAL, MultiScaleDecoder
from dynagest.task.depth import DepthTask
from dynagest.task.loss import DepthLoss
from dynagest.task.saved import load_decoders
from dynagest.training.assemble import build_task
from dynagest.training.recipe import Recipe

GUESSES = ("decoder", "mean depth", "brightness", "untrained")
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class MaskScore:
    """The score of one guess at one scale, over the clips of a split. ``mse`` is in canonical depth squared.

    A clip whose guess or target is constant has no correlation. ``correlation`` is the mean over the ``correlated``
    others, and 0 if there are none.
    """

    mask: str
    guess: str
    mse: float
    correlation: float
    clips: int
    correlated: int


@dataclass
class _Fit:
    """A least-squares fit of target = factor * guess + offset, from sums over pixels."""

    count: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def add(self, guess: np.ndarray, target: np.ndarray) -> None:
        self.count += guess.size
        self.x += float(guess.sum(dtype=np.float64))
        self.y += float(target.sum(dtype=np.float64))
        self.xx += float(np.square(guess, dtype=np.float64).sum())
        self.xy += float(np.multiply(guess, target, dtype=np.float64).sum())

    def line(self) -> tuple[float, float]:
        """Factor and offset. For a constant guess the factor is 0 and the offset the mean target."""
        spread = self.count * self.xx - self.x**2
        factor = (self.count * self.xy - self.x * self.y) / spread if spread > 1e-9 * self.count * self.xx else 0.0
        return factor, (self.y - factor * self.x) / self.count


class _Mask:
    """What is gathered about one mask: first from the training clips, then from the held-out ones."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fits = {"brightness": _Fit(), "untrained": _Fit()}
        self.total, self.frames = np.zeros(()), 0
        self.found: dict[str, list[tuple[float, float]]] = {name: [] for name in GUESSES}

    def fit(self, target: np.ndarray, guesses: dict[str, np.ndarray]) -> None:
        """Take a training clip into the mean depth and the fits."""
        for name, fit in self.fits.items():
            fit.add(guesses[name], target)
        self.total = self.total + target.sum(axis=0, dtype=np.float64)
        self.frames += len(target)

    def compare(self, target: np.ndarray, guesses: dict[str, np.ndarray]) -> None:
        """Find error and correlation of all guesses on a held-out clip."""
        guesses["mean depth"] = np.broadcast_to(self.total / self.frames, target.shape)
        for name, values in self.found.items():
            factor, offset = self.fits[name].line() if name in self.fits else (1.0, 0.0)
            error = float(np.mean((factor * guesses[name] + offset - target) ** 2))
            values.append((error, _correlation(guesses[name], target)))

    def scores(self) -> list[MaskScore]:
        """The means over the held-out clips."""
        return [_mean_score(self.kind, name, values) for name, values in self.found.items()]


def score_masks(run: Path, recipe: Recipe, train: ClipSource, held_out: ClipSource) -> list[MaskScore]:
    """The scores of a run's decoders and of the guesses on ``held_out``.

    Both sources must have views without augmentation and with depth; clips without depth are left out. Raises
    ``RunError`` when no held-out clip has depth.
    """
    net, _ = load_network(run)
    decoder = load_decoders(run, net)
    fresh, _ = build_task(recipe, len(train.classes), torch.device("cpu"), load_init=False)
    assert isinstance(fresh, DepthTask)
    assert fresh.decoder is not None
    untrained = (fresh.network.eval(), fresh.decoder)
    masks = {kind: _Mask(kind) for kind, _ in decoder.parts()}
    for kind, target, guesses in _guesses(fresh.loss, train, (net, decoder), untrained):
        masks[kind].fit(target, guesses)
    assert all(mask.frames for mask in masks.values()), "no training clip has depth, though decoders were trained"
    for kind, target, guesses in _guesses(fresh.loss, held_out, (net, decoder), untrained):
        masks[kind].compare(target, guesses)
    if not all(mask.found["decoder"] for mask in masks.values()):
        raise RunError(f"{run}: none of the held-out clips has readable depth to compare the masks with")
    return [score for mask in masks.values() for score in mask.scores()]


def _mean_score(mask: str, guess: str, values: list[tuple[float, float]]) -> MaskScore:
    correlations = [correlation for _, correlation in values if not np.isnan(correlation)]
    return MaskScore(
        mask,
        guess,
        mse=float(np.mean([error for error, _ in values])),
        correlation=float(np.mean(correlations)) if correlations else 0.0,
        clips=len(values),
        correlated=len(correlations),
    )


def _correlation(guess: np.ndarray, target: np.ndarray) -> float:
    """Pearson's correlation; NaN where guess or target is constant."""
    x, y = guess - guess.mean(dtype=np.float64), target - target.mean(dtype=np.float64)
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale > 1e-12 else float("nan")


@torch.inference_mode()
def _guesses(
    loss: DepthLoss,
    source: ClipSource,
    trained: tuple[ClipNet, MultiScaleDecoder],
    untrained: tuple[torch.nn.Module, MultiScaleDecoder],
) -> Iterator[tuple[str, np.ndarray, dict[str, np.ndarray]]]:
    """For each clip with depth and each kind of mask: the target (T, h, w), and the guesses by name, of that shape."""
    for index in range(len(source)):
        sample = source[(0, index)]
        if isinstance(sample, UnreadableClip) or not sample["has_depth"]:
            continue
        rgb = sample["rgb"]
        predicted = {}
        for name, (net, decoder) in {"decoder": trained, "untrained": untrained}.items():
            with decoder.attached(net) as taps:
                net(normalise(rgb[None], IMAGENET_MEAN, IMAGENET_STD))
            predicted[name] = dict(zip((LOCAL, GLOBAL), decoder(taps), strict=True))
        luma = torch.einsum("tchw,c->thw", rgb.float() / 255, torch.tensor(_LUMA))
        for kind, _ in trained[1].parts():
            masks = {name: both[kind] for name, both in predicted.items()}
            size = masks["decoder"].shape[-2:]
            masks["brightness"] = F.interpolate(luma[:, None], size=size, mode="bilinear", align_corners=False)
            target = loss.target(sample["depth"][None], size)
            yield kind, target[:, 0].numpy(), {name: mask[:, 0].float().numpy() for name, mask in masks.items()}
