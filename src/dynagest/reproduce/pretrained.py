"""Sets the weights that runs without a predecessor start from, as ImageNet's on the paper's schedules."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from dynagest.errors import RecipeError
from dynagest.networks.build import build_network
from dynagest.networks.weights import load_weights
from dynagest.reproduce.jobs import Job, digest_of
from dynagest.reproduce.plan import Plan
from dynagest.run_folder import DECODERS_CARD_FILE, DECODERS_FILE, NETWORK_FILE, PARTNER_FILE


def start_from(plans: Sequence[Plan], init: Mapping[str, Path]) -> list[Plan]:
    """The plans with ``init``, which maps a model (that of the first stage, if there are stages) to a weights file.

    The key "" stands for the only model that there is. A run that starts from another run keeps that. Raises
    ``RecipeError`` for a model that no run starts with, and ``WeightsError`` for a file that does not fit, so that this
    shows before any run starts.
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
    specs = [recipe.network_spec(num_classes=2) for recipe in first if recipe.model in named]
    for spec in {repr(spec): spec for spec in specs}.values():
        load_weights(build_network(spec), named[spec.name])

    digest = cache(_digest)  # hundreds of jobs start from the same file

    def started(job: Job) -> Job:
        model = job.first_recipe.model
        if job.after is not None or model not in named:
            return job
        recipe = job.recipe.with_overrides({"init": str(named[model].resolve())})
        return job.model_copy(
            update={"recipe": recipe, "weights": digest(named[model], job.first_recipe.msd != "none")}
        )

    return [plan.changed(started) for plan in plans]


def starts_at_random(job: Job) -> bool:
    """Whether a run starts from random weights: neither from another run nor from a file."""
    return job.after is None and job.recipe.init is None


def _digest(weights: Path, decoders: bool) -> str:
    """The digest of a weights file, or of what a run takes from a run folder: the networks and, if it has some itself,
    the decoders. So other weights at one place make other jobs.
    """
    if not weights.is_dir():
        return digest_of(weights)
    names = [NETWORK_FILE, PARTNER_FILE, *([DECODERS_FILE, DECODERS_CARD_FILE] if decoders else [])]
    return digest_of(*(weights / name for name in names))
