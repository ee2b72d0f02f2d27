"""Tables on data that lies on disk: the paper's schedules on its sets, what is refused, what is told."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from clip_files import BRIGHT
from reproduce_helpers import NO_SPEEDS

from dynagest.card import NetworkCard
from dynagest.clips.adapters import ADAPTERS
from dynagest.clips.adapters.common import numbered_classes
from dynagest.clips.depth import PRESETS, DepthSpec
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.protocols import get_protocol
from dynagest.errors import RecipeError, WeightsError
from dynagest.networks.build import create_model
from dynagest.networks.count import cost_of
from dynagest.networks.rivals.build import RIVALS
from dynagest.networks.weights import save_network
from dynagest.reproduce.cost import describe, told
from dynagest.reproduce.departures import departures
from dynagest.reproduce.jobs import Job
from dynagest.reproduce.plan import Plan, plan
from dynagest.reproduce.pretrained import start_from
from dynagest.reproduce.results import collect
from dynagest.reproduce.runner import Outcome
from dynagest.reproduce.scales import SCALES, get_scale
from dynagest.reproduce.speed import Speeds
from dynagest.reproduce.study import STUDY
from dynagest.reproduce.tables import CLASSES, TABLES, Table, get_table
from dynagest.reproduce.write import markdown
from dynagest.task.decoder import MultiScaleDecoder
from dynagest.task.saved import save_decoders
from dynagest.training.recipe import Recipe


def manifest(
    folder: Path, splits: dict[str, int], classes: tuple[str, ...] = ("a", "b"), depth: DepthSpec = BRIGHT
) -> Path:
    clips = [
        Clip(folder / f"{split}{index}.avi", classes[index % 2], folder / "d.avi", split=split)
        for split, count in splits.items()
        for index in range(count)
    ]
    path = Manifest.of(clips, depth=depth, classes=classes).write(folder / "manifest.csv").path
    assert path is not None
    return path


@pytest.fixture
def datasets(tmp_path) -> dict[str, Path]:
    made = {}
    for name, splits in {
        "egogesture": {"train": 4, "val": 2, "test": 3},
        "nvgesture": {"train": 4, "test": 3},
        "isogd": {"train": 4, "val": 5},
    }.items():
        (tmp_path / name).mkdir()
        made[name] = manifest(tmp_path / name, splits, numbered_classes(CLASSES[name]))
    return made


def test_the_paper_scale_is_the_published_schedule(datasets):
    made = plan(TABLES["VIII"], get_scale("paper"), datasets, range(1), NO_SPEEDS)
    by = {(cell.row.name, cell.dataset): cell.jobs[0] for cell in made.cells}
    nv, ego, iso = (by["raw depth", name] for name in ("nvgesture", "egogesture", "isogd"))
    assert (ego.recipe.epochs, ego.recipe.milestones) == (25, (10, 15, 20))
    assert (nv.recipe.epochs, nv.recipe.milestones) == (80, (50, 60, 70))
    assert (iso.recipe.epochs, iso.recipe.milestones) == (35, (15, 25, 30))
    for job in (ego, nv, iso):
        assert (job.recipe.lr, job.recipe.batch, job.recipe.weight_decay, job.recipe.width) == (0.0025, 16, 1e-5, 64)
        assert (job.recipe.local_weight, job.recipe.global_weight, job.recipe.msd) == (1.0, 0.01, "both")
        assert job.protocol == "paper"
    assert ego.recipe.train_splits == ("train", "val")
    assert (ego.data.split, nv.data.split, iso.data.split) == ("test", "test", "val")
    # NVGesture and IsoGD start from the EgoGesture model of the same row.
    assert ego.after is None
    assert nv.after == iso.after == ego.key
    assert [job.key for job in made.jobs].index(ego.key) < [job.key for job in made.jobs].index(nv.key)


def test_the_paper_scale_says_what_is_missing(datasets):
    with pytest.raises(RecipeError, match="--data egogesture=MANIFEST --data nvgesture=MANIFEST"):
        plan(TABLES["IV"], get_scale("paper"), {}, range(1), NO_SPEEDS)
    with pytest.raises(RecipeError, match=r"also needs --data egogesture=MANIFEST: .*action-msd@nvgesture --init M"):
        plan(TABLES["II"], get_scale("paper"), {"nvgesture": datasets["nvgesture"]}, range(1), NO_SPEEDS)
    with pytest.raises(RecipeError, match="also needs --data nvgesture=MANIFEST: "):
        plan(TABLES["II"], get_scale("paper"), {"egogesture": datasets["egogesture"]}, range(1), NO_SPEEDS)
    with pytest.raises(RecipeError, match="--data egogestur: names no dataset of the paper"):
        plan(TABLES["II"], get_scale("paper"), {"egogestur": datasets["egogesture"]}, range(1), NO_SPEEDS)
    with pytest.raises(RecipeError, match=r"--data egogestur: names no dataset.*did you mean egogesture"):
        plan(TABLES["I"], get_scale("small"), {"egogestur": datasets["egogesture"]}, range(1), NO_SPEEDS)
    with pytest.raises(RecipeError, match="decoders is not of the paper"):
        plan(STUDY["decoders"], get_scale("paper"), datasets, range(1), NO_SPEEDS)
    with pytest.raises(RecipeError, match="there is no scale 'big'"):
        get_scale("big")
    with pytest.raises(RecipeError, match="did you mean VIII"):
        get_table("VIIII", TABLES)
    assert (get_table("viii", TABLES), get_table("Fig5", TABLES)) == (TABLES["VIII"], TABLES["fig5"])


def test_a_table_has_the_columns_that_there_is_data_for(datasets):
    made = plan(TABLES["VIII"], get_scale("paper"), datasets, range(1), NO_SPEEDS)
    del datasets["nvgesture"]
    fewer = plan(TABLES["VIII"], get_scale("paper"), datasets, range(1), NO_SPEEDS)
    assert (made.datasets, fewer.datasets) == (("egogesture", "nvgesture", "isogd"), ("egogesture", "isogd"))
    assert [job for job in made.jobs if job.data.name != "nvgesture"] == list(fewer.jobs)
    assert "table VIII without NVGesture: there is no --data nvgesture=MANIFEST" in departures([fewer])


def test_clips_that_a_run_cannot_do_with_are_refused_before_any_starts(tmp_path, datasets):
    """IsoGD's challenge had no labels for valid: 35 epochs would pass before that is known."""
    challenge = manifest(tmp_path, {"train": 4}, numbered_classes(CLASSES["isogd"]))
    with pytest.raises(RecipeError, match="has no clip in split val, which C3D on IsoGD needs; index the set with a l"):
        plan(TABLES["III"], get_scale("paper"), datasets | {"isogd": challenge}, range(1), NO_SPEEDS)
    with pytest.raises(RecipeError, match="has 249 classes and NVGesture 25; give the manifest that `dynagest data in"):
        plan(TABLES["II"], get_scale("paper"), datasets | {"nvgesture": challenge}, range(1), NO_SPEEDS)


