"""Shows what a run's depth decoders learned, and where their gradient went: ``python benchmarks/decoders.py RUN``

RUN is a run of ``dynagest reproduce`` with decoders (a folder below ``runs/reproduce-small/runs``). It prints

* how well the masks of 360 test clips match depth that the network never saw, beside three simple guesses;
* before the first step and after the last one, in each part of the network: the length of the cross-entropy's gradient,
  the length of each decoder's (weighted squared error) as a share of it, and the cosine between the class's gradient
  and the decoders' sum. These are means over batches of augmented training clips, in float32, with BatchNorm in
  training mode.
"""

import argparse
import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dynagest.card import IMAGENET_MEAN, IMAGENET_STD
from dynagest.clips.dataset import normalise
from dynagest.clips.labelled import UnreadableClip
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.weights import load_weights
from dynagest.reproduce.footage import RenderedClips
from dynagest.reproduce.jobs import Generated, Job
from dynagest.reproduce.masks import MaskScore, score_masks
from dynagest.reproduce.runner import JOB_FILE, kept_network
from dynagest.task.depth import DepthTask
from dynagest.task.saved import load_decoders
from dynagest.training.assemble import build_task
from dynagest.training.data import training_view, validation_view
from dynagest.training.recipe import Recipe

CLIPS = 360
PARTS = ("stem", "layer1", "layer2", "layer3", "layer4")
Batch = tuple[Tensor, Tensor, Tensor]
Gradient = dict[str, Tensor]


def from_its_start(job: Job, root: Path) -> Recipe:
    """The recipe of a job, with the run below ``root`` that it started from as ``init`` if there is one."""
    if job.after is None:
        return job.recipe
    before = kept_network(root, job.after)
    if before is None:
        raise SystemExit(
            f"{root}: run {job.after} is not there, which {job.name} started from; `dynagest reproduce` makes it again"
        )
    return job.recipe.with_overrides({"init": str(before)})


def read_batches(job: Job, source: RenderedClips, count: int) -> list[Batch]:
    """``count`` batches of normalised RGB, depth and labels."""
    batches = []
    for number in range(count):
        # Labels cycle with the index, so that consecutive clips cover all classes.
        samples = [source[0, number * job.recipe.batch + place] for place in range(job.recipe.batch)]
        assert not any(isinstance(sample, UnreadableClip) for sample in samples)
        rgb = normalise(torch.stack([sample["rgb"] for sample in samples]), IMAGENET_MEAN, IMAGENET_STD)
        depth = torch.stack([sample["depth"] for sample in samples])
        batches.append((rgb, depth, torch.tensor([int(sample["label"]) for sample in samples])))
    return batches


def gradients(task: DepthTask, batch: Batch) -> dict[str, Gradient]:
    """The flattened gradient of each weighted loss term, by part of the network."""
    assert task.decoder is not None
    rgb, depth, label = batch
    parts = {part: _parameters(task, part) for part in PARTS}
    every = [parameter for group in parts.values() for parameter in group]
    task.train()
    with task.decoder.attached(task.network) as taps:
        logits = task.network(rgb)
    masks = task.decoder(taps)
    weights = task.loss.weights
    terms = {"cross-entropy": weights.cross_entropy * torch.nn.functional.cross_entropy(logits, label)}
    for kind, mask in masks._asdict().items():
        if mask is not None:
            error = torch.nn.functional.mse_loss(mask, task.loss.target(depth, mask.shape[-2:]))
            terms[kind.rstrip("_")] = getattr(weights, kind) * error
    found = {}
    for name, term in terms.items():
        flat = torch.autograd.grad(term, every, retain_graph=True, allow_unused=True)
        by_parameter = dict(zip(map(id, every), flat, strict=True))
        found[name] = {
            part: torch.cat([_flat(by_parameter[id(parameter)], parameter) for parameter in group])
            for part, group in parts.items()
        }
    return found


def _parameters(task: DepthTask, part: str) -> list[torch.nn.Parameter]:
    inside = "base_model." + ("" if part == "stem" else f"{part}.")
    return [
        parameter
        for name, parameter in task.network.named_parameters()
        if name.startswith(inside) and (part != "stem" or "layer" not in name)
    ]


def _flat(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    return torch.zeros(parameter.numel()) if gradient is None else gradient.flatten()


def summarise(rounds: list[Mapping[str, Gradient]]) -> Table:
    """A table of the gradients' lengths and cosines, as means over batches."""
    kinds = [name for name in rounds[0] if name != "cross-entropy"]
    table = Table("part", "cross-entropy", *(f"{kind} / cross-entropy" for kind in kinds), "cosine")
    for part in PARTS:
        lengths = {name: statistics.mean(float(each[name][part].norm()) for each in rounds) for name in rounds[0]}
        cosines = []
        for each in rounds:
            depth = torch.stack([each[kind][part] for kind in kinds]).sum(0)
            product = float(each["cross-entropy"][part].norm() * depth.norm())
            cosines.append(float(each["cross-entropy"][part] @ depth) / product if product else math.nan)
        table.add_row(
            part,
            f"{lengths['cross-entropy']:.3g}",
            *(f"{100 * lengths[kind] / lengths['cross-entropy']:.2f} %" for kind in kinds),
            f"{statistics.mean(cosines):+.2f}",
        )
    return table


def masks(scores: list[MaskScore]) -> Table:
    """A table of each guess's error and correlation with the depth frames."""
    table = Table("mask", "guess", "mean squared error", "correlation")
    for score in scores:
        table.add_row(score.mask, score.guess, f"{score.mse:.4f}", f"{score.correlation:+.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--batches", type=int, default=8)
    arguments = parser.parse_args()
    if not (arguments.run / JOB_FILE).is_file():
        parser.error(f"{arguments.run}: is no run of `dynagest reproduce`; name a folder that holds {JOB_FILE}")
    job = Job.model_validate_json((arguments.run / JOB_FILE).read_bytes())
    if not isinstance(job.data, Generated) or job.recipe.msd == "none":
        parser.error(f"{arguments.run}: has no decoders, or was not trained on generated clips; name another run")
    root = arguments.run.resolve().parents[1]
    footage = root / "footage"
    read = partial(RenderedClips.below, footage, job.data.spec)
    console = Console()
    plainly = validation_view(job.recipe)
    train, test = (read(split, plainly, seed=0, first=CLIPS) for split in ("train", "test"))
    console.print(masks(score_masks(arguments.run, job.recipe, train, test)))
    batches = read_batches(job, read("train", training_view(job.recipe), seed=job.recipe.seed), arguments.batches)
    task, _ = build_task(from_its_start(job, root), job.data.num_classes, torch.device("cpu"))
    assert isinstance(task, DepthTask)
    console.print(f"{job.recipe.model}, {asdict(task.loss.weights)}: before the first step")
    console.print(summarise([gradients(task, batch) for batch in batches]))
    assert isinstance(task.network, ClipNet)
    load_weights(task.network, arguments.run)
    task.decoder = load_decoders(arguments.run, task.network)
    console.print("after the last")
    console.print(summarise([gradients(task, batch) for batch in batches]))


if __name__ == "__main__":
    main()
