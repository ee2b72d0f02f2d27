"""Estimates for a dry run, which runs and measures nothing: a job's clips, schedule and multiply-adds, and speeds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dynagest.clips.protocols import get_protocol
from dynagest.networks.count import cost_of
from dynagest.reproduce.jobs import Generated, Job
from dynagest.reproduce.pretrained import starts_at_random
from dynagest.reproduce.speed import KnownSpeeds, speed_key
from dynagest.testing.report import duration
from dynagest.training.batches import BatchPlan
from dynagest.training.recipe import Recipe

_BACKWARD = 2  # a backward pass costs as much as two forward passes
_RATE = 10e12  # multiply-adds per second for the printed time: a round number, to be scaled to your own GPU


@dataclass(frozen=True, slots=True)
class Estimate:
    """A run in words. ``multiply_adds`` are those of its networks, in training and test together."""

    data: str
    clips: int
    schedule: tuple[str, ...]
    test: str
    starts_from: str
    multiply_adds: int


def describe(job: Job, jobs: Sequence[Job]) -> Estimate:
    """Describe ``job``; ``jobs`` are all jobs of the plan, among them the one that it starts from."""
    recipe, classes, (training, testing) = job.recipe, job.data.num_classes, _clips(job)
    protocol = get_protocol(job.protocol)
    passes = sum(training * stage.epochs * _of_a_clip(stage, classes) for stage in recipe.trainings)
    view = cost_of(replace(recipe.network_spec(classes), size=protocol.size(recipe.size))).multiply_adds
    tested = testing * protocol.views * view
    return Estimate(
        data=job.data.name,
        clips=training,
        schedule=tuple(_schedule(stage, training) for stage in recipe.trainings),
        test=f"{testing:,} clips, {protocol.name} ({protocol.views} view{'s' if protocol.views > 1 else ''})",
        starts_from=_start(job, jobs),
        multiply_adds=passes + tested,
    )


class GuessedSpeeds(KnownSpeeds):
    """Speeds for a dry run, which measures and writes none.

    While one of two recipes has no measured speed, the multiply-adds of both stand for their seconds. ``told`` is
    called with a line when that happens first.
    """

    def both(self, recipe: Recipe, reference: Recipe, num_classes: int) -> tuple[float, float]:
        """See ``KnownSpeeds``: measured seconds, or multiply-adds."""
        known, pair = self.known(), (recipe, reference)
        if all(speed_key(each) in known for each in pair):
            ours, theirs = (known[speed_key(each)] for each in pair)
        else:
            self._tell_once("a dry run measures no speeds: epochs of the rows with a budget in time are guessed here")
            ours, theirs = (sum(_of_a_clip(each, num_classes) for each in whole.trainings) for whole in pair)
        return ours, theirs


def told(multiply_adds: int) -> str:
    """The multiply-adds as text, with the time that they take at a round rate."""
    tera = multiply_adds / 1e12
    number = f"{tera:,.0f}" if tera >= 100 else f"{tera:.3g}"
    return f"{number} T multiply-adds ({duration(multiply_adds / _RATE)} for a GPU that does 10 T a second)"


def _of_a_clip(recipe: Recipe, num_classes: int) -> int:
    """The multiply-adds of a clip in one training: two networks with the alignment of features, RGB and depth."""
    networks = 2 if recipe.task == "alignment" else 1
    return (1 + _BACKWARD) * networks * cost_of(recipe.network_spec(num_classes)).multiply_adds


def _start(job: Job, jobs: Sequence[Job]) -> str:
    first = job.first_recipe
    if not starts_at_random(job):
        return first.init or next(each.name for each in jobs if each.key == job.after)
    meant = f", NOT from {first.starts_from}: give --init {first.model}=FILE" if first.starts_from else ""
    return f"random weights{meant}"


def _clips(job: Job) -> tuple[int, int]:
    """The numbers of training clips and of test clips."""
    if isinstance(job.data, Generated):
        spec = job.data.spec
        return job.data.first or spec.length("train"), spec.length("test")
    manifest = job.data.read()
    training = sum(clip.split in job.recipe.train_splits for clip in manifest.clips)
    return training, len(manifest.split(job.data.split))


def _schedule(recipe: Recipe, clips: int) -> str:
    a_step = clips / BatchPlan(clips, recipe.batch, recipe.seed).steps_per_epoch
    steps = f", lr / {1 / recipe.gamma:g} after {', '.join(map(str, recipe.milestones))}" if recipe.milestones else ""
    return (
        f"{recipe.epochs} epochs of batch {recipe.batch}, {recipe.optimiser} lr {recipe.scaled_lr(a_step):.4g}"
        f"{steps or ', ' + recipe.schedule}, {recipe.num_segments} x {recipe.size}"
    )
