"""The paper's tables as data, and the jobs that they become."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_helpers import run
from reproduce_helpers import NO_SPEEDS
from training_toys import toy_recipe

from dynagest.errors import RecipeError, RunError
from dynagest.networks.count import cost_of
from dynagest.reproduce.cost import GuessedSpeeds, describe, told
from dynagest.reproduce.jobs import Generated, Job
from dynagest.reproduce.plan import plan
from dynagest.reproduce.results import published_cost
from dynagest.reproduce.runner import Ledger, Outcome
from dynagest.reproduce.scales import SCALES
from dynagest.reproduce.speed import Speeds, _measure, speed_key
from dynagest.reproduce.study import STUDY
from dynagest.reproduce.tables import TABLES, get_table, only_rows
from dynagest.synth.spec import SENSOR
from dynagest.task.base import TaskOutput
from dynagest.task.depth import DepthTask
from dynagest.testing.report import duration
from dynagest.training.recipe import Recipe
from dynagest.training.recipes import get_recipe
from dynagest.training.recipes_systems import SYSTEMS


def printed(table: str, dataset: str) -> dict[str, float]:
    return {row.name: row.paper[dataset] for row in TABLES[table].rows if dataset in row.paper}


def test_the_printed_numbers():
    assert printed("I", "egogesture") == {
        **{"C3D": 90.6, "MTUT": 92.5, "NAS1": 93.3, "3D ResNeXt-101": 93.7, "TSM": 92.1, "TEA": 92.3},
        **{"ACTION-Net": 94.2, "ACTION-Net + MSD": 94.5},
    }
    assert printed("II", "nvgesture") == {
        **{"C3D": 69.3, "PreRNN": 76.5, "MTUT": 81.3, "NAS1": 83.6, "3D ResNeXt-101": 78.6, "TSM": 80.2, "TEA": 80.5},
        **{"ACTION-Net": 80.7, "ACTION-Net + MSD": 84.0},
    }
    assert printed("III", "isogd") == {
        **{"C3D": 40.2, "ResC3D": 45.1, "NAS1": 58.9, "3D ResNeXt-101": 52.1, "attentionLSTM": 56.0},
        **{"Redundancy + AttentionLSTM": 57.4, "TSM": 64.1, "TEA": 64.5, "ACTION-Net": 65.0, "ACTION-Net + MSD": 66.9},
    }
    assert list(printed("IV", "nvgesture").values()) == [80.2, 81.9, 80.5, 82.2]
    assert list(printed("V", "egogesture").values()) == [92.5, 55.4, 81.4, 88.4, 93.3, 94.5]
    assert list(printed("IV", "egogesture").values()) == [92.1, 93.7, 92.3, 94.2]
    assert list(printed("VI", "egogesture").values()) == [94.2, 94.3, 94.4, 94.1, 94.2, 94.3, 94.5]
    assert list(printed("VI", "nvgesture").values()) == [80.7, 81.1, 82.3, 80.3, 80.5, 82.4, 84.0]
    assert list(printed("VII", "egogesture").values()) == [94.2, 93.8, 94.4, 94.0, 94.3]
    assert list(printed("VII", "nvgesture").values()) == [80.7, 77.8, 82.3, 82.4, 82.4]
    assert list(printed("VIII", "egogesture").values()) == [94.2, 94.5, 94.5]
    assert list(printed("VIII", "nvgesture").values()) == [80.7, 84.0, 84.0]
    assert list(printed("VIII", "isogd").values()) == [65.0, 66.9, 65.4]


def test_the_printed_costs():
    rows = {row.name: row.printed for name in ("I", "II", "III") for row in TABLES[name].rows if row.printed}
    assert rows == {
        **{"C3D": ("71.7", "65.6M"), "PreRNN": ("71.7", "65.6M"), "ResC3D": ("77.9", "38.4M")},
        **{"MTUT": ("88.2", "12.7M"), "3D ResNeXt-101": ("13.9", "47.7M")},
        **dict.fromkeys(("attentionLSTM", "Redundancy + AttentionLSTM"), ("48.7", "20.7M")),
        **{"TSM": ("28.2", "23.7M"), "TEA": ("31.1", "24.3M")},
        **dict.fromkeys(("ACTION-Net", "ACTION-Net + MSD"), ("29.8", "27.9M")),
    }


def test_rows_are_trained_as_they_are_named():
    """Weights, scales and targets of Tables VI to VIII: what a row says is what its recipe has."""

    def trained(table: str, *fields: str) -> dict[str, tuple[object, ...]]:
        made = plan(TABLES[table], SCALES["small"], {}, range(1), NO_SPEEDS)
        return {cell.row.name: tuple(getattr(cell.jobs[0].recipe, each) for each in fields) for cell in made.cells}

    ratios = trained("VI", "msd", "local_weight", "global_weight")
    assert ratios.pop("none")[0] == "none"
    assert {name: (msd, local if msd == "local" else global_) for name, (msd, local, global_) in ratios.items()} == {
        **{"local 1:0.1": ("local", 0.1), "local 1:1": ("local", 1.0)},
        **{"global 1:1": ("global", 1.0), "global 1:0.1": ("global", 0.1), "global 1:0.01": ("global", 0.01)},
        "local 1:1, global 1:0.01": ("both", 0.01),
    }
    assert ratios["local 1:1, global 1:0.01"] == ("both", 1.0, 0.01)
    scales = trained("VII", "msd", "local_scale", "global_scale")
    assert [scales[name] for name in ("local, quarter", "local, full", "global, full", "global, quarter")] == [
        ("local", "quarter", "quarter"),
        ("local", "full", "quarter"),
        ("global", "full", "full"),
        ("global", "full", "quarter"),
    ]
    assert trained("VIII", "msd", "binarise", "threshold") == {
        **{"without MSD": ("none", False, 10), "raw depth": ("both", False, 10), "binarised": ("both", True, 10)},
    }


def test_every_row_is_compared_with_a_row_of_its_table():
    for table in (TABLES | STUDY).values():
        names = [row.name for row in table.rows]
        assert len(set(names)) == len(names), table.name
        assert all(row.against in names for row in table.rows if row.against), table.name
        assert all(row.system in SYSTEMS for row in table.rows), table.name
        plain = None  # the legend says: the nearest above
        for row in table.rows:
            assert row.against in (None, plain), row.name
            plain = plain if row.against else row.name


@pytest.mark.parametrize(
    ("system", "parameters", "legacy"),
    [("tsm", 23.678, 28.200), ("action", 27.896, 29.803), ("tea", 24.270, 31.084), ("c3d", 65.584, 71.703)],
)
def test_costs_are_those_of_the_published_network(system, parameters, legacy):
    row = next(row for row in TABLES["I"].rows if row.system == system)
    cost = published_cost(row, ("egogesture",))
    assert round(cost.parameters / 1e6, 3) == parameters
    assert round(cost.legacy_flops / 1e9, 3) == legacy


@pytest.mark.parametrize("name", [*TABLES, *STUDY])
@pytest.mark.parametrize("scale", ["smoke", "small", "full"])
def test_rows_of_a_seed_share_clips_initialisation_and_order(name, scale):
    made = plan(get_table(name, TABLES | STUDY), SCALES[scale], {}, range(2), NO_SPEEDS)
    for cell in made.cells:
        if cell.row.against is None:
            continue
        other = next(each for each in made.cells if each.row.name == cell.row.against)
        for seed, job in cell.jobs.items():
            theirs = other.jobs[seed]
            assert isinstance(job.data, Generated)
            assert isinstance(theirs.data, Generated)
            assert job.data.first == theirs.data.first
            assert job.data.spec.model_dump(exclude=SENSOR) == theirs.data.spec.model_dump(exclude=SENSOR)
            assert job.recipe.seed == theirs.recipe.seed == seed
            if cell.row.budget == "clips":
                stages = [job.recipe.stage(place).epochs for place in range(len(job.recipe.stages))]
                assert job.recipe.epochs + sum(stages) == max(theirs.recipe.epochs, 1 + len(stages))


def test_a_budget_in_time_becomes_epochs():
    made = plan(STUDY["rivals"], SCALES["small"], {}, range(1), NO_SPEEDS)
    epochs = {cell.row.name: cell.jobs[0].recipe.epochs for cell in made.cells}
    assert epochs["ACTION-Net + MSD"] == epochs["TSM, same time"] == 20
    # Twice the frames take twice as long, say these speeds.
    assert (epochs["C3D, same clips"], epochs["C3D, same time"]) == (20, 10)
    # Each of several stages has these epochs, a quarter of them as warm-up, as a network of one stage would.
    staged = next(cell for cell in made.cells if cell.row.name == "Segmentation+LSTM, same time").jobs[0].recipe
    assert {(each.epochs, each.warmup_epochs) for each in staged.trainings} == {(20, 5)}


def test_speeds_are_measured_once_for_each_kind_of_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stage counts along. What does not change the time of a step is not measured again."""
    measured: list[str] = []

    def measure(recipe: Recipe, num_classes: int) -> float:
        measured.append(recipe.model)
        return 0.25

    monkeypatch.setattr("dynagest.reproduce.speed._measure", measure)
    recipe = SCALES["small"].shrink(SYSTEMS["tsm"](get_recipe("egogesture")), "tsm")
    assert Speeds(tmp_path).seconds_per_clip(recipe, 18) == 0.25
    again = recipe.with_overrides({"seed": 7, "epochs": 30, "lr": 0.5})
    assert Speeds(tmp_path).seconds_per_clip(again, 18) == 0.25, "kept on disk"
    assert measured == [recipe.model]
    changes = {"model": "tsn_resnet18", "width": 8, "num_segments": 4, "size": 64, "batch": 4, "precision": "fp32"}
    for place, (field, value) in enumerate((changes | {"msd": "both"}).items(), start=2):
        assert getattr(recipe, field) != value
        Speeds(tmp_path).seconds_per_clip(recipe.with_overrides({field: value}), 18)
        assert len(measured) == place, field
    taught, before = recipe.with_overrides({"msd": "both"}), len(measured)
    assert Speeds(tmp_path).seconds_per_clip(taught, 18) == 0.25, "known already"
    for place, (field, value) in enumerate(
        {"local_scale": "quarter", "global_scale": "full", "accumulate": 2, "threads": 3}.items(), start=1
    ):
        Speeds(tmp_path).seconds_per_clip(taught.with_overrides({field: value}), 18)
        assert len(measured) == before + place, field
    two = SCALES["small"].shrink(SYSTEMS["prernn"](get_recipe("egogesture")), "prernn")
    assert Speeds(tmp_path).seconds_per_clip(two, 18) == 0.25 * len(two.trainings) == 0.5


