"""``dynagest reproduce``: makes the tables of the paper and of the study, from data to a table with its figure."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from dynagest.cli.options import switch
from dynagest.errors import DynagestError, RecipeError, RunError, counted

if TYPE_CHECKING:
    from dynagest.reproduce.plan import Plan
    from dynagest.reproduce.runner import Ledger, Outcome


def register(app: typer.Typer) -> None:
    """Add the command of this file to ``app``."""
    app.command(
        epilog="Examples:\n- `dynagest reproduce IV --scale smoke`"
        "\n- `dynagest reproduce decoders --parallel 2 --hours 8`"
        "\n- `dynagest reproduce I --scale paper --data egogesture=data/ego --dry-run`"
    )(reproduce)


def reproduce(
    tables: Annotated[
        list[str],
        typer.Argument(help="I to VIII, fig5, or of the study: decoders, weights, conditions, masks, rivals."),
    ],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="[DATASET=]MANIFEST",
            help="Clips to use instead of generated ones; for the paper's schedules name the dataset. Repeatable.",
        ),
    ] = [],  # noqa: B006
    init: Annotated[
        list[str],
        typer.Option(
            metavar="[MODEL=]FILE",
            help="Weights that runs of this model start from, as ImageNet's for action_resnet50. Repeatable.",
        ),
    ] = [],  # noqa: B006
    scale: Annotated[
        str,
        typer.Option(help="smoke (minutes), small (nights on 2 cores), full (a GPU) or paper (as published)."),
    ] = "small",
    seeds: Annotated[int | None, typer.Option(min=1, help="Runs of each row. [default: 1; small: 5; full: 3]")] = None,
    rows: Annotated[
        list[str],
        typer.Option(
            metavar="PATTERN",
            help="Only the rows of this name (TSM*), and those that they are compared with. Repeatable.",
        ),
    ] = [],  # noqa: B006
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of every run's recipe; repeatable."),
    ] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Where it all goes. [default: runs/reproduce-SCALE]")] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(help="Outcomes so far, not run again; measured speeds lie beside it. [default: OUT/ledger.jsonl]"),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Runs at once; the cores are shared among them.")] = 1,
    hours: Annotated[float | None, typer.Option(min=0, help="Stop after this long; the next call goes on.")] = None,
    dry_run: Annotated[bool, switch("--dry-run", "Only print every run: data, schedule, cost or outcome.")] = False,
) -> None:
    """Fill tables of the paper or of the study: runs what is missing, resumes what was interrupted.

    Writes table-NAME.md, .json and .png. If it is killed at any moment and started again, the table is the same (on
    a CPU only with the same --parallel, or with --set threads=N: with other threads, sums round differently).
    """
    from dynagest.reproduce.cost import GuessedSpeeds
    from dynagest.reproduce.departures import departures
    from dynagest.reproduce.plan import plan
    from dynagest.reproduce.pretrained import start_from
    from dynagest.reproduce.runner import LEDGER_FILE, Ledger, missing, run_missing
    from dynagest.reproduce.scales import get_scale
    from dynagest.reproduce.speed import Speeds
    from dynagest.reproduce.study import STUDY
    from dynagest.reproduce.tables import TABLES, get_table, only_rows
    from dynagest.settings import parse_settings

    size, settings = get_scale(scale), parse_settings(set_)
    named = [get_table(name, TABLES | STUDY) for name in tables]
    chosen = only_rows(named, rows) if rows else named
    kept = {table.name for table in chosen}
    for name in [table.name for table in named if table.name not in kept]:
        print(f"table {name} has no row {' or '.join(rows)}, so it is left out")
    folder = out or Path("runs") / f"reproduce-{scale}"
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--out {folder}: is a file; name a folder")
    book = Ledger(ledger or folder / LEDGER_FILE)
    # Beside the ledger, because rows with a budget in time are the same runs by the same speeds only.
    speeds = (GuessedSpeeds if dry_run else Speeds)(book.path.parent, told=print)
    plans = [plan(table, size, _manifests(data), range(seeds or size.seeds), speeds, settings) for table in chosen]
    plans = start_from(plans, _by_name("--init", init, "one file a model"))
    jobs = [job for each in plans for job in each.jobs]
    pictured = [job for each in plans for job in each.pictured]
    if dry_run:
        todo = {job.key for job in missing(jobs, folder, book, pictured)}
        done = {key: outcome for key, outcome in book.read().items() if key not in todo}
        _print_plans(plans, done)
    for line in departures(plans):
        print(f"WARNING: {line}")
    if dry_run:
        return
    console = Console()
    wrong = run_missing(
        jobs,
        folder,
        book,
        parallel=parallel,
        seconds=None if hours is None else 3600 * hours,
        told=lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
        pictured=pictured,
    )
    for each in plans:
        _write(each, folder, book, console)
    if wrong:
        raise DynagestError("these runs failed, the others are kept:\n" + "\n".join(f"  {line}" for line in wrong))


def _manifests(data: list[str]) -> dict[str, Path]:
    """The manifest of each dataset by name, "" for the one without a name. Raises ``RecipeError`` for a missing one."""
    found = {}
    for name, path in _by_name("--data", data, "one manifest a dataset").items():
        found[name] = path / "manifest.csv" if path.is_dir() else path
        if not found[name].is_file():
            raise RecipeError(f"--data {path}: there is no {found[name]}; `dynagest data index` writes one")
    return found


def _by_name(option: str, texts: list[str], rule: str) -> dict[str, Path]:
    """The paths in ``NAME=PATH`` or ``PATH``, by name ("" without one). Raises ``RecipeError`` for one given twice."""
    found: dict[str, Path] = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator:
            name, path = "", text
        if name in found:
            raise RecipeError(f"{option} {text}: given twice; {rule}")
        found[name] = Path(path)
    return found


def _write(plan: "Plan", folder: Path, ledger: "Ledger", console: Console) -> None:
    from dynagest.reproduce.masks_table import write_masks
    from dynagest.reproduce.panels import write_panels_figure
    from dynagest.reproduce.results import collect
    from dynagest.reproduce.runner import kept_network
    from dynagest.reproduce.write import write_results

    command = shlex.join(["dynagest", *sys.argv[1:]])
    there = all(kept_network(folder, job.key) for job in plan.pictured)
    if not there:
        missing = "table" if plan.table.name == "masks" else "picture"
        console.print(f"{plan.table.name}: not all networks are here (not run yet, diverged, removed): no {missing}")
    if plan.table.name == "masks":
        if not there:
            return
        text, paths = write_masks(plan, folder, command)
    else:
        text, paths = write_results(folder, collect(plan, ledger.read()), command)
    if plan.pictured and there:
        paths += write_panels_figure(plan, folder)
    # Into a pipe or a log, rich assumes 80 columns, which would cut off half of the headers.
    console.print(Markdown(text)) if console.is_terminal else print(text)
    console.print("written: " + ", ".join(map(str, paths)), markup=False, highlight=False, soft_wrap=True)


def _print_plans(plans: Sequence["Plan"], done: Mapping[str, "Outcome"]) -> None:
    """Print each run of the plans with its cost, or its outcome if it is in ``done`` (by key); then the sums."""
    from dynagest.reproduce.cost import describe, told
    from dynagest.testing.report import duration

    costs: dict[str, int] = {}  # by key, because tables share runs

    def told_sum(keys: Sequence[str]) -> str:
        left = sum(costs[key] for key in keys if key not in done)
        over = [key for key in keys if key in done]
        seconds, cost = sum(done[key].seconds for key in over), sum(costs[key] for key in over)
        pace = f", or about {duration(left * seconds / cost)} at the pace of those done" if left and seconds else ""
        return f"{counted(len(keys), 'run')}, {len(over)} done. Those to be run are {told(left)}{pace}"

    for plan in plans:
        print(f"Table {plan.table.name}: {plan.table.title}; scale {plan.scale}\n")
        for job in plan.jobs:
            line = describe(job, plan.jobs)
            costs[job.key] = line.multiply_adds
            print(f"{plan.title(job)}, seed {job.recipe.seed}")
            print(f"    train  {line.clips:,} clips of {line.data}, from {line.starts_from}")
            for stage in line.schedule:
                print(f"           {stage}")
            print(f"    test   {line.test}")
            print(f"    done   {done[job.key]}\n" if job.key in done else f"    cost   {told(line.multiply_adds)}\n")
        print(f"{told_sum([job.key for job in plan.jobs])}\n")
    if len(plans) > 1:
        print(f"All tables together, which share runs: {told_sum(list(costs))}\n")
    print(
        "Costs are of the networks, without decoders: three forward passes for each clip of an epoch, one for each "
        "tested view. `benchmarks/full_size.py` measures what a GPU does in a second."
    )
