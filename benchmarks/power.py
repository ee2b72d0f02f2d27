"""Tells what the study's intervals can bear: ``python benchmarks/power.py docs/results``

Reads the tables ``table-*.json`` that ``dynagest reproduce`` wrote into a folder and takes each paired difference with
an interval once: tables share rows, and of the same pair the one with most seeds counts. For each it prints the p-value
of Student's t, and how many seeds would make its interval narrower than ``--width`` points from end to end if they
scattered as those so far. Below are how many differences leave out zero, with and without Bonferroni's correction for
their number, and what the seeds that lack would take, at the time that a row's runs took so far.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import stdev

from rich.console import Console
from rich.table import Table
from scipy.stats import ttest_1samp

from dynagest.errors import counted
from dynagest.reproduce.paired import t95


@dataclass(frozen=True)
class Arm:
    """The runs of a row: accuracies in % by seed, and minutes of training of one run."""

    system: str
    by_seed: dict[str, float]
    minutes: float

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for the same runs in two tables, of which one may have more seeds."""
        return self.system, *(self.by_seed[seed] for seed in sorted(self.by_seed, key=int)[:3])


@dataclass(frozen=True)
class Difference:
    """``ours`` minus ``theirs`` in points: ``values`` by seed, their ``mean``, and ``half`` of the interval's width."""

    name: str
    ours: Arm
    theirs: Arm
    mean: float
    half: float
    values: tuple[float, ...]

    @property
    def p(self) -> float:
        """The two-sided p-value of no difference."""
        return float(ttest_1samp(self.values, 0).pvalue) if any(self.values) else 1.0

    def seeds_for(self, width: float) -> int:
        """The least number of seeds whose interval would be narrower than ``width`` if they scattered as these do."""
        spread = stdev(self.values)
        return next(seeds for seeds in count(3) if 2 * t95(seeds - 1) * spread < width * seeds**0.5)


def read_differences(folder: Path) -> list[Difference]:
    """The differences with an interval in the tables of a folder, each once."""
    most: dict[frozenset[object], Difference] = {}
    for path in sorted(set(folder.glob("table-*.json")) - {folder / "table-masks.json"}):  # that one has no pairs
        for each in _differences(json.loads(path.read_text())):
            key = frozenset((each.ours.identity, each.theirs.identity))  # a table may have them the other way round
            if key not in most or len(each.values) > len(most[key].values):
                most[key] = each
    return list(most.values())


def _differences(table: dict) -> Iterator[Difference]:
    rows = {row["name"]: row for row in table["rows"]}
    for name, row in rows.items():
        for at, score in enumerate(row["scores"]):
            found = score.get("difference")
            if found and found["half"] is not None:
                theirs = rows[row["against"]]
                yield Difference(
                    f"{table['table']}: {name} - {theirs['name']}",
                    _arm(row, at),
                    _arm(theirs, at),
                    found["mean"],
                    found["half"],
                    tuple(found["values"]),
                )


def _arm(row: dict, at: int) -> Arm:
    score = row["scores"][at]
    return Arm(row["system"], score["by_seed"], score["minutes"] / len(score["by_seed"]))


def hours_left(differences: list[Difference], width: float) -> float:
    """Hours of training until every interval is narrower than ``width``. Runs that rows share are counted once."""
    left: dict[object, float] = {}
    for each in differences:
        for arm in (each.ours, each.theirs):
            minutes = max(each.seeds_for(width) - len(arm.by_seed), 0) * arm.minutes
            left[arm.identity] = max(left.get(arm.identity, 0.0), minutes)
    return sum(left.values()) / 60


def summary(differences: list[Difference], width: float) -> str:
    """The counts and the hours in words."""
    told = sum(abs(each.mean) > each.half for each in differences)
    corrected = sum(each.p * len(differences) < 0.05 for each in differences)
    wide = [each for each in differences if 2 * each.half >= width]
    return (
        f"{counted(len(differences), 'difference')}: zero lies outside of {told}, after Bonferroni's correction "
        f"outside of {corrected}. {counted(len(wide), 'interval', 'is', 'are')} not narrower than {width:g} points; "
        f"more seeds until all are would take {hours_left(wide, width):,.0f} hours."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with table-*.json, as --out of dynagest reproduce")
    parser.add_argument("--width", type=float, default=2.0, help="of the 95 %% intervals, in points from end to end")
    options = parser.parse_args()
    differences = read_differences(options.folder)
    if not differences:
        parser.error(f"{options.folder}: no table-*.json with a difference over three seeds or more")
    table = Table("difference", "points", "seeds", "p", "seeds needed")
    for each in sorted(differences, key=lambda each: each.p):
        shown = f"{each.mean:+.1f} ± {each.half:.1f}"
        table.add_row(each.name, shown, str(len(each.values)), f"{each.p:.2g}", str(each.seeds_for(options.width)))
    console = Console()
    console.print(table)
    console.print(summary(differences, options.width), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
