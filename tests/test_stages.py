"""Trainings in several stages: what each starts from, what is refused, and that an interruption changes nothing."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from training_toys import start, toy_data, toy_recipe, toy_source, weights

from dynagest.errors import ModelError, RecipeError, RunError
from dynagest.networks.weights import load_network
from dynagest.training.assemble import build_task
from dynagest.training.checkpoint import read_checkpoint
from dynagest.training.folder import has_run
from dynagest.training.log import read_log
from dynagest.training.recipe import Recipe
from dynagest.training.stages import hand_over
from dynagest.training.trainer import train

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def staged(**changes: object) -> Recipe:
    """A plain stage and one with a frozen stem before a last training with decoders."""
    first = {"name": "plain", "changes": {"msd": "none", "epochs": 1, "milestones": ()}}
    second = {"name": "frozen", "changes": {"epochs": 1, "milestones": (), "frozen": ["network.base_model.layer1"]}}
    return toy_recipe(model="tsm_resnet18", stages=[first, second], **changes)


def test_stages_lie_in_the_run_and_hand_their_weights_on(tmp_path: Path) -> None:
    recipe = staged(lr=1e-12)
    summary = train(recipe, toy_data(), tmp_path)
    assert (summary.epochs, summary.steps, summary.run_dir) == (2, 6, tmp_path)
    folders = [tmp_path / "stages" / "1-plain", tmp_path / "stages" / "2-frozen", tmp_path]
    assert Recipe.model_validate_json((folders[0] / "recipe.json").read_text()).msd == "none"
    assert Recipe.model_validate_json((tmp_path / "recipe.json").read_text()).stages == recipe.stages
    first, second, last = map(weights, folders)
    assert not any(name.startswith("task.decoder.") for name in first)
    # With next to no learning rate, all start where the first one started.
    for name, value in first.items():
        if name.startswith("task.network.") and value.is_floating_point() and "running" not in name:
            torch.testing.assert_close(second[name], value, rtol=0, atol=1e-6)
            torch.testing.assert_close(last[name], value, rtol=0, atol=1e-6)
    assert summary.seconds == pytest.approx(sum(read_checkpoint(folder).progress.seconds for folder in folders))
    notes = [line["text"] for line in read_log(folders[1]) if line["event"] == "note"]
    assert any("1-plain" in note and "left as initialised: decoder." in note for note in notes)


def test_each_stage_goes_on_where_the_one_before_ended(tmp_path: Path) -> None:
    train(staged(), toy_data(), tmp_path)
    first, second = (weights(tmp_path / "stages" / name) for name in ("1-plain", "2-frozen"))
    frozen = [name for name in first if name.startswith("task.network.base_model.layer1.")]
    assert len(frozen) == 24  # 4 convolutions and 4 BatchNorms of 5 tensors, statistics included
    assert all(torch.equal(first[name], second[name]) for name in frozen)
    assert not torch.equal(
        first["task.network.base_model.conv1.weight"], second["task.network.base_model.conv1.weight"]
    )
    assert not any("layer1" in name for name in second if name.startswith("optimiser."))
    last = weights(tmp_path)
    assert not torch.equal(first[frozen[0]], last[frozen[0]])


def wait_for(run_dir: Path, process) -> None:
    """Until the run is in the middle of its training."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if has_run(run_dir, stages=False) and 0 < read_checkpoint(run_dir).progress.step < 6:
            return
        time.sleep(0.02)
    pytest.fail(f"{run_dir} never got there: {process.communicate()}")


