"""Measures whether the decoders find the hand in unseen clips, by error and correlation, beside three simple guesses.

For each clip, over all pixels of its T frames, these are the mean squared error between mask and target and Pearson's
correlation of the two; the mean over the clips of a split is reported. The guesses are

* ``mean depth``: the mean target of the training clips, the same for every frame;
* ``brightness``: the RGB frame's luma;
* ``untrained``: the decoders as they were before the first step, on the untrained network.

For the error, brightness and the untrained decoder are fitted to the training clips by least squares (a factor and an
offset), so that they do not lose merely because of their scale.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from dynagest.atomic import write_atomically
from dynagest.card import IMAGENET_MEAN, IMAGENET_STD
from dynagest.clips.dataset import ClipSource, UnreadableClip, normalise
from dynagest.errors import RunError
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.weights import load_network
from dynagest.run_folder import MASKS_FILE
from dynagest.task.decoder import MultiScaleDecoder
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


def score_masks(run: Path, recipe: Recipe, train: ClipSource, held_out: ClipSource) -> list[MaskScore]:
    """The scores of a run's decoders and of the guesses on ``held_out``.

    They are kept in the run's ``masks.json`` and read from there if it exists. Both sources must have views without
    augmentation and with depth; clips without depth are left out. Raises ``RunError`` when no held-out clip has depth.
    """
    path = run / MASKS_FILE
    if path.exists():
        return [MaskScore(**score) for score in json.loads(path.read_text())]
    net, _ = load_network(run)
    decoder = load_decoders(run, net)
    fresh, _ = build_task(recipe, len(train.classes), torch.device("cpu"), load_init=False)
    assert isinstance(fresh.decoder, MultiScaleDecoder)
    untrained = (fresh.network.eval(), fresh.decoder)
    scores = []
    for mask in [kind for kind, _ in decoder.parts()]:
        fits, total, frames = {"brightness": _Fit(), "untrained": _Fit()}, np.zeros(()), 0
        for target, guesses in _guesses(mask, recipe, train, (net, decoder), untrained):
            for name, fit in fits.items():
                fit.add(guesses[name], target)
            total = total + target.sum(axis=0, dtype=np.float64)
            frames += len(target)
        assert frames, "no training clip has depth, though decoders were trained"
        lines = {name: fit.line() for name, fit in fits.items()}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in GUESSES}
        for target, guesses in _guesses(mask, recipe, held_out, (net, decoder), untrained):
            guesses["mean depth"] = np.broadcast_to(total / frames, target.shape)
            for name in GUESSES:
                factor, offset = lines.get(name, (1.0, 0.0))
                guess = guesses[name]
                error = float(np.mean((factor * guess + offset - target) ** 2))
                found[name].append((error, _correlation(guess, target)))
        if not found["decoder"]:
            raise RunError(f"{run}: none of the held-out clips has readable depth to compare the masks with")
        scores += [_mean_score(mask, name, values) for name, values in found.items()]
    write_atomically(path, json.dumps([asdict(score) for score in scores], indent=1).encode())
    return scores


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
    mask: str,
    recipe: Recipe,
    source: ClipSource,
    trained: tuple[ClipNet, MultiScaleDecoder],
    untrained: tuple[torch.nn.Module, MultiScaleDecoder],
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """For each clip with depth, the target (T, h, w) and the guesses by name, of the same shape."""
    loss = DepthLoss(threshold=recipe.threshold / 255 if recipe.binarise else None)
    for index in range(len(source)):
        sample = source[(0, index)]
        if isinstance(sample, UnreadableClip) or not sample["has_depth"]:
            continue
        rgb = sample["rgb"]
        masks = {}
        for name, (net, decoder) in {"decoder": trained, "untrained": untrained}.items():
            with decoder.attached(net) as taps:
                net(normalise(rgb[None], IMAGENET_MEAN, IMAGENET_STD))
            local, global_ = decoder(decoder.features(taps))
            masks[name] = (local if mask == "local" else global_)[:, 0]
        size = masks["decoder"].shape[-2:]
        luma = torch.einsum("tchw,c->thw", rgb.float() / 255, torch.tensor(_LUMA))
        masks["brightness"] = F.interpolate(luma[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        target = loss.target(sample["depth"][None], size)[:, 0]
        yield target.numpy(), {name: value.float().numpy() for name, value in masks.items()}