def test_other_clips_than_published_are_told(datasets):
    made = plan(TABLES["VIII"], get_scale("paper"), datasets, range(1), NO_SPEEDS)
    told = departures([made])
    assert told == [
        "action_resnet50 starts from random weights (3 of the runs), not from ImageNet weights of the backbone "
        "(torchvision's or Res2Net's), and will end up worse: give --init action_resnet50=FILE",
        "EgoGesture has 4 train, 2 val, 3 test clips here, 14,416 train, 4,768 val, 4,977 test as published",
        "NVGesture has 4 train, 3 test clips here, 1,050 train, 482 test as published",
        "IsoGD has 4 train, 5 val clips here, 35,878 train, 5,784 val as published",
    ]
    legend = markdown(collect(made, {}), "dynagest reproduce VIII")
    assert all(f"NOT AS PUBLISHED: {line}" in legend for line in told)
    generated = plan(TABLES["VIII"], SCALES["small"], {}, range(1), NO_SPEEDS)
    assert departures([generated]) == []
    assert "NOT AS PUBLISHED" not in markdown(collect(generated, {}), "dynagest reproduce VIII")


def test_a_field_can_be_set_in_every_run_of_a_table(datasets):
    def made(settings: dict[str, str]) -> Plan:
        return plan(TABLES["II"], get_scale("paper"), datasets, range(1), NO_SPEEDS, settings)

    plain, halved = made({}), made({"accumulate": "2", "workers": "3"})
    assert all(each.accumulate == 2 for job in halved.jobs for each in job.recipe.trainings)
    assert {job.key for job in halved.jobs}.isdisjoint(job.key for job in plain.jobs)
    assert all(job.after in {each.key for each in halved.jobs} for job in halved.jobs if job.after)
    assert made({"workers": "3"}).cells[0].jobs[0].key == plain.cells[0].jobs[0].key
    assert "accumulate=2 in every run" in departures([halved])
    assert not any("workers" in line or "accumulate" in line for line in departures([made({"workers": "3"})]))
    for field in ("msd", "model", "seed", "init", "stages"):
        with pytest.raises(RecipeError, match=f"--set {field}: table II sets it itself"):
            made({field: "none"})
    with pytest.raises(RecipeError, match="no field 'acumulate'; did you mean accumulate"):
        made({"acumulate": "2"})


