"""What the decoders found, measured on toy clips: both masks from one look at each clip."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training_toys import ToyClips, toy_data, toy_recipe

from dynagest.clips.dataset import Sample
from dynagest.clips.labelled import UnreadableClip
from dynagest.reproduce.masks import GUESSES, score_masks
from dynagest.task.loss import DepthLoss
from dynagest.training.trainer import train


class Watched(ToyClips):
    """Toy clips that note which of them are read."""

    def __getitem__(self, key: tuple[int, int]) -> Sample | UnreadableClip:
        self.__dict__.setdefault("read", []).append(key[1])
        return super().__getitem__(key)


class Flat(ToyClips):
    """Toy clips of which the first two are as deep everywhere as can be."""

    def __getitem__(self, key: tuple[int, int]) -> Sample | UnreadableClip:
        sample = super().__getitem__(key)
        assert isinstance(sample, dict)
        if key[1] < 2:
            sample["depth"].zero_()
        return sample


def test_each_clip_is_read_once_for_both_masks(tmp_path: Path) -> None:
    recipe = toy_recipe(epochs=1, milestones=())
    train(recipe, toy_data(), tmp_path)
    training, held_out = Watched(sparse_depth=True), Watched(6, seed=1, unreadable=(3,))
    scores = score_masks(tmp_path, recipe, training, held_out)
    assert (training.read, held_out.read) == (list(range(12)), list(range(6)))
    assert [(score.mask, score.guess) for score in scores] == [
        (mask, guess) for mask in ("local", "global") for guess in GUESSES
    ]
    assert {score.clips for score in scores} == {5}
    assert not (tmp_path / "masks.json").exists(), "other clips would later be told these scores"
    for mask, side in (("local", 32), ("global", 8)):
        seen, unseen = (
            [
                DepthLoss().target(clips[0, index]["depth"][None], (side, side)).numpy()
                for index in range(len(clips))
                if index not in clips.unreadable and clips[0, index]["has_depth"]
            ]
            for clips in (training, held_out)
        )
        mean = np.concatenate(seen).mean(axis=0)
        by_hand = np.mean([np.square(clip - mean).mean() for clip in unseen])
        (score,) = (each for each in scores if (each.mask, each.guess) == (mask, "mean depth"))
        assert score.mse == pytest.approx(by_hand, rel=1e-5)


def test_brightness_is_fitted_to_the_training_clips_and_compared_on_the_others(tmp_path: Path) -> None:
    """By NumPy's own least squares and correlation, on raw and on binarised depth; two clips show no depth at all."""
    training, held_out = ToyClips(sparse_depth=True), Flat(6, seed=1)
    for binarise in (False, True):
        recipe = toy_recipe(epochs=1, milestones=(), binarise=binarise)
        run = tmp_path / str(binarise)
        train(recipe, toy_data(), run)
        scores = {(score.mask, score.guess): score for score in score_masks(run, recipe, training, held_out)}
        for mask, side in (("local", 32), ("global", 8)):
            loss = DepthLoss(threshold=10 / 255 if binarise else None)

            def looks(clips: ToyClips, loss: DepthLoss = loss, side: int = side) -> list[tuple[np.ndarray, np.ndarray]]:
                """Brightness and target of each clip with depth."""
                found = []
                for index in range(len(clips)):
                    sample = clips[0, index]
                    assert isinstance(sample, dict)
                    grey = (sample["rgb"] / 255 * torch.tensor((0.299, 0.587, 0.114))[:, None, None]).sum(
                        1, keepdim=True
                    )
                    small = torch.nn.functional.interpolate(grey, size=(side, side), mode="bilinear")
                    target = loss.target(sample["depth"][None], (side, side))
                    found += [(small.flatten().numpy(), target.flatten().numpy())] if sample["has_depth"] else []
                return found

            x, y = (np.concatenate(each) for each in zip(*looks(training), strict=True))
            factor, offset = np.polyfit(x.astype(float), y.astype(float), 1)
            unseen = looks(held_out)
            errors = [np.mean((factor * guess + offset - target) ** 2) for guess, target in unseen]
            correlations = [np.corrcoef(guess, target)[0, 1] for guess, target in unseen if target.any()]
            found = scores[mask, "brightness"]
            assert (found.clips, found.correlated) == (6, 4)
            assert found.mse == pytest.approx(np.mean(errors), rel=1e-4)
            assert found.correlation == pytest.approx(np.mean(correlations), rel=1e-4)
            assert scores[mask, "untrained"].correlation != pytest.approx(scores[mask, "decoder"].correlation, abs=1e-3)
