"""The folder of a run in training: prepares it, finds a run to resume in it, and keeps the network in it."""

import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import dynagest
from dynagest.atomic import write_atomically
from dynagest.card import NetworkCard
from dynagest.clips.dataset import ClipSource
from dynagest.clips.rate import stream_rate
from dynagest.errors import RunError, counted, some
from dynagest.fields import read_record
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.weights import save_network
from dynagest.run_folder import CHECKPOINT_FILE, CONTENTS, ENVIRONMENT_FILE, NETWORK_FILE, RECIPE_FILE, STAGES_FOLDER
from dynagest.task.base import Task
from dynagest.training.checkpoint import read_checkpoint
from dynagest.training.environment import Environment, code_revision
from dynagest.training.recipe import Recipe


def start_run(
    run_dir: Path, recipe: Recipe, environment: Environment, *, overwrite: bool, keep_stages: bool = False
) -> None:
    """Prepare ``run_dir`` for a new run, and write the run's recipe and environment.

    Raises ``RunError`` unless told to ``overwrite`` a run that is finished or can be resumed, or files of unknown
    origin with names that a run uses. A run that was killed before its first checkpoint has nothing to lose and is
    replaced. ``keep_stages``: the stages in the folder belong to this run. Also raises ``RunError`` if what would be
    removed holds the weights that the first stage has yet to load.
    """
    names = (name for name in CONTENTS if not (keep_stages and name == STAGES_FOLDER))
    contents = [path for name in names for path in run_dir.glob(name)]
    if not overwrite:
        _refuse_to_remove(run_dir, contents, stages=[] if keep_stages else _begun_stages(run_dir))
    if recipe.stages and not keep_stages:  # a training without stages has loaded its weights by now
        _refuse_to_lose(recipe.trainings[0].init, run_dir, contents)
    for path in contents:
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{path}: cannot be removed ({error.strerror}); name another folder for the run") from error
    write_recipe(run_dir, recipe)
    write_atomically(run_dir / ENVIRONMENT_FILE, json.dumps(asdict(environment), indent=1).encode())


def _refuse_to_remove(run_dir: Path, contents: Sequence[Path], stages: Sequence[Path]) -> None:
    """Raise ``RunError`` if a run would be lost with ``contents``, or files that may not be a run's."""
    if (run_dir / CHECKPOINT_FILE).exists():
        progress = read_checkpoint(run_dir).progress
        state = "a finished run" if progress.finished else f"a run that stopped after {counted(progress.step, 'step')}"
        resume = "" if progress.finished else "continue it with --resume, "
        raise RunError(f"{run_dir}: holds {state}; {resume}name another folder, or replace it with --overwrite")
    if stages:
        raise RunError(
            f"{run_dir}: holds a run that stopped in its stage {stages[-1].name}; continue it with --resume, name "
            "another folder, or replace it with --overwrite"
        )
    killed_early = (run_dir / RECIPE_FILE).exists() and not (run_dir / NETWORK_FILE).exists()
    if contents and not killed_early:
        found = some([path.name for path in contents])
        raise RunError(
            f"{run_dir}: holds {found}, but no run to resume; name another folder, or remove them by --overwrite"
        )


def _refuse_to_lose(init: str | None, run_dir: Path, contents: Sequence[Path]) -> None:
    """Raise ``RunError`` if the weights at ``init`` are among ``contents``."""
    if init is None:
        return
    given = Path(init).resolve()
    weights = given / NETWORK_FILE if given.is_dir() else given
    if any(weights.is_relative_to(run_dir.resolve() / path.name) for path in contents):
        raise RunError(
            f"{run_dir}: holds {weights}, which init names to start from, and would be emptied before the first stage "
            "loads it; name another folder for the run"
        )


def has_run(run_dir: Path, *, stages: bool = True) -> bool:
    """Whether the folder has a run that is finished or can be resumed; with ``stages``, also one still in a stage."""
    return (run_dir / CHECKPOINT_FILE).exists() or (stages and bool(_begun_stages(run_dir)))


def resuming(run_dir: Path) -> str:
    """The advice to go on with the run in the folder, for a message."""
    return f"go on with --resume --out {shlex.quote(str(run_dir))}"


def _begun_stages(run_dir: Path) -> list[Path]:
    """The folders of the run's stages that are finished or can be resumed, in order."""
    # By name, whatever that is: a copy that a user made of a stage is not to be lost either.
    return sorted(path.parent for path in (run_dir / STAGES_FOLDER).glob(f"*/{CHECKPOINT_FILE}"))


def read_recipe(run_dir: Path) -> Recipe:
    """Read the recipe of a run, every number resolved; that of the checkpoint if ``recipe.json`` is gone.

    Raises ``RunError`` when there is none, or it cannot be used.
    """
    path, in_checkpoint = run_dir / RECIPE_FILE, (run_dir / CHECKPOINT_FILE).exists()
    if not path.exists():
        if in_checkpoint:
            return read_checkpoint(run_dir).recipe
        raise RunError(f"{path}: is not there, so there is no run to resume; start one without --resume")
    advice = "put back a copy of it, or start the run anew with --overwrite"
    if in_checkpoint:
        advice = f"remove it, and the recipe is taken from {CHECKPOINT_FILE}"
    return read_record(Recipe, path, "a recipe that this version can resume", advice)


def write_recipe(run_dir: Path, recipe: Recipe) -> None:
    """Write the recipe into the folder of its run. Raises ``RunError`` when it cannot be written."""
    write_atomically(run_dir / RECIPE_FILE, recipe.model_dump_json(indent=1).encode())


def keep_network(run_dir: Path, task: Task, recipe: Recipe, source: ClipSource, provenance: dict[str, str]) -> None:
    """Write the network for use, and beside it the training-only parts that the task keeps.

    The network's classes and frame rate are those of ``source``, the training clips. Raises ``RunError`` when a file
    cannot be written; the previous one is then unchanged.
    """
    rate = stream_rate(source, recipe.num_segments, recipe.sampling, recipe.stride)
    card = NetworkCard(
        model=recipe.model,
        classes=source.classes,
        num_segments=recipe.num_segments,
        size=recipe.size,
        width=recipe.width,
        options=recipe.options,
        sampling=recipe.sampling,
        stride=recipe.stride,
        fps=rate.fps if rate else None,
        provenance={
            "recipe": recipe.name,
            "seed": str(recipe.seed),
            "dynagest": dynagest.__version__,
            "revision": code_revision() or "unknown",
            **({"fps": rate.origin} if rate else {}),
            **provenance,
        },
    )
    save_network(run_dir, cast(ClipNet, task.network), card)  # a task takes any network, but a recipe builds a ClipNet
    task.save_companions(run_dir)