def generated(table: Table, settings: dict[str, str], speeds: Speeds = NO_SPEEDS) -> Plan:
    return plan(table, SCALES["small"], {}, range(1), speeds, settings)


def test_the_genotype_of_nas1_can_be_set_where_all_rows_have_one():
    cell = [["skip", 0], ["conv_1x3x3", 1]]
    settings = {"options": json.dumps({"genotype": {branch: [cell] * 4 for branch in ("high", "mid", "low")}})}
    made = generated(TABLES["I"].only(["NAS1"]), settings)
    assert made.jobs[0].recipe.options["genotype"]["mid"][3] == cell
    assert "NAS1's genotype is ours" not in markdown(collect(made, {}), "dynagest reproduce I")
    with pytest.raises(RecipeError, match="--set options: table I sets it itself"):
        generated(TABLES["I"].only(["NAS1", "C3D"]), settings)


def test_epochs_cannot_be_set_where_rows_differ_in_them():
    for table, rows in (("conditions", "twice*"), ("conditions", "four times*"), ("rivals", "TSM, same time")):
        with pytest.raises(RecipeError, match=f"--set epochs: table {table} sets it itself"):
            generated(STUDY[table].only([rows]), {"epochs": "3"})
    made = generated(STUDY["conditions"].only(["hard clutter: *"]), {"epochs": "30"})
    assert {job.recipe.epochs for job in made.jobs} == {30}


def test_epochs_that_are_set_are_those_of_all_stages_together():
    made = generated(TABLES["V"], {"epochs": "30", "lr": "0.5"})
    assert {sum(each.epochs for each in job.recipe.trainings) for job in made.jobs} == {30}
    assert {each.lr for job in made.jobs for each in job.recipe.trainings} == {0.5}


def test_threads_may_be_set_and_are_those_of_all_stages(tmp_path):
    """So that a table does not depend on how many runs there are at once."""
    made, others = generated(TABLES["V"], {"threads": "1"}), generated(TABLES["V"], {})
    assert {each.threads for job in made.jobs for each in job.recipe.trainings} == {1}
    assert not {job.key for job in made.jobs} & {job.key for job in others.jobs}
    with pytest.raises(RecipeError, match="--set seed: table V sets it itself"):
        generated(TABLES["V"], {"threads": "1", "seed": "3"})


def test_a_budget_in_time_is_that_of_the_runs_with_what_was_set(tmp_path):
    class Asked(Speeds):
        def seconds_per_clip(self, recipe: Recipe, num_classes: int) -> float:
            assert (recipe.size, recipe.batch) == (64, 32)
            return {"tsm_resnet18": 1.0, "action_resnet18": 3.0}[recipe.model]

    made = generated(STUDY["rivals"].only(["TSM, same time"]), {"size": "64", "batch": "32"}, Asked(tmp_path))
    assert {job.recipe.model: job.recipe.epochs for job in made.jobs} == {"tsm_resnet18": 60, "action_resnet18": 20}
    assert {job.recipe.size for job in made.jobs} == {64}


