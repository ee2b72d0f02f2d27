"""The weights that runs without a predecessor start from: those of ImageNet, on the paper's schedules."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dynagest.errors import RecipeError
from dynagest.networks.build import create_model
from dynagest.networks.weights import load_weights
from dynagest.reproduce.jobs import Job, content
from dynagest.reproduce.plan import Plan
from dynagest.run_folder import NETWORK_FILE, PARTNER_FILE
from dynagest.training.recipe import Recipe


def start_from(plans: Sequence[Plan], init: Mapping[str, Path]) -> list[Plan]:
    """The plans with ``init``, a weights file for each model (of the first stage, where a run has several).

    "" stands for the only model that there is. A run that starts from another one keeps that. Raises ``RecipeError``
    for a model that no run starts with, ``WeightsError`` for a file that does not fit: now, not after days.
    """
    first = [job.first_recipe for plan in plans for job in plan.jobs if job.after is None]
    models = sorted({recipe.model for recipe in first})
    named = dict(init)
    if "" in named:
        if len(models) != 1:
            raise RecipeError(
                f"--init {named['']}: say for which model, as in --init {models[0]}={named['']}; the runs start with "
                f"{', '.join(models)}"
            )
        named = {models[0]: named.pop("")} | named
    for model in named:
        if model not in models:
            raise RecipeError(f"--init {model}=...: no run starts with that model; there are {', '.join(models)}")
    for recipe in {_network(recipe): recipe for recipe in first if recipe.model in named}.values():
        net = create_model(
            recipe.model, 2, recipe.num_segments, width=recipe.width, size=recipe.size, options=recipe.options
        )
        load_weights(net, named[recipe.model])
    digests = {model: _digest(path) for model, path in named.items()}
    return [_started(plan, named, digests) for plan in plans]


def random_starts(plans: Sequence[Plan]) -> list[str]:
    """A line for each model whose runs are meant to start from given weights, and do not."""
    wanting: dict[tuple[str, str], int] = {}
    for job in {job.key: job for plan in plans for job in plan.jobs}.values():
        recipe = job.first_recipe
        if starts_at_random(job) and recipe.starts_from:
            wanting[recipe.model, recipe.starts_from] = wanting.get((recipe.model, recipe.starts_from), 0) + 1
    return [
        f"{count} runs of {model} start from random weights and will end up worse: they are meant to start from "
        f"{origin}. Give them with --init {model}=FILE"
        for (model, origin), count in wanting.items()
    ]


def starts_at_random(job: Job) -> bool:
    """Whether a run starts from neither another one nor a file."""
    return job.after is None and job.recipe.init is None


def _network(recipe: Recipe) -> str:
    return repr((recipe.model, recipe.num_segments, recipe.width, recipe.size, sorted(recipe.options.items())))


def _digest(weights: Path) -> str:
    """Of a weights file, or of a run folder's: other weights at the same place make other runs."""
    return content(*(weights / name for name in (NETWORK_FILE, PARTNER_FILE))) if weights.is_dir() else content(weights)


def _started(plan: Plan, init: Mapping[str, Path], digests: Mapping[str, str]) -> Plan:
    """A run's key tells where it starts, so those that start from it follow."""
    jobs: dict[str, Job] = {}  # by their keys in the plan as it was, where a run comes before those that start from it
    for job in plan.jobs:
        changes: dict[str, object] = {}
        if job.after is not None:
            changes["after"] = jobs[job.after].key
        elif (file := init.get(job.first_recipe.model)) is not None:
            changes["recipe"] = job.recipe.with_overrides({"init": str(file.resolve())})
            changes["weights"] = digests[job.first_recipe.model]
        jobs[job.key] = job.model_copy(update=changes)
    cells = tuple(replace(cell, jobs={seed: jobs[job.key] for seed, job in cell.jobs.items()}) for cell in plan.cells)
    return replace(plan, cells=cells, jobs=tuple(jobs.values()))
