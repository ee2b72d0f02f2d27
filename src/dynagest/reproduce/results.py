"""Turns outcomes into a table of numbers: means over seeds, paired differences, the paper's numbers, and costs."""

from collections.abc import Mapping
from dataclasses import dataclass

from dynagest.networks.count import Count, cost_of
from dynagest.reproduce.paired import Interval, interval, paired
from dynagest.reproduce.plan import Cell, Plan
from dynagest.reproduce.runner import Outcome
from dynagest.reproduce.tables import CLASSES, Row
from dynagest.training.recipes import get_recipe
from dynagest.training.recipes_systems import SYSTEMS


@dataclass(frozen=True, slots=True)
class Score:
    """A cell's accuracies in % by seed, their mean, and the paired difference from the row ``against``, in points.

    There is no difference from a row that was tested by another protocol. ``clips`` counts the scored clips of one
    seed's test, ``unreadable`` those beyond them that could not be read, or lack depth that the network is fed.
    ``minutes`` is the training time of all seeds; ``failed`` says why seeds have no accuracy.
    """

    dataset: str
    paper: float | None
    by_seed: Mapping[int, float]
    mean: Interval | None
    difference: Interval | None
    paper_difference: float | None
    clips: int
    unreadable: int
    minutes: float
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A row with its scores, one for each column, and the cost of its network at the published input."""

    row: Row
    scores: tuple[Score, ...]
    cost: Count


@dataclass(frozen=True, slots=True)
class Results:
    """A filled table. It is ``complete`` when every seed of every cell has an outcome.

    ``machines`` and ``revisions`` are those that the outcomes were computed on and by, as far as they are known.
    """

    plan: Plan
    lines: tuple[Line, ...]
    machines: tuple[str, ...]
    revisions: tuple[str, ...]
    complete: bool


def collect(plan: Plan, outcomes: Mapping[str, Outcome]) -> Results:
    """Fill a table with the outcomes so far, which are given by the jobs' keys."""
    found = {(cell.row.name, cell.dataset): _accuracies(cell, outcomes) for cell in plan.cells}
    lines = []
    for row in plan.table.rows:
        cells = [cell for cell in plan.cells if cell.row is row]
        scores = tuple(_score(cell, found, outcomes, plan) for cell in cells)
        lines.append(Line(row, scores, published_cost(row, plan.table.datasets)))
    wanted = [job.key for cell in plan.cells for job in cell.jobs.values()]
    done = [outcomes[key] for key in wanted if key in outcomes]
    machines, revisions = ({getattr(each, name) for each in done} - {""} for name in ("machine", "revision"))
    complete = all(key in outcomes for key in wanted)
    return Results(plan, tuple(lines), tuple(sorted(machines)), tuple(sorted(revisions)), complete)


def published_cost(row: Row, datasets: tuple[str, ...]) -> Count:
    """The cost of the row's network on one view of the published size, with the classes of the first dataset."""
    recipe = SYSTEMS[row.system](get_recipe("egogesture")).with_overrides(row.changes)
    return cost_of(recipe.network_spec(CLASSES[datasets[0] if datasets else "egogesture"]))


def _accuracies(cell: Cell, outcomes: Mapping[str, Outcome]) -> dict[int, float]:
    tops = {seed: outcomes[job.key].top1 for seed, job in cell.jobs.items() if job.key in outcomes}
    return {seed: 100 * top1 for seed, top1 in tops.items() if top1 is not None}


def _score(
    cell: Cell, found: Mapping[tuple[str, str], dict[int, float]], outcomes: Mapping[str, Outcome], plan: Plan
) -> Score:
    row, ours = cell.row, found[cell.row.name, cell.dataset]
    paper = row.paper.get(cell.dataset)
    difference = printed = None
    if row.against is not None:
        if cell.protocol == plan.cell(row.against, cell.dataset).protocol:
            difference = paired(ours, found[row.against, cell.dataset])
        theirs = plan.table.row(row.against).paper.get(cell.dataset)
        printed = None if paper is None or theirs is None else round(paper - theirs, 1)
    done = [outcomes[job.key] for job in cell.jobs.values() if job.key in outcomes]
    return Score(
        dataset=cell.dataset,
        paper=paper,
        by_seed=ours,
        mean=interval(list(ours.values())) if ours else None,
        difference=difference,
        paper_difference=printed,
        clips=max((outcome.clips for outcome in done), default=0),
        unreadable=max((outcome.unreadable for outcome in done), default=0),
        minutes=sum(outcome.seconds for outcome in done) / 60,
        failed=tuple(outcome.failed for outcome in done if outcome.failed),
    )