def test_other_splits_to_train_on_are_told_or_refused(datasets):
    def made(table: str, settings: dict[str, str]) -> Plan:
        return plan(TABLES[table], get_scale("paper"), datasets, range(1), NO_SPEEDS, settings)

    with pytest.raises(RecipeError, match="has no clip in split val, which TSM on NVGesture needs"):
        made("IV", {"train_splits": "val"})
    for settings in ({"train_splits": "train,val"}, {"train_splits": "train", "validate_on": "val"}):
        with pytest.raises(RecipeError, match="C3D on IsoGD is tested on val, so it can neither train nor choose its"):
            made("III", settings)
    datasets["nvgesture"] = manifest(
        datasets["nvgesture"].parent, {"train": 3, "val": 1, "test": 3}, numbered_classes(25)
    )
    told = departures([made("IV", {"train_splits": "train,val"})])
    assert "NVGesture has 3 train, 1 val, 3 test clips here, 1,050 train, 0 val, 482 test as published" in told


@pytest.mark.parametrize("table", ["I", "II", "III", "V"])
def test_every_network_takes_the_views_that_it_is_tested_on(table, datasets):
    for job in plan(TABLES[table], get_scale("paper"), datasets, range(1), NO_SPEEDS).jobs:
        recipe, side = job.recipe, get_protocol(job.protocol).size(job.recipe.size)
        with torch.device("meta"):
            net = create_model(recipe.model, 2, recipe.num_segments, size=recipe.size, options=recipe.options).eval()
            assert net(torch.empty(1, recipe.num_segments, net.channels, side, side)).shape == (1, 2)
        flattens = recipe.model in RIVALS and RIVALS[recipe.model].flattens
        assert job.protocol == ("center" if flattens else "paper")


def test_systems_whose_training_the_tables_do_not_tell_are_named(datasets):
    made = plan(TABLES["II"].only(["C3D", "PreRNN", "MTUT", "TSM"]), get_scale("paper"), datasets, range(1), NO_SPEEDS)
    told = departures([made])
    assert "c3d, i3d: from random weights and on the paper's own schedule, because the tables do not tell" in told[1]
    assert told[0].startswith("tsm_resnet50 starts from random weights")


def test_no_difference_is_taken_between_two_protocols(datasets):
    """C3D cannot take the paper's 30 views, so it is seen once."""
    rows = {row.name: row for row in TABLES["I"].rows}
    table = replace(TABLES["I"], rows=(rows["TSM"], replace(rows["C3D"], against="TSM"), rows["ACTION-Net"]))
    made = plan(table, get_scale("paper"), datasets, range(1), NO_SPEEDS)
    outcomes = {job.key: Outcome(key=job.key, name="", top1=0.5) for job in made.jobs}
    results = collect(made, outcomes)
    assert [line.scores[0].difference for line in results.lines] == [None, None, None]
    assert [line.scores[0].paper_difference for line in results.lines] == [None, -1.5, None]
    text = markdown(results, "dynagest reproduce I")
    assert "tested by 30 views as published, but by one centre view what cannot take those: C3D; no difference" in text


