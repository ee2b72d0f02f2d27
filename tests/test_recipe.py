"""Recipes: the paper's numbers, overrides by name, errors that help, the learning rate."""

import re
from itertools import pairwise

import pytest

from dynagest.errors import RecipeError
from dynagest.training.batches import BatchPlan
from dynagest.training.recipe import Recipe
from dynagest.training.recipes import RECIPES, get_recipe
from dynagest.training.schedule import learning_rate


@pytest.mark.parametrize(
    ("name", "epochs", "milestones", "splits"),
    [
        ("egogesture", 25, (10, 15, 20), ("train", "val")),
        ("nvgesture", 80, (50, 60, 70), ("train",)),
        ("isogd", 35, (15, 25, 30), ("train",)),
    ],
)
def test_published_schedules(name: str, epochs: int, milestones: tuple[int, ...], splits: tuple[str, ...]) -> None:
    recipe = get_recipe(name)
    assert (recipe.epochs, recipe.milestones, recipe.train_splits, recipe.validate_on) == (
        epochs,
        milestones,
        splits,
        None,
    )
    assert (recipe.model, recipe.num_segments, recipe.size, recipe.width) == ("action_resnet50", 8, 224, 64)
    assert (recipe.batch, recipe.lr, recipe.momentum, recipe.weight_decay, recipe.dropout) == (16, 0.0025, 0.9, 1e-5, 0)
    assert (recipe.msd, recipe.local_weight, recipe.global_weight, recipe.binarise) == ("both", 1, 0.01, False)
    assert (recipe.jitter, recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue) == (
        0.4,
        0.8,
        0.8,
        0.8,
        0.2,
    )
    assert (recipe.sampling, recipe.crop, recipe.scales, recipe.flip_labels) == ("segment", "paper", None, None)
    assert (recipe.clip_norm, recipe.schedule, recipe.gamma) == (20, "step", 0.1)


def test_rate_is_halved_with_the_batch() -> None:
    recipe = get_recipe("egogesture")
    assert learning_rate(recipe, 0, 10, 160) == 0.0025
    assert learning_rate(recipe, 0, 20, 160) == 0.00125
    # 17 clips are two steps of 9 and 8, not 16 and a rest.
    assert learning_rate(recipe, 0, 2, 17) == pytest.approx(0.0025 * 8.5 / 16)


def test_step_schedule_by_epoch() -> None:
    recipe = get_recipe("egogesture")
    rates = [learning_rate(recipe, 100 * epoch, 100, 1600) for epoch in range(25)]
    assert rates == pytest.approx([0.0025] * 10 + [0.00025] * 5 + [0.000025] * 5 + [0.0000025] * 5)
    assert learning_rate(recipe, 999, 100, 1600) == 0.0025


def test_cosine_with_warm_up() -> None:
    recipe = Recipe(lr=1, schedule="cosine", milestones=(), epochs=3, warmup_epochs=1)
    rates = [learning_rate(recipe, step, 10, 160) for step in range(30)]
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert rates[10] == 1
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[20] == pytest.approx(0.5)
    assert 0 < rates[29] < 0.01


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("lr", "0.01", 0.01),
        ("batch", "32", 32),
        ("model", "tsm_resnet50", "tsm_resnet50"),
        ("binarise", "true", True),
        ("milestones", "3,5", (3, 5)),
        ("milestones", "", ()),
        ("scales", "[1, 0.5]", (1.0, 0.5)),
        ("train_splits", "train,val", ("train", "val")),
        ("workers", "none", None),
        ("workers", "2", 2),
        ("init", "runs/ego", "runs/ego"),
        (
            "flip_labels",
            "{swipe left: swipe right, swipe right: swipe left}",
            {"swipe left": "swipe right", "swipe right": "swipe left"},
        ),
        ("msd", "none", "none"),
    ],
)
def test_overrides_by_name(field: str, text: str, value: object) -> None:
    recipe = get_recipe("egogesture").with_overrides({"validate_on": "none", field: text})
    assert getattr(recipe, field) == value


