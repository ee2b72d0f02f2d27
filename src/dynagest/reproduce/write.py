"""Writes a filled table as Markdown, JSON and a figure."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dynagest.atomic import write_together
from dynagest.reproduce.departures import departures
from dynagest.reproduce.paired import Interval
from dynagest.reproduce.results import Line, Results, Score
from dynagest.reproduce.tables import DATASETS, STAND_INS


def write_results(folder: Path, results: Results, command: str) -> tuple[str, list[Path]]:
    """Write ``table-NAME.md``, ``.json`` and ``.png``, all or none. Returns the Markdown and the three paths.

    Raises ``RunError`` when they cannot be written.
    """
    stem, text = folder / f"table-{results.plan.table.name}", markdown(results, command)
    files = {
        stem.with_suffix(".md"): text.encode(),
        stem.with_suffix(".json"): (json.dumps(as_json(results, command), indent=1) + "\n").encode(),
        stem.with_suffix(".png"): figure(results),
    }
    write_together(files)
    return text, list(files)


def markdown(results: Results, command: str) -> str:
    """The table with the paper's numbers beside ours, a legend, and the command that reproduces it."""
    plan = results.plan
    head = ["system"]
    for dataset in plan.datasets:
        name = DATASETS.get(dataset, dataset)
        head += [f"{name}, paper"] if dataset in DATASETS else []
        head += [f"{name}, ours", "difference"]
    printed = plan.table.datasets and plan.datasets[0] not in DATASETS
    head += [f"paper, {DATASETS[dataset]}" for dataset in plan.table.datasets] if printed else []
    head += ["parameters", "GMAC", "legacy GFLOPs"]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for line in results.lines:
        cells = [line.row.name]
        for score in line.scores:
            cells += [_number(score.paper)] if score.dataset in DATASETS else []
            wanted = len(plan.cell(line.row.name, score.dataset).jobs)
            cells += [_mean(score, wanted), _difference(score, wanted)]
        cells += [_number(line.row.paper.get(dataset)) for dataset in plan.table.datasets] if printed else []
        cells += _cost(line)
        rows.append(cells)
    title = f"**Table {plan.table.name}.** {plan.table.title}; scale {plan.scale}."
    body = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    return f"{title}\n\n{body}\n\n{_legend(results)}\n\n`{command}`\n"


def as_json(results: Results, command: str) -> dict[str, Any]:
    """Everything in the table, with every seed's accuracy, as a JSON object."""
    return {
        "table": results.plan.table.name,
        "title": results.plan.table.title,
        "scale": results.plan.scale,
        "command": command,
        "complete": results.complete,
        "machines": list(results.machines),
        "revisions": list(results.revisions),
        "rows": [
            {
                "name": line.row.name,
                "system": line.row.system,
                "changes": dict(line.row.changes),
                "data": dict(line.row.data),
                "against": line.row.against,
                "printed": line.row.printed,
                "cost": asdict(line.cost),
                "scores": [asdict(score) for score in line.scores],
            }
            for line in results.lines
        ],
    }


def figure(results: Results) -> bytes:
    """A PNG of our means and paired differences with their intervals, beside the paper's.

    A table without differences, as Table V, has the means alone; where there are any, the rows that they are taken from
    are marked. Where rows have different numbers of seeds, n tells.
    """
    from matplotlib.figure import Figure

    lines = results.lines
    scores = [score for line in lines for score in line.scores]
    names = [
        line.row.name if len(line.scores) == 1 else f"{line.row.name} ({DATASETS[score.dataset]})"
        for line in lines
        for score in line.scores
    ]
    seeds = [len(score.by_seed) for score in scores]
    if len(set(seeds)) > 1:
        names = [f"{name}, n = {count}" for name, count in zip(names, seeds, strict=True)]
    columns = {"accuracy in %": [(score.mean, score.paper) for score in scores]}
    differences = [(score.difference, score.paper_difference) for score in scores]
    if any(ours or printed is not None for ours, printed in differences):
        columns["gain over the baseline above it,\nin points, paired by seed"] = differences
    drawn = Figure(figsize=(9.0, 1.3 + 0.34 * len(names)), layout="constrained")
    panels = drawn.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, (label, values) in zip(panels, columns.items(), strict=True):
        for place, (ours, printed) in enumerate(values):
            _point(axes, ours, place, "tab:blue")
            if printed is not None:
                axes.plot(printed, place, marker="D", color="tab:orange", fillstyle="none", linestyle="none")
        if values is differences:
            axes.axvline(0, color="0.6", linewidth=0.8)
            for place in _baselines(lines):
                over_the_line = {"bbox": {"facecolor": "w", "edgecolor": "none", "pad": 1}, "zorder": 2.2}
                axes.text(0, place, "baseline", color="0.4", fontsize=8, ha="center", va="center", **over_the_line)
        axes.set_xlabel(label)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    low, high = panels[0].get_xlim()
    panels[0].set_xlim(low, min(high, 101))  # whiskers may go beyond 100 %, accuracies do not
    told = "ours with 95 % interval over seeds"
    if any(value and value.half is None for score in scores for value in (score.mean, score.difference)):
        told += "; hollow: single seeds"
    if any(score.paper is not None for score in scores):
        told += "; diamonds as printed"
    drawn.suptitle(f"Table {results.plan.table.name}, scale {results.plan.scale}: {told}", fontsize=11)
    out = io.BytesIO()
    drawn.savefig(out, format="png", dpi=150, metadata={"Software": None})
    return out.getvalue()


