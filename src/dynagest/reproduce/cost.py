"""What a job will take, for a dry run: its clips, its schedule and its multiply-adds, without running it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dynagest.clips.manifest import Manifest
from dynagest.networks.build import create_model
from dynagest.networks.count import count
from dynagest.reproduce.jobs import Generated, Job
from dynagest.testing.protocols import get_protocol
from dynagest.training.recipe import Recipe

_BACKWARD = 2  # forward passes that a backward pass takes


@dataclass(frozen=True, slots=True)
class Line:
    """A run in words. ``multiply_adds`` of the network alone, training and test."""

    data: str
    clips: int
    schedule: tuple[str, ...]
    test: str
    starts_from: str
    multiply_adds: int


def describe(job: Job, jobs: Sequence[Job]) -> Line:
    """What ``job`` is; ``jobs`` are those of the plan, among them the one that it starts from."""
    recipe, (training, testing, classes) = job.recipe, _sizes(job)
    protocol = get_protocol(job.protocol)
    stages = [*(recipe.stage(place) for place in range(len(recipe.stages))), recipe]
    passes = sum((1 + _BACKWARD) * training * stage.epochs * _cost(stage, classes, stage.size) for stage in stages)
    tested = testing * protocol.views * _cost(recipe, classes, protocol.size(recipe.size))
    return Line(
        data=job.data.name,
        clips=training,
        schedule=tuple(_schedule(stage) for stage in stages),
        test=f"{testing:,} clips, {protocol.name} ({protocol.views} views)",
        starts_from=next((each.name for each in jobs if each.key == job.after), recipe.starts_from or "scratch"),
        multiply_adds=passes + tested,
    )


def _sizes(job: Job) -> tuple[int, int, int]:
    """Clips to train on, clips to test on, classes."""
    if isinstance(job.data, Generated):
        spec = job.data.spec
        return job.data.first or spec.length("train"), spec.length("test"), len(spec.classes)
    manifest = Manifest.read(job.data.manifest)
    training = sum(clip.split in job.recipe.train_splits for clip in manifest.clips)
    return training, len(manifest.split(job.data.split)), len(manifest.classes)


def _cost(recipe: Recipe, classes: int, side: int) -> int:
    with torch.device("meta"):
        net = create_model(
            recipe.model, classes, recipe.num_segments, width=recipe.width, size=side, options=recipe.options
        )
    channels = {"rgb": 3, "rgbd": 4, "depth": 1}[recipe.inputs]
    return count(net, (1, recipe.num_segments, channels, side, side)).multiply_adds


def _schedule(recipe: Recipe) -> str:
    steps = f", lr / {1 / recipe.gamma:g} after {', '.join(map(str, recipe.milestones))}" if recipe.milestones else ""
    return (
        f"{recipe.epochs} epochs of batch {recipe.batch}, {recipe.optimiser} lr {recipe.scaled_lr(recipe.batch):g}"
        f"{steps or ', ' + recipe.schedule}, {recipe.num_segments} x {recipe.size}"
    )