def test_runs_start_from_the_weights_that_are_given(tmp_path, datasets):
    made = plan(TABLES["IV"], get_scale("paper"), datasets, range(1), NO_SPEEDS)

    def at_random(made: Plan) -> list[str]:
        return [line.split(", ")[0] for line in departures([made]) if "random" in line]

    tsm, tea = (f"{model} starts from random weights (2 of the runs)" for model in ("tsm_resnet50", "tea_res2net50"))
    assert at_random(made) == [tsm, tea]
    assert "NOT from ImageNet weights" in describe(made.jobs[0], made.jobs).starts_from
    card = NetworkCard(model="tsm_resnet50", classes=("a", "b", "c"))
    file = save_network(tmp_path, create_model("tsm_resnet50", 3), card)
    (started,) = start_from([made], {"tsm_resnet50": file})
    by = {
        (cell.row.name, cell.dataset): (cell.jobs[0], old.jobs[0])
        for cell, old in zip(started.cells, made.cells, strict=True)
    }
    for row in ("TSM", "TSM + MSD"):
        (ego, ego_before), (nv, nv_before) = by[row, "egogesture"], by[row, "nvgesture"]
        assert (ego.recipe.init, nv.recipe.init, nv.after) == (str(file), None, ego.key)
        assert len({ego.key, ego_before.key, nv.key, nv_before.key}) == 4
        assert describe(ego, started.jobs).starts_from == str(file)
    assert by["TEA", "nvgesture"][0] == by["TEA", "nvgesture"][1]
    # The same weights elsewhere make the same runs, other weights at the same place make others.
    before = {job.key for job in started.jobs if job.recipe.model == "tsm_resnet50"}
    (elsewhere,) = start_from([made], {"tsm_resnet50": Path(shutil.copy(file, tmp_path / "copy.safetensors"))})
    assert before < {job.key for job in elsewhere.jobs}
    save_network(tmp_path, create_model("tsm_resnet50", 3), card)
    (again,) = start_from([made], {"tsm_resnet50": file})
    assert before.isdisjoint(job.key for job in again.jobs)
    assert {job.key for cell in started.cells for job in cell.jobs.values()} <= {job.key for job in started.jobs}
    assert all(job.after in {each.key for each in started.jobs} for job in started.jobs if job.after)
    assert at_random(started) == [tea]
    for init, error, message in (
        ({"": file}, RecipeError, "say for which model"),
        ({"c3d": file}, RecipeError, "no run starts with that model; there are tea_res2net50, tsm_resnet50"),
        ({"tea_res2net50": file}, WeightsError, "weights of another network than tea_res2net50"),
        ({"tea_res2net50": tmp_path / "nothing"}, WeightsError, "there is no such file"),
    ):
        with pytest.raises(error, match=message):
            start_from([made], init)


def test_the_only_model_needs_no_name_and_a_staged_system_starts_its_first_stage(tmp_path, datasets):
    card = NetworkCard(model="c3d", classes=("a", "b"), num_segments=16, size=112)
    file = save_network(tmp_path, create_model("c3d", 2, 16, size=112), card)
    row = next(row for row in TABLES["II"].rows if row.system == "prernn")
    made = plan(replace(TABLES["II"], rows=(row,)), get_scale("paper"), datasets, range(1), NO_SPEEDS)
    (started,) = start_from([made], {"": file})
    first, second = started.jobs
    assert (first.first_recipe.model, first.first_recipe.init) == ("c3d", str(file))
    assert second.after == first.key


def test_other_decoders_beside_the_same_weights_make_other_runs(tmp_path, datasets):
    """A run with decoders goes on from those that lie in the folder; one without does not look at them."""
    net = create_model("action_resnet50", 2, width=8)
    save_network(tmp_path, net, NetworkCard(model="action_resnet50", classes=("a", "b"), width=8))
    made = plan(TABLES["VIII"], get_scale("paper"), datasets, range(1), NO_SPEEDS, {"width": "8"})

    def keys() -> dict[str, str]:
        (started,) = start_from([made], {"action_resnet50": tmp_path})
        return {cell.row.name: cell.jobs[0].key for cell in started.cells if cell.dataset == "egogesture"}

    seen = [keys()]
    for seed in range(2):
        save_decoders(tmp_path, MultiScaleDecoder.for_model(net, seed=seed))
        seen.append(keys())
    assert [len({each[row] for each in seen}) for row in ("without MSD", "raw depth", "binarised")] == [1, 3, 3]


def test_another_manifest_at_the_same_place_is_another_run(datasets):
    def keys() -> list[str]:
        return [job.key for job in plan(TABLES["I"], get_scale("paper"), datasets, range(1), NO_SPEEDS).jobs]

    before = keys()
    assert keys() == before
    moved = datasets["egogesture"].parent.rename(datasets["egogesture"].parent.with_name("elsewhere"))
    datasets["egogesture"] = moved / "manifest.csv"
    assert keys() == before
    manifest(moved, {"train": 5, "val": 2, "test": 3}, numbered_classes(CLASSES["egogesture"]))
    assert not set(keys()) & set(before)


