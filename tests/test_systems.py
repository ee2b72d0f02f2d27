"""The systems of the paper's tables: their recipes, and that each trains, is saved and tested like our networks."""

from pathlib import Path

import pytest
import torch
from training_toys import CLASSES, ToyClips, toy_source

from dynagest.errors import RecipeError
from dynagest.networks.weights import load_network
from dynagest.testing.evaluate import evaluate
from dynagest.training.recipe import Recipe
from dynagest.training.recipes import PAPERS, get_recipe
from dynagest.training.recipes_systems import SYSTEMS
from dynagest.training.trainer import train

FRAMES = 12


def small(system: str) -> Recipe:
    """A system at toy size: one epoch of three steps in each stage."""
    recipe = get_recipe(system)
    sizes = {"width": 8, "size": 32, "num_segments": FRAMES, "batch": 4, "lr": 1e-3, "lr_batch": 4}
    if recipe.model == "prernn_c3d":
        sizes |= {"options": {"clip": 9}, "c3d.num_segments": 9}
    where = {"train_splits": ("train",), "validate_on": None, "workers": 0, "precision": "fp32"}
    return recipe.with_overrides(sizes | where).throughout({"epochs": 1, "milestones": ()})


@pytest.mark.parametrize("dataset", PAPERS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_recipes_have_the_schedule_of_their_data(system: str, dataset: str) -> None:
    recipe, schedule = get_recipe(f"{system}@{dataset}"), get_recipe(dataset)
    assert recipe.name == f"{system}@{dataset}"
    for field in ("epochs", "milestones", "train_splits", "validate_on", "batch", "crop", "flip_labels"):
        assert getattr(recipe, field) == getattr(schedule, field)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert recipe.width == 64


@pytest.mark.parametrize(
    ("system", "model", "frames", "size", "sampling"),
    [
        ("c3d", "c3d", 32, 112, "dense"),
        ("prernn", "prernn_c3d", 32, 112, "dense"),
        ("resc3d", "resc3d", 32, 112, "segment"),
        ("mtut", "i3d", 64, 224, "dense"),
        ("nas1", "nas1", 32, 112, "segment"),
        ("resnext101_3d", "resnext101_3d", 32, 112, "dense"),
        ("attention_lstm", "attention_lstm", 32, 112, "segment"),
        ("redundancy", "attention_lstm", 32, 112, "segment"),
        ("segmentation_lstm", "segmentation_lstm", 8, 224, "segment"),
        ("tsm-msd", "tsm_resnet50", 8, 224, "segment"),
        ("tea", "tea_res2net50", 8, 224, "segment"),
        ("action-rgbd", "action_resnet50", 8, 224, "segment"),
    ],
)
def test_published_input(system: str, model: str, frames: int, size: int, sampling: str) -> None:
    recipe = get_recipe(system)
    assert (recipe.model, recipe.num_segments, recipe.size, recipe.sampling) == (model, frames, size, sampling)
    assert sampling != "dense" or recipe.stride == 1
    assert recipe.dropout == (0.5 if system in ("c3d", "prernn", "nas1") else 0)


def test_published_training() -> None:
    mtut = get_recipe("mtut@nvgesture")
    assert (mtut.task, mtut.alignment_weight, mtut.stage(0).alignment_weight) == ("alignment", 5e-3, 0)
    assert (mtut.epochs, mtut.stage(0).epochs, mtut.align_at) == (80, 80, "features.mixed_5c")
    segmentation = get_recipe("segmentation_lstm")
    assert (segmentation.optimiser, segmentation.scaled_lr(16), segmentation.threshold) == ("adam", 1e-3, 10)
    assert [stage.name for stage in segmentation.stages] == ["mask", "lstm"]
    mask, lstm = segmentation.stage(0), segmentation.stage(1)
    assert (mask.num_segments, mask.class_weight, mask.mask_weight) == (1, 0, 1)
    assert (lstm.num_segments, lstm.class_weight, lstm.mask_weight, lstm.frozen) == (8, 1, 0, ("network.encoder",))
    assert (segmentation.class_weight, segmentation.mask_weight, segmentation.frozen) == (1, 1, ())
    assert get_recipe("prernn").stage(0).model == "c3d"
    assert get_recipe("redundancy").options == {"gated": True}
    assert get_recipe("tsm-msd@nvgesture").with_overrides({"name": "x"}) == get_recipe("nvgesture").with_overrides(
        {"model": "tsm_resnet50", "name": "x"}
    )
    assert get_recipe("tsm").msd == "none"
    assert [get_recipe(f"action-{inputs}").inputs for inputs in ("msd", "rgbd", "depth")] == ["rgb", "rgbd", "depth"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("mtutt", "did you mean mtut"), ("tsm@egogestures", "did you mean egogesture"), ("xyz@isogd", "there are c3d, ")],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        get_recipe(name)


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_each_trains_is_saved_and_tested(system: str, tmp_path: Path) -> None:
    recipe = small(system)
    train(recipe, toy_source, tmp_path)
    net, card = load_network(tmp_path)
    assert (card.model, card.num_segments, card.options, card.classes) == (
        recipe.model,
        FRAMES,
        recipe.options,
        CLASSES,
    )
    parameters = sum(parameter.numel() for parameter in net.parameters())
    result = evaluate(net, card, ToyClips(6, seed=1, frames=FRAMES))
    assert (result.summary.clips, result.unreadable) == (6, ())
    assert torch.from_numpy(result.scores).isfinite().all()
    assert 0 < parameters < 3e6
