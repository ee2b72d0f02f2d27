"""What the decoders found, measured on toy clips: both masks from one look at each clip."""

from pathlib import Path

import numpy as np
import pytest
from training_toys import ToyClips, toy_data, toy_recipe

from dynagest.clips.dataset import Sample, UnreadableClip
from dynagest.reproduce.masks import GUESSES, score_masks
from dynagest.task.loss import DepthLoss
from dynagest.training.trainer import train


class Watched(ToyClips):
    """Toy clips that note which of them are read."""

    def __getitem__(self, key: tuple[int, int]) -> Sample | UnreadableClip:
        self.__dict__.setdefault("read", []).append(key[1])
        return super().__getitem__(key)


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