def test_tables_vi_to_viii_are_overrides() -> None:
    recipe = get_recipe("nvgesture")
    assert recipe.with_overrides({"msd": "global", "global_weight": "0.1"}).global_weight == 0.1
    assert recipe.with_overrides({"msd": "local", "local_scale": "quarter"}).local_scale == "quarter"
    assert recipe.with_overrides({"binarise": "yes"}).threshold == 10


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epoch": "3"}, "did you mean epochs"),
        ({"learning_rate": "3"}, "no field 'learning_rate'"),
        ({"lr": "fast"}, "lr: is 'fast', but must be a number"),
        ({"batch": "0"}, "batch: is '0', but must be at least 1"),
        ({"batch": "2.5"}, "batch: is '2.5', but must be a whole number"),
        ({"num_segments": "0"}, "num_segments: is '0', but must be at least 1"),
        ({"num_segments": "1025"}, "num_segments: is '1025', but must be at most 1024"),
        ({"width": "2048"}, "width: is '2048', but must be at most 1024"),
        ({"size": "4097"}, "size: is '4097', but must be at most 4096"),
        ({"msd": "all"}, "'none', 'local', 'global' or 'both'"),
        ({"train_splits": "test"}, "test split is for testing"),
        ({"train_splits": "train,val", "validate_on": "val"}, "also trained on"),
        ({"milestones": "5,3"}, "must rise"),
        ({"warmup_epochs": "25"}, "fewer than epochs"),
        ({"lr": "nan"}, "finite"),
        ({"flip_labels": "{a: b"}, "not a list or a map"),
        ({"chained": "true"}, "set options='{online: true}' and task=msd, or chained=false"),
        ({"chained": "true", "options": "{online: true}", "task": "segmentation", "msd": "none"}, "chained: only"),
    ],
)
def test_wrong_overrides(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        get_recipe("egogesture").with_overrides(overrides)


def test_unknown_recipe() -> None:
    with pytest.raises(RecipeError, match="did you mean egogesture"):
        get_recipe("egogestures")


@pytest.mark.parametrize("name", RECIPES)
def test_json_both_ways(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.name == name
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(("clips", "epochs"), [(4, 240), (16, 120), (17, 80), (40, 48), (41, 40), (1000, 40)])
def test_webcam_looks_at_a_handful_of_clips_more_often(clips: int, epochs: int) -> None:
    """So that there are 240 steps of 8 clips, or the recipe's 40 epochs if these have more."""
    recipe = get_recipe("webcam")
    resolved = recipe.long_enough(BatchPlan(clips, recipe.batch, 0).steps_per_epoch)
    assert (resolved.epochs, resolved.fewest_steps) == (epochs, 0)
    assert resolved.long_enough(1) == resolved, "a run that is resumed has its epochs already"


def test_whoever_sets_the_epochs_gets_so_many() -> None:
    assert get_recipe("webcam").with_overrides({"epochs": "5"}).long_enough(2).epochs == 5
    both = get_recipe("webcam").with_overrides({"epochs": "5", "fewest_steps": "20"})
    assert (both.long_enough(2).epochs, both.long_enough(10).epochs) == (10, 5)
    assert get_recipe("webcam").with_overrides({"batch": "4"}).fewest_steps == 240
    assert get_recipe("demo").long_enough(1) == get_recipe("demo")


def test_differences_leave_out_what_is_about_speed() -> None:
    recipe = get_recipe("demo")
    assert recipe.differences(recipe.with_overrides({"workers": "3", "checkpoint_steps": "7"})) == []
    assert recipe.differences(recipe.with_overrides({"seed": "3"})) == ["seed: 0, 3"]


def test_the_example_of_overrides_names_a_stage_that_there_is() -> None:
    found = re.search(r"Example: ``(.+)``", Recipe.with_overrides.__doc__ or "")
    assert found is not None
    changed = eval(found[1], {"get_recipe": get_recipe})
    assert (changed.batch, changed.stages[0].changes["epochs"]) == (8, 2)


def test_fields_of_a_stage() -> None:
    recipe = get_recipe("egogesture").with_overrides(
        {"stages": "[{name: first, changes: {epochs: 3, milestones: [1]}}]"}
    )
    assert (recipe.stage(0).epochs, recipe.stage(0).milestones, recipe.stage(0).stages) == (3, (1,), ())
    changed = recipe.with_overrides({"first.epochs": "5", "first.milestones": "2,4", "batch": "4"})
    assert (changed.stage(0).epochs, changed.stage(0).milestones, changed.stage(0).batch) == (5, (2, 4), 4)
    assert changed.epochs == 25
    everywhere = changed.throughout({"epochs": 1, "milestones": ()})
    assert (everywhere.epochs, everywhere.stage(0).epochs, everywhere.stage(0).milestones) == (1, 1, ())
    assert Recipe.model_validate_json(changed.model_dump_json()) == changed
    started = recipe.with_overrides({"init": "runs/a", "stages": "[{name: a}, {name: b}]"})
    assert [started.stage(place).init for place in (0, 1)] == ["runs/a", None]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"first.epoch": "3"}, "stage first: .*did you mean epochs"),
        ({"second.epochs": "3"}, "no stage 'second'; there are first"),
        ({"stages": "[{name: a, changes: {seed: 3}}]"}, "cannot change seed"),
        ({"stages": "[{name: a}, {name: a}]"}, "same name"),
        ({"stages": "[{name: a/b}]"}, "pattern"),
        ({"task": "alignment"}, "trains no depth decoders; set msd=none"),
        ({"task": "alignment", "msd": "none", "options": "{inputs: rgbd}"}, "leave inputs out"),
    ],
)
def test_wrong_stages_and_tasks(overrides: dict[str, str], message: str) -> None:
    recipe = get_recipe("egogesture").with_overrides({"stages": "[{name: first}]"})
    with pytest.raises(RecipeError, match=message):
        recipe.with_overrides(overrides)


@pytest.mark.parametrize(
    "field",
    [
        *("epochs", "fewest_steps", "batch", "accumulate", "lr_batch", "milestones", "stride"),
        *("threads", "workers", "prefetch", "checkpoint_steps", "log_steps"),
    ],
)
def test_counts_beyond_all_use_are_refused(field: str) -> None:
    with pytest.raises(RecipeError, match=rf"{field}.*: is '1000000000000000000000', but must be at most 1\d+ "):
        get_recipe("isogd").with_overrides({field: str(10**21)})


def test_which_recipes_read_depth() -> None:
    assert get_recipe("egogesture").uses_depth
    assert not get_recipe("webcam").uses_depth
    assert get_recipe("webcam").with_overrides({"options": "{inputs: depth}"}).uses_depth
    assert get_recipe("mtut").uses_depth
    assert [get_recipe("segmentation_lstm").stage(place).uses_depth for place in (0, 1)] == [True, False]