def test_why_speeds_are_measured_is_told_once_and_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines: list[str] = []

    def measure(recipe: Recipe, num_classes: int) -> float:
        lines.append("a measurement")
        return 0.25

    monkeypatch.setattr("dynagest.reproduce.speed._measure", measure)
    recipe, speeds = get_recipe("demo").with_overrides({"stages": []}), Speeds(tmp_path, lines.append)
    for width in (16, 24, 16):
        speeds.seconds_per_clip(recipe.with_overrides({"width": width}), 18)
    kept = f"measured 250 ms a clip to train {recipe.model}: kept in {tmp_path / 'speeds.json'}"
    assert lines[0].startswith("some runs are to take as long as others: their epochs follow from")
    assert lines[1:] == ["a measurement", kept] * 2


def test_a_speed_is_the_median_step_without_the_first_for_one_clip(monkeypatch: pytest.MonkeyPatch):
    times = iter([0.0, 50.0, 60.0, 61.0, 70.0, 73.0, 80.0, 82.0, 90.0, 99.0])  # steps of 50, 1, 3, 2 and 9 seconds
    monkeypatch.setattr("dynagest.reproduce.speed.time.perf_counter", lambda: next(times))
    assert _measure(toy_recipe(batch=2), 3) == 2.5 / 2


