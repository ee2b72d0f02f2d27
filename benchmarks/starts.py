"""Tests whether depth shortens the start of training: ``python benchmarks/starts.py runs/reproduce-small``

All networks of the study begin at chance and leave it after some epochs. A pair is a run of ``dynagest reproduce`` with
both decoders at the paper's weights (or another ``--global-weight``) and its twin without them in the same folder (same
network, clips, seed, order). For both, the table has the epochs until 25 % (``--known``) of the last 100 steps'
training clips were recognised, beside the difference in test accuracy. Below it is the correlation of the two
differences over all pairs. Pairs of a seed share their clips, so they are averaged before an interval over seeds is
taken. A pair in which one run never reached that share has no difference and is named below the table. Runs with
another depth sensor than the scale's own are left out, because they share the plain run of that sensor, and no run is
to count twice.
"""

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dynagest.reproduce.jobs import Generated, Job
from dynagest.reproduce.paired import Interval, interval, paired
from dynagest.reproduce.runner import JOB_FILE, LEDGER_FILE, Ledger
from dynagest.reproduce.scales import SCALES
from dynagest.training.log import read_log
from dynagest.training.recipe import Recipe

PAPERS = 0.01  # the global decoder's weight in the paper
WINDOW = 10  # lines of the log, 10 steps each


@dataclass(frozen=True)
class Run:
    """A run's ``start`` in epochs, and its ``top1`` in [0, 1] on the test clips."""

    start: float
    top1: float


def start(folder: Path, known: float) -> float | None:
    """The epoch at which the share ``known`` of the last ``WINDOW`` log lines' clips was recognised; None if never."""
    lines = [line for line in read_log(folder) if line["event"] == "train"]
    for last in range(WINDOW, len(lines) + 1):
        if statistics.mean(line["top1"] for line in lines[last - WINDOW : last]) >= known:
            return float(lines[last - 1]["epoch"])
    return None


def described(job: Job, data: Generated) -> str:
    """A name for the network and whatever is special about its clips."""
    usual = SCALES["small"].spec
    assert usual is not None
    special = [f"clutter {data.spec.clutter}"] if data.spec.clutter != usual.clutter else []
    clips = [f"{data.first} clips"] if data.first else []
    before = ["trained before"] if job.after else []
    network = job.recipe.model.partition("_")[0].upper()
    return ", ".join([network, *clips, f"{job.recipe.epochs} epochs", *special, *before])


def read_pairs(
    root: Path, known: float, global_weight: float
) -> tuple[dict[str, dict[int, tuple[Run, Run]]], list[str]]:
    """The pairs (run without decoders, run with both) by description and seed, and a line for each incomplete pair."""
    ledger, runs, never = Ledger(root / LEDGER_FILE).read(), {}, []
    for path in sorted(root.glob(f"runs/*/{JOB_FILE}")):
        job = Job.model_validate_json(path.read_bytes())
        top1 = ledger[job.key].top1 if job.key in ledger else None
        if top1 is not None:
            found = start(path.parent, known)
            runs[job.key] = (job, None if found is None else Run(found, top1))
    plain = {"msd": "none", "local_weight": 1.0, "global_weight": PAPERS}
    pairs: dict[str, dict[int, tuple[Run, Run]]] = {}
    firsts: dict[str, Recipe] = {}
    for job, both in runs.values():
        recipe = job.recipe
        twin = job.model_copy(update={"recipe": recipe.model_copy(update=plain)})
        as_asked = (recipe.local_weight, recipe.global_weight, recipe.inputs) == (1.0, global_weight, "rgb")
        if recipe.msd == "both" and as_asked and isinstance(job.data, Generated) and twin.key in runs:
            first = firsts.setdefault(described(job, job.data), recipe)
            others = recipe.differences(first.with_overrides({"seed": recipe.seed}))  # by --set, so not to be mixed
            name, none = ", ".join([described(job, job.data), *others]), runs[twin.key][1]
            if none and both:
                pairs.setdefault(name, {})[recipe.seed] = (none, both)
            else:
                arms = " and ".join(arm for arm, run in (("none", none), ("both", both)) if not run)
                never.append(f"{name}, seed {recipe.seed}: {arms}")
    return pairs, never


def shown(value: Interval | None, factor: float = 1.0) -> str:
    """The mean and half the width of its interval as text, times ``factor``."""
    assert value is not None
    return f"{factor * value.mean:+.1f}" + (f" ± {factor * value.half:.1f}" if value.half is not None else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--known", type=float, default=0.25)
    parser.add_argument("--global-weight", type=float, default=PAPERS)
    arguments = parser.parse_args()
    pairs, never = read_pairs(arguments.root, arguments.known, arguments.global_weight)
    if not pairs and not never:
        raise SystemExit(f"{arguments.root}: no run with both decoders has a twin without them here")
    table = Table("network, clips", "seeds", "start, none", "start, both", "difference, epochs", "accuracy, points")
    every: dict[int, list[tuple[float, float]]] = {}
    for name, seeds in pairs.items():
        none, both = ({seed: pair[arm] for seed, pair in seeds.items()} for arm in (0, 1))
        starts = paired({s: run.start for s, run in both.items()}, {s: run.start for s, run in none.items()})
        points = paired({s: run.top1 for s, run in both.items()}, {s: run.top1 for s, run in none.items()})
        means = [f"{statistics.mean(run.start for run in arm.values()):.1f}" for arm in (none, both)]
        table.add_row(name, str(len(seeds)), *means, shown(starts), shown(points, 100))
        # Relative to the plain run's start, so that long and short trainings can be compared.
        for seed in seeds:
            relative = (both[seed].start - none[seed].start) / none[seed].start
            every.setdefault(seed, []).append((relative, both[seed].top1 - none[seed].top1))
    Console().print(table)
    for line in never:
        print(f"never came to {arguments.known:.0%}, so left out: {line}")
    if every:
        relatives, gained = zip(*(pair for pairs_of_seed in every.values() for pair in pairs_of_seed), strict=True)
        of_seeds = [statistics.mean(relative for relative, _ in pairs_of_seed) for pairs_of_seed in every.values()]
        earlier = sum(value < 0 for value in relatives)
        print(f"{len(relatives)} pairs of {len(every)} seeds: the start differs by {shown(interval(of_seeds), 100)} %,")
        print(f"is earlier in {earlier}")
        if len(relatives) > 2:
            together = statistics.correlation(relatives, gained)
            print(f"its correlation with the difference in accuracy: {together:+.2f}")


if __name__ == "__main__":
    main()
