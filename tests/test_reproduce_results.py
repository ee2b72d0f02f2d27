"""From outcomes to a table and its figure."""

from typing import Any

import pytest
from matplotlib.figure import Figure
from reproduce_helpers import NO_SPEEDS

from dynagest.reproduce.plan import plan
from dynagest.reproduce.results import collect
from dynagest.reproduce.runner import Outcome
from dynagest.reproduce.scales import SCALES
from dynagest.reproduce.tables import TABLES
from dynagest.reproduce.write import as_json, figure, markdown

GAIN = "gain over the baseline above it"


def test_a_table_of_outcomes():
    made = plan(TABLES["IV"], SCALES["small"], {}, range(3), NO_SPEEDS)
    tops = {"TSM": (0.50, 0.60, 0.70), "TSM + MSD": (0.51, 0.62, 0.73), "TEA": (0.5, 0.5, 0.5)}
    outcomes = {}
    for cell in made.cells:
        for seed, each in cell.jobs.items():
            if cell.row.name in tops:
                top1 = tops[cell.row.name][seed]
                outcomes[each.key] = Outcome(
                    key=each.key, name="", top1=top1, clips=100, unreadable=seed, machine="here"
                )
    results = collect(made, outcomes)
    lines = {line.row.name: line.scores[0] for line in results.lines}
    difference = lines["TSM + MSD"].difference
    assert difference is not None
    assert difference.mean == pytest.approx(2.0)
    assert difference.half == pytest.approx(4.303 / 3**0.5)  # 1, 2 and 3 points
    assert lines["TEA + MSD"].mean is None
    assert not results.complete
    text = markdown(results, "the command")
    assert "| TSM + MSD | 62.0 ± 27.3 | +2.0 ± 2.5 | 93.7 | 81.9 | 23.7 M | 32.7 | 28.2 |" in text
    assert "NOT COMPLETE" in text
    assert "100 test clips a seed; up to 2 more do not count: unreadable, or without depth that is fed;" in text
    assert "THE SAME TEST CLIPS" not in text
    assert "genotype" not in text
    assert "`the command`" in text
    assert 'differences in points, paired by seed, from "TSM", "TEA", the nearest of them above;' in text
    record = as_json(results, "the command")
    assert record["rows"][1]["scores"][0]["by_seed"] == {0: 51.0, 1: 62.0, 2: 73.0}
    fewer = dict(outcomes)
    for seed in (1, 2):
        del fewer[made.cell("TSM + MSD", "generated").jobs[3 - seed].key]
        told = markdown(collect(made, fewer), "the command")
        seeds = (
            "56.5 (two seeds: 51.0 and 62.0) | +1.5 (two seeds: +1.0 and +2.0)",
            "51.0 (one seed) | +1.0 (one seed)",
        )[seed - 1]
        assert f"| TSM + MSD | {seeds} |" in told
        assert "| TSM | 60.0 ± 24.8 | " in told


def test_rows_of_other_test_clips_are_told():
    """Of data on disk, clips without depth test no network that is fed it: its accuracy is of fewer clips."""
    made = plan(TABLES["I"], SCALES["small"], {}, range(1), NO_SPEEDS)
    row = "ACTION-Net, depth alone"
    keys = {cell.jobs[0].key: 80 if cell.row.name == row else 100 for cell in made.cells}
    outcomes = {
        key: Outcome(key=key, name="", top1=0.5, clips=clips, unreadable=100 - clips) for key, clips in keys.items()
    }
    told = markdown(collect(made, outcomes), "the command")
    assert "80 to 100 test clips a seed; up to 20 more do not count" in told
    assert "NOT ALL ROWS ARE OF THE SAME TEST CLIPS" in told
    assert "NAS1's genotype is ours, not the published result of its search;" in told


def test_a_figure_has_differences_only_where_the_table_has_some(monkeypatch):
    """Table V compares no row with another: a second panel would be empty, on a scale that matplotlib made up."""
    drawn: list[Figure] = []

    class Kept(Figure):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            drawn.append(self)

    monkeypatch.setattr("matplotlib.figure.Figure", Kept)
    for name, seeds in (("V", (1,) * 6), ("IV", (3, 2, 3, 3))):
        made = plan(TABLES[name], SCALES["small"], {}, range(3), NO_SPEEDS)
        outcomes = {
            job.key: Outcome(key=job.key, name="", top1=0.7 + seed / 10)
            for cell, count in zip(made.cells, seeds, strict=True)
            for seed, job in cell.jobs.items()
            if seed < count
        }
        figure(collect(made, outcomes))
    five, four = drawn
    assert [axes.get_xlabel() for axes in five.axes] == ["accuracy in %"]
    assert [axes.get_xlabel().partition(",")[0] for axes in four.axes] == ["accuracy in %", GAIN]
    assert [(text.get_text(), text.get_position()) for text in four.axes[1].texts] == [
        ("baseline", (0, place)) for place in (0, 2)
    ]
    assert [len(axes.containers) for axes in four.axes] == [3, 1]
    labels = [[label.get_text() for label in each.axes[0].get_yticklabels()] for each in drawn]
    assert not any(", n = " in label for label in labels[0])
    assert [label.partition(", ")[2] for label in labels[1]] == ["n = 3", "n = 2", "n = 3", "n = 3"]
    accuracies = four.axes[0]
    assert [line.get_xdata().tolist() for line in accuracies.lines if line.get_linestyle() == "-"] == [[70, 80]]
    assert accuracies.get_xlim()[1] == 101, "an interval of 80 ± 25 draws no accuracies beyond 100 %"
    assert all(each.get_suptitle().endswith("; hollow: single seeds") for each in drawn)


@pytest.mark.parametrize(
    ("revisions", "told"),
    [
        (["1" * 40], "code of 1111111."),
        (["1" * 40, "2" * 40 + "+changes"], "code of 1111111, 2222222+ (+: edited since)."),
    ],
)
def test_a_mark_is_explained_only_where_it_stands(revisions: list[str], told: str) -> None:
    made = plan(TABLES["IV"], SCALES["small"], {}, range(len(revisions)), NO_SPEEDS)
    outcomes = {
        job.key: Outcome(key=job.key, name="", top1=0.5, revision=revisions[seed])
        for cell in made.cells
        for seed, job in cell.jobs.items()
    }
    assert told in markdown(collect(made, outcomes), "the command")