def test_a_step_is_measured_as_it_is_trained(monkeypatch: pytest.MonkeyPatch):
    """By the precision that training would choose, and with no more clips at once and threads than training has."""
    steps: list[tuple[int, bool, int]] = []
    forward = DepthTask.forward

    def stepped(task: DepthTask, rgb: torch.Tensor, *arguments: Any) -> TaskOutput:
        steps.append((len(rgb), torch.is_autocast_enabled("cpu"), torch.get_num_threads()))
        return forward(task, rgb, *arguments)

    monkeypatch.setattr(DepthTask, "forward", stepped)
    monkeypatch.setattr("dynagest.reproduce.speed.torch.cuda.is_available", lambda: False)
    for fast in (True, False):
        monkeypatch.setattr("dynagest.training.assemble.fast_bf16", lambda fast=fast: fast)
        _measure(toy_recipe(batch=6, accumulate=3, precision="auto", threads=3), 3)
        assert set(steps) == {(2, fast, 3)}
        steps.clear()


@pytest.mark.parametrize("speeds", ['{"a": 0}', '{"a": -1.5}', '{"a": NaN}', '{"a": "fast"}', "[1]", "{"])
def test_damaged_speeds_are_refused(tmp_path: Path, speeds: str):
    (tmp_path / "speeds.json").write_text(speeds)
    with pytest.raises(RunError, match=r"speeds.json: no measured speeds \(.+\); remove it to have them measured anew"):
        Speeds(tmp_path).known()


