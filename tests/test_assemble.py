"""From a recipe to the task of a run: its network, decoders, loss and precision."""

import pytest
import torch
from training_toys import assert_same, toy_recipe

from dynagest.errors import RecipeError
from dynagest.networks.build import create_model
from dynagest.task.loss import LossWeights
from dynagest.training.assemble import build_task, choose_precision

CPU = torch.device("cpu")


def test_two_arms_start_from_the_same_network() -> None:
    arms = [toy_recipe(msd=msd, local_weight=weight) for msd, weight in [("none", 1), ("both", 1), ("local", 5)]]
    states = [build_task(recipe, 3, CPU)[0].network.state_dict() for recipe in arms]
    assert_same(states[0], states[1])
    assert_same(states[0], states[2])
    other = build_task(toy_recipe(seed=1), 3, CPU)[0].network.state_dict()
    assert not torch.equal(other["base_model.conv1.weight"], states[0]["base_model.conv1.weight"])


def test_small_network_is_what_the_recipe_says() -> None:
    task, begun = build_task(toy_recipe(width=16, msd="global", global_scale="full"), 3, CPU)
    assert begun is None
    assert task.network.width == create_model("action_resnet18", 3, width=16).width
    assert [decoder.stages for _, decoder in task.decoder.parts()] == [5]
    assert not task.chained


def test_task_has_every_number_of_the_recipe() -> None:
    changes = {"local_scale": "quarter", "activation": "sigmoid", "options": {"online": True}, "chained": True}
    weights = {"class_weight": 0.5, "local_weight": 2.0, "global_weight": 3.0}
    task, _ = build_task(toy_recipe(binarise=True, threshold=51.0, **weights, **changes), 3, CPU)
    assert task.loss.weights == LossWeights(0.5, 2.0, 3.0)
    assert (task.loss.threshold, build_task(toy_recipe(), 3, CPU)[0].loss.threshold) == (0.2, None)
    assert [(part.stages, part.activation) for _, part in task.decoder.parts()] == [(0, "sigmoid"), (3, "sigmoid")]
    assert task.chained
    alone = {"model": "segmentation_lstm", "task": "segmentation", "msd": "none", "size": 64, "threshold": 51.0}
    hands, _ = build_task(toy_recipe(class_weight=0.5, mask_weight=2.0, **alone), 3, CPU)
    assert (hands.class_weight, hands.mask_weight, hands.threshold) == (0.5, 2.0, 0.2)


def test_a_module_to_align_that_is_not_there_is_told_before_an_older_run_is_replaced() -> None:
    with pytest.raises(RecipeError, match=r"align_at: .* has no module 'xyz'; there are .* and what is below them"):
        build_task(toy_recipe(task="alignment", msd="none", align_at="xyz"), 3, CPU)


def test_the_seed_decides_the_decoders_too() -> None:
    one, other = (build_task(toy_recipe(seed=seed), 3, CPU)[0].decoder.state_dict() for seed in (0, 1))
    assert not any(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("device", "fast", "chosen", "why"),
    [
        ("cpu", True, "bf16", "autodetected bf16 because the CPU computes bf16 in hardware"),
        ("cpu", False, "fp32", "autodetected fp32 because the CPU computes no bf16 in hardware"),
        ("cuda", True, "bf16", "autodetected bf16 because the GPU computes bf16 in hardware"),
        ("cuda", False, "fp32", "autodetected fp32 because the GPU computes no bf16 in hardware"),
        ("mps", False, "fp32", "autodetected fp32 because mps is not known to compute bf16 in hardware"),
    ],
)
def test_precision_and_why(device: str, fast: bool, chosen: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast})
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: fast)
    recipe, sentence = choose_precision(toy_recipe(precision="auto"), torch.device(device))
    assert (recipe.precision, sentence) == (chosen, why)
