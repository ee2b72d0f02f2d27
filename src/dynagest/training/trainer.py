"""The training run, from a recipe and clips to a run folder.

Read ``train`` first, then ``Loop.go``. The trainings that come before a recipe's own are in ``stages.py``.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from dynagest.clips.checks.check import upside_down
from dynagest.clips.dataset import ClipDataset
from dynagest.clips.manifest import Manifest
from dynagest.errors import DynagestError, RunError
from dynagest.lock import sole_writer
from dynagest.machine import torch_threads
from dynagest.run_folder import RECIPE_FILE
from dynagest.training.assemble import build_task, choose_precision
from dynagest.training.batches import BatchPlan
from dynagest.training.checkpoint import Progress, check_resumable, load_checkpoint, read_checkpoint, refuse_changes
from dynagest.training.data import DataOfRecipe, TrainingData, data_of
from dynagest.training.engine import Engine, build_accelerator, raise_together
from dynagest.training.environment import describe_environment
from dynagest.training.folder import has_run, read_recipe, resuming, start_run, write_recipe
from dynagest.training.interrupt import Interrupts
from dynagest.training.loop import Loop
from dynagest.training.recipe import Recipe
from dynagest.training.stages import check_stages, hand_over, stage_folders


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """The outcome of a run. ``best_*`` describe the kept network; they are ``None`` without validation.

    ``unreadable`` counts the clips left out in the last epoch; ``seconds`` is the time of all sittings and stages.
    """

    run_dir: Path
    epochs: int
    steps: int
    seconds: float
    best_epoch: int | None
    best_top1: float | None
    unreadable: int


def train(
    recipe: Recipe,
    data: Manifest | TrainingData | DataOfRecipe,
    run_dir: Path | str,
    *,
    init: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> TrainingSummary:
    """Train a network by ``recipe`` on ``data`` and leave everything in ``run_dir`` (docs/design.md lists the files).

    ``data`` is a manifest, or datasets as ``TrainingData.of_sources(train, validation)`` of ``dynagest.training.data``.
    The report is the command's work; in a program ``dynagest.testing.report.write_report(run_dir)`` writes it.
    ``init`` overrides ``recipe.init``. With ``resume`` the run in ``run_dir`` continues from its checkpoint and reaches
    the same weights as without the interruption (on a GPU similar ones, because some kernels add in another order each
    time); a finished run is only summarised. ``console`` shows progress; without one nothing is printed. Under
    ``accelerate launch`` or ``torchrun`` every process calls this.

    The stages of a recipe are runs of their own in ``run_dir/stages``, one after the other; each starts from everything
    that the one before it trained. If a stage needs another view of the clips than the recipe itself, ``data`` must be
    a manifest or a function from a recipe to its ``TrainingData``.

    Clips are read by processes that import the main script again (multiprocessing's ``forkserver``), so a script needs
    ``if __name__ == "__main__":`` around what it does, or ``workers=0`` in its recipe.

    Raises ``RunError`` (the folder holds another run, another process trains in it, it cannot be written, or it does
    not fit what is resumed), ``RecipeError``, ``ManifestError``, ``DepthError`` (depth.yaml is wrong), ``ModelError``,
    ``WeightsError``, ``TrainingError`` (too many clips are unreadable, a data worker died, a GPU's memory is full, a
    part of a step is too small for BatchNorm; ``DivergedError``: the loss is not finite) and ``TrainingInterrupted``
    after Ctrl-C, when the checkpoint is written.

    Example: ``train(get_recipe("demo"), Manifest.read("data"), "runs/first", console=Console())``
    """
    run_dir = Path(run_dir)
    init = init or recipe.init
    if init is not None:
        recipe = recipe.with_overrides({"init": str(Path(init).resolve())})
    accelerator = build_accelerator()
    console = console if accelerator.is_main_process else None
    with ExitStack() as exits:
        sitting = _Sitting(accelerator, run_dir, console, exits)
        if not recipe.stages:
            return sitting.train(recipe, data_of(data, recipe, recipe), run_dir, resume=resume, overwrite=overwrite)
        return _train_in_stages(sitting, recipe, data, resume=resume, overwrite=overwrite)


def _train_in_stages(
    sitting: "_Sitting",
    recipe: Recipe,
    data: Manifest | TrainingData | DataOfRecipe,
    *,
    resume: bool,
    overwrite: bool,
) -> TrainingSummary:
    """Run the stages of a recipe and then its own training, each from what the one before it left."""
    run_dir = sitting.home
    if resume:
        if not has_run(run_dir):
            raise RunError(f"{run_dir}: has no run to resume; start it without --resume")
        # A stage's checkpoint does not know the trainings that come after it, so the run's own recipe is compared.
        then, now = (choose_precision(each, sitting.accelerator.device)[0] for each in (read_recipe(run_dir), recipe))
        refuse_changes(then.differences(now), run_dir)
    recipes = recipe.trainings
    folders = [*stage_folders(run_dir, recipe), run_dir]
    sources = [data_of(data, each, recipe) for each in recipes]
    # Looked up before the first training starts, so that all processes decide alike, whatever one of them writes.
    begun = [has_run(folder, stages=False) for folder in folders]
    if not resume:
        check_stages(recipes, folders, len(sources[0].train.classes))
        sitting.claim(run_dir, recipe, sources[-1], overwrite=overwrite)
        begun = [False] * len(folders)
    seconds, before = 0.0, None
    for each, source, folder, go_on in zip(recipes, sources, folders, begun, strict=True):
        name = "" if folder == run_dir else f"stage {folder.name}, before the recipe's own training"
        summary = sitting.train(each, source, folder, resume=go_on, before=before, name=name)
        seconds, before = seconds + summary.seconds, folder
    return replace(summary, seconds=seconds)


@dataclass
class _Sitting:
    """One call of ``train``: where it computes, what it shows, and the folder to resume after an interruption.

    ``exits`` lets go of that folder, which ``hold`` keeps other processes out of.
    """

    accelerator: Accelerator
    home: Path
    console: Console | None
    exits: ExitStack
    holds: bool = False

    def hold(self) -> None:
        """Keep other trainings out of the folder, which would repeat this one's steps and lines of the log.

        All processes call this together; the main one holds the folder. Raises ``RunError`` if another is at it.
        """
        error = None
        if self.accelerator.is_main_process and not self.holds:
            try:
                self.exits.enter_context(sole_writer(self.home))
                self.holds = True
            except RunError as refused:
                error = refused
        raise_together(error)

    def claim(
        self, run_dir: Path, recipe: Recipe, data: TrainingData, *, overwrite: bool, keep_stages: bool = False
    ) -> None:
        """Prepare the folder for a new run. All processes call this together; the main one writes."""
        self.hold()
        error = None
        if self.accelerator.is_main_process:
            device, processes = str(self.accelerator.device), self.accelerator.num_processes
            with torch_threads(recipe.threads):
                place = describe_environment(data.description, recipe.seed, device, processes)
            try:
                start_run(run_dir, recipe, place, overwrite=overwrite, keep_stages=keep_stages)
            except DynagestError as refused:
                error = refused
        raise_together(error)

    def train(
        self,
        recipe: Recipe,
        data: TrainingData,
        run_dir: Path,
        *,
        resume: bool,
        overwrite: bool = False,
        before: Path | None = None,
        name: str = "",
    ) -> TrainingSummary:
        """Run one training: alone, or as a stage that starts from the stage in the folder ``before``."""
        accelerator = self.accelerator
        recipe, precision = choose_precision(recipe, accelerator.device)
        plan = BatchPlan(len(data.train), recipe.batch, recipe.seed)
        asked, recipe = recipe, recipe.long_enough(plan.steps_per_epoch)
        if plan.smallest < accelerator.num_processes:
            raise RunError(
                f"{data.description}: a batch of {plan.smallest} clips cannot be shared by {accelerator.num_processes} "
                "processes; start fewer, or set a larger batch"
            )
        progress = Progress()
        if resume:
            checkpoint = read_checkpoint(run_dir)
            check_resumable(checkpoint, recipe, data.fingerprint, run_dir)
            progress = checkpoint.progress
            if progress.finished:
                return _summary(run_dir, recipe, progress)
        starts = not resume and before is None
        task, report = build_task(recipe, len(data.train.classes), accelerator.device, load_init=starts)
        notes = [name] if name else []
        if recipe.epochs > asked.epochs:
            notes.append(
                f"{recipe.epochs} epochs instead of {asked.epochs}, so that {len(data.train)} clips make "
                f"{asked.fewest_steps} steps (--set epochs={asked.epochs} keeps to {asked.epochs})"
            )
        if report is not None:
            notes.append(f"start from {report}")
        if not resume:
            # An older run is replaced only now, when every mistake in the recipe would have shown.
            self.claim(run_dir, recipe, data, overwrite=overwrite, keep_stages=before is not None)
            if before is not None:
                notes.append(f"start from {hand_over(before, task)}")
        else:
            self.hold()
            progress = read_checkpoint(run_dir).progress  # now that nobody else moves it
            if self.accelerator.is_main_process and not (run_dir / RECIPE_FILE).exists():
                write_recipe(run_dir, recipe)  # in place of a damaged one that was removed

        devices = [accelerator.device] if accelerator.device.type == "cuda" else []
        threads = torch_threads(recipe.threads)
        with torch.random.fork_rng(devices=devices), threads, Interrupts() as interrupts:
            engine = Engine(accelerator, task, recipe)
            loop = Loop(engine, data, plan, run_dir, progress, interrupts, self.console, self.home)
            if resume:
                load_checkpoint(run_dir, task, engine.optimiser)
            try:
                with loop.display:
                    loop.note(f"precision: {precision}")
                    for note in notes:
                        loop.note(note)
                    if recipe.starts_from and recipe.init is None and starts:
                        loop.note(
                            f"WARNING: the recipe {recipe.name} is meant to start from {recipe.starts_from}, but this "
                            "run starts from random weights and will end up worse. Give them with --init (a run folder "
                            "or a weights file)",
                            loud=True,
                        )
                    if not resume and self.accelerator.is_main_process and (doubt := _doubt_of_depth(data, recipe)):
                        loop.note(f"WARNING: {doubt}, and start anew", loud=True)
                    loop.go()
            except RunError as error:
                if not has_run(self.home):  # a new run that has no checkpoint yet
                    raise
                raise RunError(f"{error}. What was saved of the run stays: then {resuming(self.home)}") from error
            finally:
                loop.close()
        return _summary(run_dir, recipe, loop.progress)


def _doubt_of_depth(data: TrainingData, recipe: Recipe) -> str | None:
    """What says that the masks would be learnt inverted. No error, because it may err with an unusual sensor."""
    if not recipe.uses_depth or not isinstance(data.train, ClipDataset):
        return None
    problem = upside_down(data.train.manifest)
    return None if problem is None else f"{problem.file}: {problem.message}"


def _summary(run_dir: Path, recipe: Recipe, progress: Progress) -> TrainingSummary:
    best = progress.best
    return TrainingSummary(
        run_dir=run_dir,
        epochs=recipe.epochs,
        steps=progress.step,
        seconds=progress.seconds,
        best_epoch=best.epoch if best else None,
        best_top1=best.top1 if best else None,
        unreadable=progress.unreadable,
    )
