"""What a run reads: batches of an epoch, views, workers, and what a recipe takes from a manifest."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_toys import FRAMES, SIZE, ToyClips, toy_recipe

from dynagest.card import NetworkCard
from dynagest.clips.depth import DepthSpec
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.view import View
from dynagest.errors import DepthError, ManifestError, ModelError, RecipeError
from dynagest.testing.evaluate import evaluate
from dynagest.training.batches import BatchPlan, in_order, planned
from dynagest.training.data import (
    TrainingData,
    build_loader,
    choose_workers,
    data_of,
    training_view,
    validation_view,
)
from dynagest.training.recipe import Recipe
from dynagest.training.trainer import train

CPU = torch.device("cpu")


def test_epochs_are_permutations_cut_evenly() -> None:
    plan = BatchPlan(clips=17, batch=4, seed=3)
    assert plan.steps_per_epoch == 5
    batches = [plan.keys(step) for step in range(10)]
    assert [len(batch) for batch in batches] == [4, 4, 3, 3, 3] * 2
    for epoch in (0, 1):
        keys = [key for batch in batches[5 * epoch : 5 * epoch + 5] for key in batch]
        assert sorted(keys) == [(epoch, index) for index in range(17)]
    assert [index for _, index in batches[0]] != [index for _, index in batches[5]]
    assert plan.keys(2) == BatchPlan(17, 4, 3).keys(2) != BatchPlan(17, 4, 4).keys(2)


def test_a_path_in_place_of_clips_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"clips: a path .*: Manifest.read\('clips'\)"):
        train(toy_recipe(), "clips", tmp_path)  # type: ignore[arg-type]
    card = NetworkCard(model="tsm_resnet18", classes=("x", "y"), num_segments=4, size=32, width=8)
    with pytest.raises(ManifestError, match=r"clips: a path .*: Manifest.read\('clips'\)"):
        evaluate(torch.nn.Identity(), card, Path("clips"))  # type: ignore[arg-type]


def test_processes_share_a_batch_and_resuming_skips() -> None:
    plan = BatchPlan(clips=10, batch=4, seed=0)
    shares = [list(planned(plan, 1, 6, process, 2)) for process in (0, 1)]
    for step, (one, two) in enumerate(zip(*shares, strict=True), start=1):
        assert sorted(one + two) == sorted(plan.keys(step))
    validation = [in_order(7, 2, process, 2) for process in (0, 1)]
    assert sorted(key for share in validation for batch in share for key in batch) == [(0, i) for i in range(7)]


def test_views_of_a_recipe() -> None:
    recipe = toy_recipe(scales=(0.5,), hue=0.3, msd="none", sampling="dense", stride=3)
    view = training_view(recipe)
    assert (view.augment, view.scales, view.hue, view.depth, view.stride) == (True, (0.5,), 0.3, False, 3)
    assert replace(view, augment=False).num_segments == validation_view(recipe).num_segments == 4
    assert not validation_view(recipe).augment
    # Every field of a view is that of the recipe, but for the two that say what the view is for.
    changes = {"jitter": 0.1, "brightness": 0.2, "contrast": 0.3, "saturation": 0.5, "crop": "action"}
    recipe = toy_recipe(**changes, size=48, sampling="dense", flip_labels={"left": "right", "right": "left"})
    view = asdict(training_view(recipe))
    assert (view.pop("augment"), view.pop("depth")) == (True, True)
    assert view == {name: getattr(recipe, name) for name in view}
    # A view by itself has the paper's numbers, too; only its stride, which frames of segments do not need, is 1.
    assert replace(training_view(Recipe()), stride=1) == View(augment=True)


def test_choosing_workers() -> None:
    assert choose_workers(toy_recipe(workers=5), CPU, 1)[0] == 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynagest.machine.LOW_SHARED_MIB", float("inf"))
        assert choose_workers(toy_recipe(workers=None), CPU, 1) == (
            0,
            "autodetected 0 data workers because /dev/shm is too small for their batches",
        )
    count, why = choose_workers(toy_recipe(workers=None), CPU, 1)
    assert count >= 1
    assert why.startswith(f"autodetected {count} data workers because")


@pytest.mark.parametrize(
    ("device", "cores", "processes", "count"),
    [("cpu", 8, 1, 4), ("cpu", 8, 2, 2), ("cpu", 1, 1, 1), ("cuda", 8, 1, 7), ("cuda", 64, 2, 16), ("cuda", 1, 1, 1)],
)
def test_workers_leave_cores_to_the_training(
    device: str, cores: int, processes: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynagest.training.data.available_cores", lambda: cores)
    monkeypatch.setattr("dynagest.training.data.shared_memory_suffices", lambda: True)
    assert choose_workers(toy_recipe(workers=None), torch.device(device), processes)[0] == count


def test_workers_end_with_the_loader() -> None:
    loader = build_loader(ToyClips(), in_order(12, 4), workers=2, prefetch=1, pin=False, frames=FRAMES, size=SIZE)
    batches = iter(loader)
    batch, unreadable = next(batches)
    assert batch is not None
    assert batch["index"].tolist() == [0, 1, 2, 3]
    assert unreadable == []
    processes = [worker.pid for worker in batches._workers]
    del batches, loader
    assert not any(
        Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text() for pid in processes
    )


@dataclass
class ContradictingClips(ToyClips):
    """Clips whose depth is not what it was declared to be."""

    def __getitem__(self, key: tuple[int, int]):
        raise DepthError("depth.yaml: says near is bright")


def test_mistake_found_by_a_worker_keeps_its_message(tmp_path: Path) -> None:
    data = TrainingData.of_sources(ContradictingClips(), None)
    with pytest.raises(DepthError, match=r"^depth\.yaml: says near is bright$"):
        train(toy_recipe(workers=1), data, tmp_path / "run")


@dataclass
class NamedClips(ToyClips):
    """Clips of the classes that it is told."""

    classes: tuple[str, ...] = ("left", "right", "up")


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (ToyClips(0), None, "^toys: the source to train on has no clips"),
        (ToyClips(4), ToyClips(0), "^toys: the source to validate on has no clips; .* None in its place"),
        (NamedClips(classes=("left",)), None, "^toys: classes: there is one, but a network tells at least two apart"),
        (NamedClips(classes=("left", "left", "up")), None, "^toys: classes: 'left' is there twice"),
        (ToyClips(), NamedClips(classes=("left", "up", "right")), "class 1 .* train on is 'right', but .* on 'up'"),
        (ToyClips(), NamedClips(classes=("left", "right")), "class 2 .* train on is 'up', but .* on missing"),
    ],
    ids=["no training", "no validation", "one class", "a class twice", "another order", "fewer classes"],
)
def test_sources_that_cannot_be_trained_on(train: ToyClips, validation: ToyClips | None, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        TrainingData.of_sources(train, validation, "toys")


@dataclass
class OddClips(ToyClips):
    """Clips of which the third is made otherwise."""

    change: Callable[[Any], dict[str, Any]] = dict

    def __getitem__(self, key: tuple[int, int]) -> Any:
        sample = super().__getitem__(key)
        return {**sample, **self.change(sample)} if key[1] == 2 else sample


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda clip: {"rgb": clip["rgb"] / 255},
            r"RGB as torch.float32 \(4, 3, 32, 32\), the network takes torch.uint8",
        ),
        (lambda clip: {"rgb": clip["rgb"].permute(0, 2, 3, 1)}, r"RGB as torch.uint8 \(4, 32, 32, 3\), the"),
        (
            lambda clip: {"rgb": clip["rgb"][:3]},
            r"RGB as torch.uint8 \(3, 3, 32, 32\), the .*: 4 frames of 32 x 32; have it give",
        ),
        (lambda clip: {"rgb": clip["rgb"].repeat(1, 1, 2, 2)}, r"RGB as torch.uint8 \(4, 3, 64, 64\), the"),
        (lambda clip: {"label": 3}, "label 3, but of 3 classes, from 0 on"),
    ],
)
@pytest.mark.parametrize("odd", ["train", "validation"])
def test_a_clip_that_is_not_as_the_network_takes_it_is_named(
    odd: str, change: Callable[[Any], dict[str, Any]], message: str, tmp_path: Path
) -> None:
    clips = {"train": ToyClips(4), "validation": ToyClips(4), odd: OddClips(4, change=change)}
    with pytest.raises(ModelError, match=rf"^clip 2: the dataset gives {message}"):
        train(toy_recipe(epochs=1, milestones=()), TrainingData.of_sources(**clips), tmp_path / "run")


def test_a_source_by_itself_is_told_where_it_belongs() -> None:
    with pytest.raises(ManifestError, match=r"^ToyClips: .* as TrainingData\.of_sources\(train, validation\)"):
        data_of(ToyClips(), toy_recipe(), toy_recipe())


@dataclass
class SeenClips(ToyClips):
    """Clips that say how they are seen."""

    view: View | None = None


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ({}, {"depth": False}, r"has depth=False, but the recipe toy takes depth=True; give it View\(depth=True, "),
        (
            {},
            {"num_segments": 2, "size": 64},
            "has num_segments=2, size=64, but the recipe toy takes num_segments=4, size=32",
        ),
        ({}, {"sampling": "dense"}, "has sampling='dense', but the recipe toy takes sampling='segment'"),
        ({"sampling": "dense"}, {"stride": 3}, "has stride=3, but the recipe toy takes stride=2"),
        ({}, {"stride": 3, "augment": True, "jitter": 0.1, "crop": "action"}, ""),
        ({"msd": "none"}, {"depth": True}, ""),
    ],
)
def test_views_of_sources_suit_the_recipe(recipe: dict, changes: dict, message: str) -> None:
    recipe = toy_recipe(**recipe)
    good, other = (SeenClips(view=replace(validation_view(recipe), **each)) for each in ({}, changes))
    for use, pair in (("train", (other, good)), ("validate", (good, other))):
        data = TrainingData.of_sources(*pair, "toys")
        for given in (data, lambda _, data=data: data):
            if not message:
                assert data_of(given, recipe, recipe) is data
                continue
            with pytest.raises(RecipeError, match=f"^toys: the view of the clips to {use} on {message}"):
                data_of(given, recipe, recipe)


class TestManifests:
    """What a recipe takes from a manifest, and what it says when that is not there."""

    @staticmethod
    def manifest(tmp_path: Path, *splits: str) -> Manifest:
        clips = [Clip(tmp_path / f"{k}.mp4", f"c{k % 2}", split=split, row=k + 2) for k, split in enumerate(splits)]
        return Manifest.of(clips)

    def test_splits(self, tmp_path: Path) -> None:
        manifest = self.manifest(tmp_path, "train", "val", "train", "test")
        selected = TrainingData.of_manifest(manifest, toy_recipe(msd="none"))
        assert (len(selected.train), len(selected.validation)) == (2, 1)
        both = TrainingData.of_manifest(
            manifest, toy_recipe(msd="none", train_splits=("train", "val"), validate_on=None)
        )
        assert (len(both.train), both.validation) == (3, None)
        assert selected.fingerprint != both.fingerprint

    def test_fingerprint_is_of_the_clips_not_of_where_they_lie(self, tmp_path: Path) -> None:
        prints = []
        for name in ("here", "there"):
            manifest = self.manifest(tmp_path / name, "train", "val")
            manifest = replace(manifest, path=tmp_path / name / "manifest.csv")
            prints.append(TrainingData.of_manifest(manifest, toy_recipe(msd="none")).fingerprint)
        assert prints[0] == prints[1]

    def test_fingerprint_is_of_all_that_training_depends_on(self, tmp_path: Path) -> None:
        """The frames of a clip, the order of the logits, what depth means."""
        clips = self.manifest(tmp_path, "train", "val").clips
        same = [Manifest(clips, ("c0", "c1"), DepthSpec(near="bright")) for _ in range(2)]
        others = [
            replace(same[0], clips=(replace(clips[0], start=3), clips[1])),
            replace(same[0], classes=("c1", "c0")),
            replace(same[0], depth=DepthSpec(near="dark")),
        ]
        prints = [TrainingData.of_manifest(each, toy_recipe(msd="none")).fingerprint for each in (*same, *others)]
        assert prints[0] == prints[1]
        assert len(set(prints)) == 4

    def test_nothing_to_validate_on(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="validate_on=none"):
            TrainingData.of_manifest(self.manifest(tmp_path, "train"), toy_recipe(msd="none"))

    def test_nothing_to_train_on(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match="no clips in split train"):
            TrainingData.of_manifest(self.manifest(tmp_path, "test"), toy_recipe(msd="none"))

    def test_one_class_is_nothing_to_learn(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match="c0 is its only class"):
            TrainingData.of_manifest(self.manifest(tmp_path, "train"), toy_recipe(msd="none", validate_on=None))

    def test_decoders_without_depth(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="set msd=none"):
            TrainingData.of_manifest(self.manifest(tmp_path, "train", "val"), toy_recipe())

    def test_clips_on_disk(self, tmp_path: Path) -> None:
        """Folders of images, one of them empty: trained on, the empty one left out by name."""
        import cv2

        random = np.random.default_rng(0)
        clips = []
        for k in range(5):
            folder = tmp_path / "clips" / str(k)
            folder.mkdir(parents=True)
            for t in range(6 if k != 4 else 0):
                cv2.imwrite(str(folder / f"{t:06d}.jpg"), random.integers(0, 255, (48, 64, 3), dtype=np.uint8))
            clips.append(Clip(folder, f"c{k % 2}", row=k + 2))
        recipe = toy_recipe(msd="none", validate_on=None, unreadable_share=0.5, epochs=1, milestones=())
        summary = train(recipe, Manifest.of(clips), tmp_path / "run")
        assert summary.unreadable == 1
        assert str(tmp_path / "clips" / "4") in (tmp_path / "run" / "unreadable.jsonl").read_text()
