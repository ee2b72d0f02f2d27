"""The results in docs/results are those of today's code: same runs, same numbers, and the text says what they say."""

import json
import re
import shutil
from pathlib import Path

import pytest
from power import read_differences, summary

from dynagest.reproduce.jobs import Generated
from dynagest.reproduce.plan import plan
from dynagest.reproduce.results import collect
from dynagest.reproduce.runner import Ledger
from dynagest.reproduce.scales import SCALES
from dynagest.reproduce.speed import SPEEDS_FILE, Speeds
from dynagest.reproduce.study import STUDY
from dynagest.reproduce.tables import TABLES, get_table
from dynagest.reproduce.write import as_json

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "results"
FILES = sorted(RESULTS.glob("table-*.json"))


def test_there_are_results() -> None:
    assert [path.stem for path in FILES]


@pytest.mark.parametrize("path", [path for path in FILES if path.stem != "table-masks"], ids=lambda path: path.stem)
def test_a_table_is_what_the_ledger_gives_today(path: Path, tmp_path: Path) -> None:
    kept = json.loads(path.read_text())
    table = get_table(kept["table"], TABLES | STUDY)
    table = table.only([row["name"] for row in kept["rows"]])
    seeds = 1 + max(int(seed) for row in kept["rows"] for score in row["scores"] for seed in score["by_seed"])
    shutil.copy(RESULTS / SPEEDS_FILE, tmp_path)  # a time measured here would be another budget
    made = plan(table, SCALES[kept["scale"]], {}, range(seeds), Speeds(tmp_path))
    assert all(isinstance(job.data, Generated) for job in made.jobs)
    today = json.loads(json.dumps(as_json(collect(made, Ledger(RESULTS / "ledger.jsonl").read()), kept["command"])))
    assert today == kept


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_text_has_the_tables(path: Path) -> None:
    table = path.with_suffix(".md").read_text().split("\n\n")[1]
    assert table in (DOCS / "results.md").read_text()
    figure = path.with_suffix(".png")
    assert f"](results/{figure.name})" in (DOCS / "results.md").read_text() or not figure.exists()


def test_the_text_counts_the_intervals() -> None:
    told = summary(read_differences(RESULTS), 2.0)
    assert f"> {told}" in (DOCS / "results.md").read_text()


def test_the_readme_quotes_the_table() -> None:
    rows = {row["name"]: row for row in json.loads((RESULTS / "table-decoders.json").read_text())["rows"]}
    readme = (DOCS.parent / "README.md").read_text()
    quoted = re.findall(r"^\| (TSN|TSM|ACTION-Net|TEA) \| (.+) \|$", readme, re.MULTILINE)
    assert quoted, "the README says nothing of the study"
    for network, said in quoted:
        arms = [row["scores"][0]["difference"] for name, row in rows.items() if name.startswith(f"{network}, both")]
        assert re.findall(r"[+-]\d+\.\d ± \d+\.\d", said) == [f"{arm['mean']:+.1f} ± {arm['half']:.1f}" for arm in arms]