def test_data_that_a_table_cannot_take_is_refused(datasets):
    two = {name: datasets[name] for name in ("egogesture", "isogd")}
    with pytest.raises(RecipeError, match="given 2 times"):
        plan(TABLES["IV"], SCALES["small"], two, range(1), NO_SPEEDS)
    with pytest.raises(RecipeError, match="compares kinds of generated clips"):
        plan(STUDY["conditions"], SCALES["small"], {"": datasets["isogd"]}, range(1), NO_SPEEDS)


def test_rows_that_need_depth_are_refused_where_there_is_none(tmp_path):
    clips = [
        Clip(tmp_path / f"{index}.avi", "ab"[index % 2], split=split)
        for index, split in enumerate(("train", "test") * 4)
    ]
    path = Manifest.of(clips, classes=("a", "b")).write(tmp_path / "manifest.csv").path
    with pytest.raises(
        RecipeError, match=r"manifest\.csv: no clip to train on has depth, which TSM \+ MSD on data needs"
    ):
        plan(TABLES["IV"], SCALES["small"], {"": path}, range(1), NO_SPEEDS)
    plain = TABLES["IV"].only(["TSM", "TEA"])
    assert len(plan(plain, SCALES["small"], {"": path}, range(1), NO_SPEEDS).jobs) == 2


def test_rows_that_are_fed_depth_need_it_where_they_are_tested(tmp_path):
    """Else they would train to the end and then find no clip that they can be shown."""
    made = Manifest.read(manifest(tmp_path, {"train": 3, "test": 3}))
    without = [replace(clip, depth=None) if clip.split == "test" else clip for clip in made.clips]
    path = replace(made, clips=tuple(without)).write(tmp_path / "manifest.csv").path
    fed = TABLES["I"].only(["*RGB-D*"])
    with pytest.raises(RecipeError, match="no clip in split test has depth, which ACTION-Net, RGB-D at inference on d"):
        plan(fed, SCALES["small"], {"": path}, range(1), NO_SPEEDS)
    assert plan(TABLES["I"].only(["*MSD"]), SCALES["small"], {"": path}, range(1), NO_SPEEDS).jobs


@pytest.mark.parametrize("table", ["masks", "fig5"])
def test_masks_need_depth_to_be_compared_with(table, tmp_path):
    path = manifest(tmp_path, {"train": 3, "test": 3}, depth=PRESETS["isogd"])
    made = Manifest.read(path)
    assert plan((TABLES | STUDY)[table], SCALES["small"], {"": path}, range(1), NO_SPEEDS).pictured
    without = [replace(clip, depth=None) if clip.split == "test" else clip for clip in made.clips]
    replace(made, clips=tuple(without)).write(path)
    with pytest.raises(RecipeError, match=r"manifest\.csv: no clip in split test has depth, with which table"):
        plan((TABLES | STUDY)[table], SCALES["small"], {"": path}, range(1), NO_SPEEDS)


def test_depth_is_laid_over_rgb_by_a_map_that_is_known(tmp_path):
    """Bright depth may be NVGesture's, which is not aligned, or anybody's that is: no map is made up for it."""
    rows = STUDY["masks"].only(["raw*", "aligned*"])
    for raw in ("nvgesture", "isogd"):
        aligned = PRESETS[f"{raw}-aligned"]
        for own in (aligned, *([PRESETS[raw]] if raw == "isogd" else [])):
            path = manifest(tmp_path, {"train": 3, "test": 3}, depth=own)
            made = plan(rows, SCALES["small"], {"": path}, range(1), NO_SPEEDS)
            assert [cell.jobs[0].data.read().depth for cell in made.cells] == [PRESETS[raw], aligned]
    path = manifest(tmp_path, {"train": 3, "test": 3})
    with pytest.raises(RecipeError, match=r"manifest\.csv: its depth\.yaml has no affine .* --rows"):
        plan(rows, SCALES["small"], {"": path}, range(1), NO_SPEEDS)
    assert len(plan(rows.only(["raw*"]), SCALES["small"], {"": path}, range(1), NO_SPEEDS).jobs) == 1