@pytest.mark.slow
def test_killed_in_any_stage_it_ends_at_the_same_weights(tmp_path: Path) -> None:
    recipe = staged(checkpoint_steps=1)
    (tmp_path / "recipe.json").write_text(recipe.throughout({"epochs": 2, "milestones": ()}).model_dump_json())
    recipe = Recipe.model_validate_json((tmp_path / "recipe.json").read_text())
    train(recipe, toy_source, tmp_path / "whole")
    run_dir = tmp_path / "killed"
    for place, folder in enumerate((run_dir / "stages" / "1-plain", run_dir / "stages" / "2-frozen", run_dir)):
        resume = ["--resume"] if place else []
        process = start(run_dir, "--recipe", str(tmp_path / "recipe.json"), "--slow=0.1", *resume)
        wait_for(folder, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    before = (run_dir / "stages" / "1-plain" / "checkpoint.safetensors").stat().st_mtime_ns
    train(recipe, toy_source, run_dir, resume=True)
    assert (run_dir / "stages" / "1-plain" / "checkpoint.safetensors").stat().st_mtime_ns == before
    killed, whole = weights(run_dir), weights(tmp_path / "whole")
    assert killed.keys() == whole.keys()
    assert [name for name in whole if not torch.equal(killed[name], whole[name])] == []
    name = "network.safetensors"
    assert (run_dir / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def interrupted(recipe: Recipe, run_dir: Path, place: int) -> None:
    """A run that ends when stage ``place`` (0-based) wants its data."""

    class Killed(BaseException):
        pass

    class Deadly:
        def __init__(self, source) -> None:
            self.source, self.classes, self.label = source, source.classes, source.label

        def __len__(self) -> int:
            return len(self.source)

        def __getitem__(self, key):
            raise Killed

    def sources(each: Recipe):
        data = toy_source(each)
        calls.append(each)
        return data if len(calls) != place + 1 else type(data)(Deadly(data.train), None, data.fingerprint, "toy clips")

    calls: list[Recipe] = []
    with pytest.raises(Killed):
        train(recipe, sources, run_dir)


def test_run_that_stopped_in_a_stage_is_not_overwritten_unless_told(tmp_path: Path) -> None:
    interrupted(staged(), tmp_path, place=1)
    assert has_run(tmp_path)
    for recipe in (staged(), toy_recipe()):
        with pytest.raises(RunError, match=r"stopped in its stage 2-frozen; continue it with --resume"):
            train(recipe, toy_source, tmp_path)
    assert train(staged(), toy_source, tmp_path, resume=True).steps == 6
    train(toy_recipe(), toy_source, tmp_path, overwrite=True)
    assert not (tmp_path / "stages").exists()


def test_a_copy_of_a_stage_among_them_is_kept_as_well(tmp_path: Path) -> None:
    copy = tmp_path / "stages" / "old frozen" / "checkpoint.safetensors"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"kept")
    assert has_run(tmp_path)
    with pytest.raises(RunError, match="stopped in its stage old frozen"):
        train(toy_recipe(), toy_source, tmp_path)
    assert copy.read_bytes() == b"kept"


def test_finished_stages_are_not_run_again_and_a_finished_run_is_summarised(tmp_path: Path) -> None:
    interrupted(staged(), tmp_path, place=2)
    done = tmp_path / "stages" / "2-frozen" / "log.jsonl"
    before = done.read_text()
    train(staged(), toy_source, tmp_path, resume=True)
    assert done.read_text() == before
    last = (tmp_path / "checkpoint.safetensors").read_bytes()
    assert train(staged(), toy_source, tmp_path, resume=True).steps == 6
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == last


def test_changed_recipe_or_data_is_refused(tmp_path: Path) -> None:
    interrupted(staged(), tmp_path, place=1)
    for changed, says in (
        (staged(weight_decay=0.1), r"weight_decay: 1e-05, 0\.1"),
        (staged(epochs=3), "epochs: 2, 3"),  # in the last training alone, which has not begun
    ):
        with pytest.raises(RunError, match=f"(?s)another recipe.*{says}"):
            train(changed, toy_source, tmp_path, resume=True)
    with pytest.raises(RunError, match="data's fingerprint"):
        train(staged(), toy_data(count=13), tmp_path, resume=True)
    with pytest.raises(RunError, match="no run to resume"):
        train(staged(), toy_source, tmp_path / "nothing", resume=True)


def test_mistake_in_the_last_stage_is_found_before_the_first(tmp_path: Path) -> None:
    train(staged(), toy_data(), tmp_path)
    for recipe, error, message in (
        (
            staged().with_overrides({"model": "action_resnet19", "plain.model": "tsm_resnet18"}),
            ModelError,
            "no network",
        ),
        (staged(frozen=("network.layer9",)), RecipeError, "no module 'network.layer9'"),
        (staged(width=16).with_overrides({"plain.width": 8}), RecipeError, "do not fit together, other shapes"),
    ):
        with pytest.raises(error, match=message):
            train(recipe, toy_data(), tmp_path, overwrite=True)
    assert read_checkpoint(tmp_path).progress.finished


def test_ready_made_sources_must_suit_every_stage(tmp_path: Path) -> None:
    recipe = staged().with_overrides({"plain.num_segments": 2})
    with pytest.raises(RecipeError, match=r"num_segments 2 instead of 4.*function from a recipe"):
        train(recipe, toy_data(), tmp_path)
    assert not tmp_path.joinpath("stages").exists()
    train(recipe, toy_source, tmp_path)
    assert load_network(tmp_path)[1].num_segments == 4


def test_only_the_first_stage_starts_from_given_weights(tmp_path: Path) -> None:
    train(toy_recipe(model="tsm_resnet18", epochs=1, milestones=()), toy_data(validation=False), tmp_path / "before")
    given = load_network(tmp_path / "before")[0].state_dict()["base_model.conv1.weight"]
    recipe = staged(lr=1e-12, starts_from="another network")
    train(recipe, toy_data(), tmp_path / "run", init=tmp_path / "before")
    torch.testing.assert_close(load_network(tmp_path / "run")[0].state_dict()["base_model.conv1.weight"], given)
    logs = [read_log(tmp_path / "run" / folder) for folder in ("stages/1-plain", "stages/2-frozen", ".")]
    texts = [" ".join(line["text"] for line in log if line["event"] == "note") for log in logs]
    assert ["dynagest weights" in text for text in texts] == [True, False, False]
    assert not any("WARNING" in text for text in texts)


@pytest.mark.parametrize("init", [".", "network.safetensors", "stages/1-plain"])
def test_weights_inside_the_run_that_is_replaced_are_not_lost(tmp_path: Path, init: str) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "stages" / "1-plain").mkdir(parents=True)
    train(toy_recipe(model="tsm_resnet18", epochs=1, milestones=()), toy_data(validation=False), tmp_path / "before")
    for folder in (run_dir, run_dir / "stages" / "1-plain"):
        for name in ("network.safetensors", "network.json"):
            (folder / name).write_bytes((tmp_path / "before" / name).read_bytes())
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"holds .*network\.safetensors, which init names.*name another folder"):
        train(staged(), toy_data(), run_dir, init=run_dir / init, overwrite=True)
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