def _baselines(lines: Sequence[Line]) -> list[int]:
    """The places, counted over all scores of all lines, of those that another one's difference is taken from."""
    against = {
        (line.row.against, score.dataset)
        for line in lines
        for score in line.scores
        if score.difference or score.paper_difference is not None
    }
    each = [(line.row.name, score.dataset) for line in lines for score in line.scores]
    return [place for place, cell in enumerate(each) if cell in against]


def _point(axes: Any, value: Interval | None, place: int, colour: str) -> None:
    # An interval may be narrower than its dot, so hollow dots show that there is none.
    if value is not None and value.half is None:
        places = [place] * len(value.values)
        axes.plot(value.values, places, "o-", color=colour, fillstyle="none", linewidth=0.5, markersize=5)
    elif value is not None:
        axes.errorbar(value.mean, place, xerr=value.half, fmt="o", color=colour, capsize=3, markersize=5)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _mean(score: Score, wanted: int) -> str:
    text = "-" if score.mean is None else _interval(score.mean, wanted, sign=False)
    return f"{text}, {len(score.failed)} failed" if score.failed else text


def _difference(score: Score, wanted: int) -> str:
    return "" if score.difference is None else _interval(score.difference, wanted, sign=True)


def _interval(value: Interval, wanted: int, sign: bool) -> str:
    """The mean and its interval as text, with the number of seeds if they are fewer than ``wanted``.

    One or two seeds have no interval; of two, both values are shown.
    """
    mean, *each = (f"{number:+.1f}" if sign else f"{number:.1f}" for number in (value.mean, *value.values))
    count = len(each)
    if value.half is None:
        return f"{mean} (one seed)" if count == 1 else f"{mean} (two seeds: {' and '.join(each)})"
    return f"{mean} ± {value.half:.1f}" + (f" ({count} seeds)" if count < wanted else "")


def _cost(line: Line) -> list[str]:
    flops, parameters = line.row.printed or ("", "")
    legacy = f"{line.cost.legacy_flops / 1e9:.1f}" + (f" ({flops})" if flops else "")
    size = f"{line.cost.parameters / 1e6:.1f} M" + (f" ({parameters})" if parameters else "")
    return [size, f"{line.cost.multiply_adds / 1e9:.1f}", legacy]


def _legend(results: Results) -> str:
    seeds = sorted({len(score.by_seed) for line in results.lines for score in line.scores})
    clips = sorted({score.clips for line in results.lines for score in line.scores} - {0})
    unreadable = max(score.unreadable for line in results.lines for score in line.scores)
    minutes = sum(score.minutes for line in results.lines for score in line.scores)
    parts = [
        f"Accuracy in %, mean over seeds ({_range(seeds)} a row) ± half of the 95 % interval, of which one in "
        "twenty misses",
        *_compared(results),
        f"{_range(clips)} test clips a seed" if clips else "nothing tested yet",
        *([f"up to {unreadable} more do not count: unreadable, or without depth that is fed"] if unreadable else []),
        f"{minutes / 60:.1f} hours of training on {', '.join(results.machines) or 'no machine yet'}",
        "parameters, multiply-adds and legacy GFLOPs are of one view of the published network on square input, the "
        "paper's in brackets; docs/rivals.md has those of other input",
    ]
    center = [cell.row.name for cell in results.plan.cells if cell.protocol == "center"]
    if 0 < len(center) < len(results.plan.cells):
        names = ", ".join(dict.fromkeys(center))
        parts.append(
            f"tested by 30 views as published, but by one centre view what cannot take those: {names}; "
            "no difference is taken between the two"
        )
    if "options" not in results.plan.settings:  # such as another genotype
        systems = {line.row.system for line in results.lines}
        parts += [told for system, told in STAND_INS.items() if system in systems]
    parts += [f"NOT AS PUBLISHED: {line}" for line in departures([results.plan])]
    tested = {(score.dataset, score.clips) for line in results.lines for score in line.scores if score.clips}
    if len(tested) > len({dataset for dataset, _ in tested}):
        parts.append("NOT ALL ROWS ARE OF THE SAME TEST CLIPS: one without depth tests no network that is fed depth")
    if results.revisions:
        shown = ", ".join(
            f"{revision[:7]}{'+' if revision.endswith('+changes') else ''}" for revision in results.revisions
        )
        parts.append(f"code of {shown}{' (+: edited since)' if '+' in shown else ''}")
    if not results.complete:
        parts.append("NOT COMPLETE: some runs have no outcome yet")
    return "; ".join(parts) + "."


def _compared(results: Results) -> list[str]:
    """The legend's part on what the differences are taken from; empty if there are none."""
    against = [f'"{name}"' for name in dict.fromkeys(line.row.against for line in results.lines) if name]
    which = ", the nearest of them above" if len(against) > 1 else ""
    return [f"differences in points, paired by seed, from {', '.join(against)}{which}"] if against else []


def _range(ordered: Sequence[int]) -> str:
    return str(ordered[0]) if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"