def test_a_dry_run_tells_clips_schedule_and_cost(datasets):
    made = plan(TABLES["II"], get_scale("paper"), datasets, range(1), NO_SPEEDS)
    job = next(cell.jobs[0] for cell in made.cells if cell.row.name == "ACTION-Net + MSD")
    line = describe(job, made.jobs)
    assert line.clips == 4
    # 0.0025 for 16 clips; a step here has all four that there are.
    assert line.schedule == ("80 epochs of batch 16, sgd lr 0.000625, lr / 10 after 50, 60, 70, 8 x 224",)
    assert line.test == "3 clips, paper (30 views)"
    assert line.starts_from == next(each.name for each in made.jobs if each.key == job.after)
    # method.md: 34.435 GMAC a clip at 224, 44.97 a view at 256; both are for 83 classes, here there are 25.
    assert line.multiply_adds == pytest.approx(3 * 4 * 80 * 34.435e9 + 3 * 30 * 44.97e9, rel=1e-4)
    assert told(line.multiply_adds) == "37.1 T multiply-adds (3.7 s for a GPU that does 10 T a second)"
    assert made.title(next(each for each in made.jobs if each.key == job.after)) == (
        "ACTION-Net + MSD on EgoGesture, to start from"
    )


@pytest.mark.slow
def test_the_cost_that_method_md_tells_is_that_of_todays_tables(datasets, monkeypatch):
    def published(job: Job) -> tuple[int, int]:
        clips = ADAPTERS[job.data.name].published
        return sum(clips[split] for split in job.recipe.train_splits), clips[job.data.split]

    monkeypatch.setattr("dynagest.reproduce.cost._clips", published)
    costs: dict[str, dict[str, int]] = {}  # of each table by the jobs' keys, because tables share runs
    for name in ("I", "II", "III", "IV", "V", "VI", "VII", "VIII"):
        jobs = plan(TABLES[name], get_scale("paper"), datasets, range(1), NO_SPEEDS).jobs
        costs[name] = {job.key: describe(job, jobs).multiply_adds for job in jobs}
    every = {key: cost for table in costs.values() for key, cost in table.items()}
    hours = {name: round(sum(table.values()) / 10e12 / 3600) for name, table in costs.items()}
    text = (Path(__file__).parents[1] / "docs" / "method.md").read_text()
    assert (
        f"{len(every)} runs of one seed are {sum(every.values()) / 1e18:.1f} E (10^18) multiply-adds: "
        f"{sum(every.values()) / 10e12 / 3600:.0f} hours at 10 T a second. "
        f"By themselves Table I is {hours['I']}, III {hours['III']} and VI {hours['VI']}; "
    ) in text


def test_two_networks_that_train_at_once_cost_both(datasets):
    made = plan(TABLES["I"].only(["MTUT"]), get_scale("paper"), datasets, range(1), NO_SPEEDS)
    # method.md: 111.151 GMAC a clip of 64 x 224; of EgoGesture 6 clips are trained on, 25 epochs in each of two stages.
    view = cost_of(replace(made.jobs[0].recipe.network_spec(83), size=256)).multiply_adds
    expected = 2 * 2 * 3 * 6 * 25 * 111.151e9 + 3 * 30 * view
    assert describe(made.jobs[0], made.jobs).multiply_adds == pytest.approx(expected, rel=1e-4)


def test_own_clips_are_tested_on_what_was_held_out(tmp_path, datasets):
    made = plan(TABLES["IV"], SCALES["small"], {"": datasets["isogd"]}, range(1), NO_SPEEDS)
    assert made.datasets == ("data",)
    assert {job.data.split for job in made.jobs} == {"val"}
    (tmp_path / "none").mkdir()
    only_train = manifest(tmp_path / "none", {"train": 3})
    with pytest.raises(RecipeError, match="no clips in split test or val"):
        plan(TABLES["IV"], SCALES["small"], {"": only_train}, range(1), NO_SPEEDS)