def test_prernn_takes_the_layers_of_c3d(tmp_path: Path) -> None:
    """The fully connected weights become input-to-hidden; the recurrent ones are new."""
    first = {"model": "c3d", "num_segments": 9, "options": {}}
    recipe = toy_recipe(
        model="prernn_c3d", msd="none", num_segments=13, options={"clip": 9}, epochs=1, milestones=(), lr=1e-12
    ).with_overrides({"stages": [{"name": "c3d", "changes": first}]})
    train(recipe, toy_source, tmp_path)
    c3d, prernn = weights(tmp_path / "stages" / "1-c3d"), load_network(tmp_path)[0].state_dict()
    for name in ("fc6.weight", "fc7.weight", "features.conv1_1.0.weight", "classifier.weight"):
        torch.testing.assert_close(prernn[name], c3d[f"task.network.{name}"], rtol=0, atol=1e-6)
    report = hand_over(tmp_path / "stages" / "1-c3d", build_task(recipe, 3, CPU)[0])
    assert report.left == ("network.recurrent.fc6.weight", "network.recurrent.fc7.weight")
    assert report.unused == ()


@pytest.mark.slow
def test_two_processes_give_the_stages_of_one(tmp_path: Path) -> None:
    """MTUT, a third of the clips without depth: both networks, both stages, what is handed over."""
    recipe = toy_recipe(
        model="i3d", task="alignment", msd="none", align_at="features.mixed_3c", epochs=1, milestones=(), lr=1e-6
    ).with_overrides({"stages": [{"name": "apart", "changes": {"alignment_weight": 0}}], "alignment_weight": 0.5})
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    process = start(tmp_path / "two", "--recipe", str(tmp_path / "recipe.json"), "--sparse-depth", launcher=launcher)
    train(recipe, partial(toy_source, sparse_depth=True), tmp_path / "one")
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    for folder in ("stages/1-apart", "."):
        one, two = (weights(tmp_path / run / folder) for run in ("one", "two"))
        assert one.keys() == two.keys()
        for name, value in one.items():  # momentum is the gradients, so it would tell of a wrong share
            assert (two[name] - value).abs().max() <= 0.02 * value.abs().max() + 1e-6, name
        logs = [read_log(tmp_path / run / folder) for run in ("one", "two")]
        ours, theirs = (next(line for line in log if line["event"] == "epoch") for log in logs)
        for part in ("train", "validation"):
            shown = [name for name, value in ours[part].items() if value is not None]
            assert [theirs[part][name] for name in shown] == pytest.approx(
                [ours[part][name] for name in shown], rel=1e-3
            )


def test_networks_without_a_common_layer_are_refused(tmp_path: Path) -> None:
    recipe = toy_recipe(msd="none").with_overrides(
        {"stages": [{"name": "other", "changes": {"model": "segmentation_lstm", "width": 16}}]}
    )
    with pytest.raises(RecipeError, match=r"share no layer|other shapes"):
        train(recipe, toy_source, tmp_path)