def test_some_rows_of_a_table_come_with_what_they_are_compared_with():
    decoders = STUDY["decoders"].only(["TSM, l*", "TSN, none"])
    assert [row.name for row in decoders.rows] == ["TSN, none", "TSM, none", "TSM, local"]
    made = plan(decoders, SCALES["small"], {}, range(2), NO_SPEEDS)
    whole = plan(STUDY["decoders"], SCALES["small"], {}, range(2), NO_SPEEDS)
    assert {job.key for job in made.jobs} < {job.key for job in whole.jobs}
    with pytest.raises(RecipeError, match=r"no row 'tsm\*' in table decoders;.*\n  TSN, none\n"):
        only_rows([STUDY["decoders"]], ["TSN*", "tsm*"])


def test_of_several_tables_one_need_have_the_row(tmp_path: Path):
    chosen = only_rows([TABLES["IV"], TABLES["V"], TABLES["I"]], ["TSM*", "C3D"])
    names = {table.name: [row.name for row in table.rows] for table in chosen}
    assert names == {"IV": ["TSM", "TSM + MSD"], "I": ["C3D", "TSM"]}
    with pytest.raises(RecipeError, match=r"no row 'tsm' in table IV or V;.*\n  TSM\n(.*\n)*  MTUT, 64 frames\n"):
        only_rows([TABLES["IV"], TABLES["V"]], ["TSM", "tsm"])
    code, output = run("reproduce", "IV", "V", "--rows", "TSM*", "--scale", "smoke", "--dry-run", f"--out={tmp_path}")
    assert code == 0, output
    assert output.startswith("table V has no row TSM*, so it is left out\nTable IV: ")
    assert "Table V" not in output


def test_a_dry_run_tells_which_runs_are_done(tmp_path: Path):
    done, left = plan(TABLES["IV"].only(["TSM*"]), SCALES["smoke"], {}, range(1), NO_SPEEDS).jobs
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.add(Outcome(key=done.key, name=done.name, top1=0.875, clips=8, unreadable=1, seconds=90))
    code, output = run("reproduce", "IV", "--rows=TSM*", "--scale=smoke", "--dry-run", f"--out={tmp_path}")
    assert code == 0, output
    more = "1 more could not be read, or lack depth that is fed: see `dynagest data check`"
    assert f"    done   87.5 % of 8 clips, 1.5 min; {more}\n" in output
    ours, theirs = (describe(job, (done, left)).multiply_adds for job in (left, done))
    assert f"    cost   {told(ours)}\n" in output
    time = duration(90 * ours / theirs)
    assert f"2 runs, 1 done. Those to be run are {told(ours)}, or about {time} at the pace of those done\n" in output


def test_a_dry_run_counts_what_tables_share_once(tmp_path: Path):
    made = [plan(TABLES[name], SCALES["smoke"], {}, range(1), NO_SPEEDS) for name in ("VI", "VIII")]
    jobs = {job.key: job for each in made for job in each.jobs}
    code, output = run("reproduce", "VI", "VIII", "--scale=smoke", "--dry-run", f"--out={tmp_path}")
    assert code == 0, output
    assert (len(made[0].jobs), len(made[1].jobs), len(jobs)) == (7, 3, 8)
    cost = told(sum(describe(job, list(jobs.values())).multiply_adds for job in jobs.values()))
    assert f"All tables together, which share runs: 8 runs, 0 done. Those to be run are {cost}\n" in output


def test_a_dry_run_measures_no_speeds_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Epochs come from multiply-adds until both speeds are known."""
    measured: list[Recipe] = []
    monkeypatch.setattr("dynagest.reproduce.speed._measure", lambda recipe, classes: measured.append(recipe))
    out = tmp_path / "out"
    ask = ("reproduce", "rivals", "--rows=TSM, same time", "--rows=MTUT, same time", "--scale=small", "--seeds=1")
    code, output = run(*ask, "--dry-run", f"--out={out}")
    assert code == 0, output
    assert (measured, out.exists()) == ([], False)
    assert output.count("a dry run measures no speeds: epochs of the rows with a budget in time are guessed") == 1

    def epochs(speeds: GuessedSpeeds) -> list[int]:
        table = STUDY["rivals"].only(["TSM, same time", "MTUT, same time"])
        return [job.recipe.epochs for job in plan(table, SCALES["small"], {}, range(1), speeds).jobs]

    msd, mtut, tsm = plan(
        STUDY["rivals"].only(["TSM, same time", "MTUT, same time"]), SCALES["small"], {}, range(1), NO_SPEEDS
    ).jobs
    adds = {each.recipe.model: cost_of(each.recipe.network_spec(18)).multiply_adds for each in (msd, mtut, tsm)}
    both = 20 * adds["action_resnet18"] / adds["i3d"] / 4  # two trainings of two networks
    guessed = [20, max(1, round(both)), round(20 * adds["action_resnet18"] / adds["tsm_resnet18"])]
    assert epochs(GuessedSpeeds(out)) == guessed
    (kept := out / "speeds.json").parent.mkdir()
    kept.write_text(json.dumps({speed_key(msd.recipe): 3.0}))
    assert epochs(GuessedSpeeds(out)) == guessed, "seconds are not compared with multiply-adds"
    kept.write_text(json.dumps({speed_key(msd.recipe): 3.0, speed_key(tsm.recipe): 1.0}))
    assert epochs(GuessedSpeeds(out)) == [*guessed[:2], 60]


def test_speeds_lie_beside_the_ledger(tmp_path: Path):
    """So that runs of a ledger that was handed over count as done, whatever the folder of the new ones is called."""
    (kept := tmp_path / "handed").mkdir()
    table = STUDY["rivals"].only(["TSM, same time"])
    reference, tsm = plan(table, SCALES["small"], {}, range(1), NO_SPEEDS).jobs
    (kept / "speeds.json").write_text(json.dumps({speed_key(reference.recipe): 3.0, speed_key(tsm.recipe): 1.0}))
    done = plan(table, SCALES["small"], {}, range(1), GuessedSpeeds(kept)).cell("TSM, same time", "generated").jobs[0]
    assert done.recipe.epochs == 60
    (ledger := Ledger(kept / "ledger.jsonl")).add(Outcome(key=done.key, name=done.name, top1=0.875, clips=8))
    ask = ("reproduce", "rivals", "--rows=TSM, same time", "--seeds=1", "--dry-run", f"--out={tmp_path / 'new'}")
    code, output = run(*ask, f"--ledger={ledger.path}")
    assert code == 0, output
    assert "2 runs, 1 done." in output


@pytest.mark.parametrize(("epochs", "stage", "last"), [(4, (1, 0), (2, 0)), (12, (4, 1), (4, 1))])
def test_stages_share_epochs_that_are_set_and_a_quarter_of_them_is_warm_up(epochs, stage, last):
    rows = get_table("V", TABLES).only(["Segmentation*"])
    made = plan(rows, SCALES["small"], {}, range(1), NO_SPEEDS, {"epochs": str(epochs)})
    trainings = made.cells[0].jobs[0].recipe.trainings
    assert [(each.epochs, each.warmup_epochs) for each in trainings] == [stage, stage, last]


def test_twice_the_epochs_are_twice_those_of_any_scale():
    for scale in ("smoke", "small"):
        made = plan(STUDY["conditions"], SCALES[scale], {}, range(1), NO_SPEEDS)
        epochs = {cell.row.name: cell.jobs[0].recipe.epochs for cell in made.cells}
        assert epochs["twice the epochs: both"] == 2 * epochs["as it is: both"] == 2 * SCALES[scale].fields["epochs"]


def test_seeds_come_whole():
    made = plan(TABLES["IV"], SCALES["smoke"], {}, range(3), NO_SPEEDS)
    assert [job.recipe.seed for job in made.jobs] == [0] * 4 + [1] * 4 + [2] * 4


def test_pictures_are_made_with_networks():
    figure, masks, table = (
        plan((TABLES | STUDY)[name], SCALES["small"], {}, range(2, 4), NO_SPEEDS) for name in ("fig5", "masks", "IV")
    )
    assert [job.recipe.seed for job in figure.pictured] == [2]
    assert len(masks.pictured) == len(masks.jobs) == 6
    assert table.pictured == ()


def test_the_same_run_is_one_job_in_all_tables():
    keys = [
        {job.key for job in plan(TABLES[name], SCALES["small"], {}, range(1), NO_SPEEDS).jobs}
        for name in ("VI", "VIII")
    ]
    assert len(keys[0] & keys[1]) == 2  # without MSD, and both decoders


def test_a_network_that_never_sees_depth_is_trained_once_for_all_sensors():
    made = plan(STUDY["conditions"], SCALES["small"], {}, range(1), NO_SPEEDS)
    keys = {cell.row.name: cell.jobs[0].key for cell in made.cells}
    sensors = ("as it is", "clean depth", "noisy depth, as IsoGD's", "misaligned depth, as NVGesture's")
    assert len({keys[f"{sensor}: none"] for sensor in sensors}) == 1
    assert len({keys[f"{sensor}: both"] for sensor in sensors}) == 4


def test_rows_that_know_the_gestures_start_from_the_plain_run_of_their_seed():
    made = plan(STUDY["conditions"], SCALES["small"], {}, range(2), NO_SPEEDS)
    rows = {cell.row.name: cell.jobs for cell in made.cells}
    for seed in range(2):
        known = rows["no clutter: none"][seed]
        for arm in ("none", "both", "both, 1 : 1 : 10"):
            first, fresh = (rows[f"{name}hard clutter: {arm}"][seed] for name in ("first without, then ", ""))
            assert (first.after, fresh.after) == (known.key, None)
            assert (first.recipe, first.data) == (fresh.recipe, fresh.data)
    alone = plan(STUDY["conditions"].only(["first without*"]), SCALES["small"], {}, range(2), NO_SPEEDS)
    assert [job.recipe.seed for job in alone.jobs] == [0] * 4 + [1] * 4
    assert alone.jobs[::4] == tuple(rows["no clutter: none"].values())
    assert alone.title(alone.jobs[0]) == "first without, then hard clutter: none on generated, to start from"


def test_a_key_tells_runs_apart_by_what_decides_their_result():
    job = plan(TABLES["IV"], SCALES["smoke"], {}, range(1), NO_SPEEDS).jobs[0]

    def changed(**fields) -> str:
        return job.model_copy(update={"recipe": job.recipe.model_copy(update=fields)}).key

    assert changed(workers=3) == changed(log_steps=99) == job.key
    assert len({job.key, changed(seed=5), changed(lr=0.1), changed(msd="local")}) == 4
    assert Job.model_validate_json(job.model_dump_json()).key == job.key
