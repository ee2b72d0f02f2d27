"""The training run: what it leaves behind, what it starts from, and what changes nothing about it."""

import json
import os
import shutil
from io import StringIO
from pathlib import Path

import pytest
import torch
from clip_files import make_clip, make_manifest
from rich.console import Console
from safetensors.torch import load_file
from training_toys import CLASSES, ToyClips, assert_same, toy_data, toy_recipe, weights

from dynagest.clips.depth import DepthSpec
from dynagest.clips.labelled import UnreadableClip
from dynagest.errors import RunError
from dynagest.networks.weights import load_network
from dynagest.run_folder import trained_on
from dynagest.task.saved import load_decoders
from dynagest.training.assemble import build_task
from dynagest.training.checkpoint import read_checkpoint
from dynagest.training.data import TrainingData
from dynagest.training.engine import Engine
from dynagest.training.folder import has_run, read_recipe
from dynagest.training.log import read_log
from dynagest.training.sums import Sums
from dynagest.training.trainer import train

CPU = torch.device("cpu")


def test_run_folder_explains_itself(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        *("recipe.json", "environment.json", "log.jsonl", "tensorboard", "checkpoint.safetensors"),
        *("network.safetensors", "network.json", "decoders.safetensors", "decoders.json"),
    }
    assert json.loads((finished / "recipe.json").read_text())["model"] == "action_resnet18"
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert (environment["data"], environment["seed"], environment["processes"]) == ("toy clips", 0, 1)


def test_trains_on_the_recipes_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    update = Engine.update
    monkeypatch.setattr(Engine, "update", lambda engine: (used.append(torch.get_num_threads()), update(engine)))
    train(toy_recipe(threads=2), toy_data(), tmp_path)
    assert set(used) == {2}
    assert torch.get_num_threads() == 1, "as it was before"
    assert json.loads((tmp_path / "environment.json").read_text())["threads"] == 2


def test_folder_tells_whether_there_is_a_run_and_on_what(finished: Path, tmp_path: Path) -> None:
    assert has_run(finished)
    assert not has_run(tmp_path)
    with pytest.raises(RunError, match="name the data with --data"):
        trained_on(finished)
    (tmp_path / "environment.json").write_text(json.dumps({"data": str(finished)}))
    assert trained_on(tmp_path) == finished
    with pytest.raises(RunError, match="does not tell"):
        trained_on(tmp_path / "nothing")


def test_log(finished: Path) -> None:
    lines = read_log(finished)
    epochs = [line for line in lines if line["event"] == "epoch"]
    assert [(line["epoch"], line["step"], line["train"]["clips"], line["validation"]["clips"]) for line in epochs] == [
        *((1, 3, 12, 6), (2, 6, 12, 6))
    ]
    assert epochs[0]["best"]
    steps = [line for line in lines if line["event"] == "train"]
    assert [line["step"] for line in steps] == [2, 3, 5, 6]
    assert [line["lr"] for line in steps] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    for line in steps:
        assert line["loss"] == pytest.approx(line["cross_entropy"] + line["local"] + 0.01 * line["global"])
        assert line["grad_norm"] > 0


def test_saved_network_is_the_one_with_the_best_validation(finished: Path) -> None:
    net, card = load_network(finished)
    assert (card.classes, card.model, card.num_segments, card.size, card.width) == (
        CLASSES,
        "action_resnet18",
        4,
        32,
        8,
    )
    assert not any("decoder" in name for name in net.state_dict())
    best = read_checkpoint(finished).progress.best
    assert best is not None
    assert int(card.provenance["epoch"]) == best.epoch
    clips = ToyClips(6, seed=1)
    rgb = torch.stack([clips[(0, index)]["rgb"] for index in range(6)]).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.mean, card.std))
    with torch.no_grad():
        predicted = net.eval()((rgb - mean) / std).argmax(dim=1)
    assert (predicted == torch.arange(6) % 3).float().mean().item() == pytest.approx(best.top1)


def test_the_epoch_of_the_best_accuracy_is_kept_and_among_equals_that_of_the_lower_class_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a run that was stopped after that epoch and is resumed."""
    # Clips recognised of six, and the sums of cross-entropy and local error; the total loss would choose otherwise.
    epochs = [(3, 3.0, 0.1), (4, 9.0, 0.1), (4, 8.0, 6.0), (4, 8.5, 0.1), (3, 1.0, 0.1), (4, 8.0, 6.0)]
    left = list(epochs)

    def validate(engine: Engine, loader: object) -> tuple[Sums, list[UnreadableClip]]:
        if len(left) == 2 and not stopped:
            stopped.append(True)
            raise RunError("the disk is full")
        correct, *terms = left.pop(0)
        return Sums(6.0, 6.0, correct, (*terms, 0.0)), []

    stopped: list[bool] = []
    monkeypatch.setattr(Engine, "validate", validate)
    recipe = toy_recipe(epochs=6, batch=12)
    with pytest.raises(RunError):
        train(recipe, toy_data(), tmp_path)
    sitting = read_checkpoint(tmp_path)
    long = sitting.model_copy(update={"progress": sitting.progress.model_copy(update={"seconds": 1000.0})})
    monkeypatch.setattr("dynagest.training.trainer.read_checkpoint", lambda run_dir: long)
    summary = train(recipe, toy_data(), tmp_path, resume=True)
    assert summary.seconds > 1000  # of both sittings
    assert (summary.best_epoch, summary.best_top1) == (3, pytest.approx(4 / 6))
    assert load_network(tmp_path)[1].provenance["epoch"] == "3"
    log = [line for line in read_log(tmp_path) if line["event"] == "epoch"]
    assert [line["best"] for line in log] == [True, True, True, False, False, False]


def test_saved_decoders_fit_the_saved_network(finished: Path) -> None:
    net, _ = load_network(finished)
    msd = load_decoders(finished, net)
    with torch.no_grad(), msd.attached(net.eval()) as taps:
        net(torch.zeros(1, 4, 3, 32, 32))
        masks = msd(taps)
    assert masks.local.shape == (4, 1, 32, 32)
    assert masks.global_.shape == (4, 1, 8, 8)


def test_it_learns(tmp_path: Path) -> None:
    recipe = toy_recipe(model="tsm_resnet18", epochs=8, schedule="cosine")
    summary = train(recipe, toy_data(count=48), tmp_path / "run")
    assert summary.best_top1 is not None
    assert summary.best_top1 > 0.8  # chance: 1/3
    epochs = [line for line in read_log(tmp_path / "run") if line["event"] == "epoch"]
    assert epochs[-1]["validation"]["local"] < 0.5 * epochs[0]["validation"]["local"]


@pytest.mark.parametrize("changes", [{}, {"precision": "bf16"}, {"accumulate": 2}])
def test_same_seed_same_weights(tmp_path: Path, changes: dict[str, object]) -> None:
    recipe = toy_recipe(epochs=1, milestones=(), dropout=0.2, **changes)
    train(recipe, toy_data(), tmp_path / "one")
    torch.rand(3)  # whatever else the process does with the global generator
    train(recipe, toy_data(), tmp_path / "two")
    assert_same(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_training_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    train(toy_recipe(epochs=1, milestones=()), toy_data(), tmp_path / "run")
    assert torch.equal(torch.rand(1), expected)


def test_building_a_network_leaves_the_generators_of_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    build_task(toy_recipe(), 3, CPU)
    assert not seeded


def test_workers_change_nothing(tmp_path: Path) -> None:
    for workers in (0, 2):
        train(toy_recipe(epochs=1, milestones=(), workers=workers), toy_data(), tmp_path / str(workers))
    assert_same(weights(tmp_path / "0"), weights(tmp_path / "2"))


def test_accumulating_is_one_step_of_the_same_clips(tmp_path: Path) -> None:
    train(toy_recipe(epochs=1, milestones=(), accumulate=3), toy_data(), tmp_path / "parts")
    assert read_checkpoint(tmp_path / "parts").progress.step == 3
    epochs = [line for line in read_log(tmp_path / "parts") if line["event"] == "epoch"]
    assert epochs[0]["train"]["clips"] == 12


def test_last_epoch_is_kept_without_validation(tmp_path: Path) -> None:
    summary = train(toy_recipe(), toy_data(validation=False), tmp_path / "run")
    assert (summary.best_epoch, summary.best_top1) == (None, None)
    saved = load_file(tmp_path / "run" / "network.safetensors")
    last = {name.removeprefix("task.network."): value for name, value in weights(tmp_path / "run").items()}
    assert all(torch.equal(value, last[name]) for name, value in saved.items())


def test_few_clips_are_looked_at_until_there_are_enough_steps(tmp_path: Path) -> None:
    recipe, console = toy_recipe(fewest_steps=7), Console(file=StringIO(), width=200)
    summary = train(recipe, toy_data(), tmp_path, console=console)  # 12 clips in batches of 4
    assert (summary.epochs, summary.steps) == (3, 9)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "3 epochs instead of 2, so that 12 clips make 7 steps (--set epochs=2 keeps to 2)" in told
    assert json.loads((tmp_path / "recipe.json").read_text())["epochs"] == 3
    for again in (recipe, read_recipe(tmp_path)):
        assert train(again, toy_data(), tmp_path, resume=True).steps == 9


def test_start_from_a_run(finished: Path, tmp_path: Path) -> None:
    trained = load_network(finished)[0].state_dict()
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    train(toy_recipe(epochs=1, milestones=(), lr=1e-12), toy_data(), tmp_path / "run", init=finished, console=console)
    started = load_network(tmp_path / "run")[0].state_dict()
    name = "base_model.layer4.0.conv1.net.weight"
    torch.testing.assert_close(started[name], trained[name], rtol=0, atol=1e-6)
    assert "start from" in console.export_text()


def test_start_from_the_file_that_a_run_is_resumed_from(finished: Path, tmp_path: Path) -> None:
    last = weights(finished)
    recipe = toy_recipe(epochs=1, milestones=(), lr=1e-12)
    train(recipe, toy_data(validation=False), tmp_path, init=finished / "checkpoint.safetensors")
    started = load_network(tmp_path)[0].state_dict()
    for name in ("base_model.layer4.0.conv1.net.weight", "classifier.weight"):
        torch.testing.assert_close(started[name], last[f"task.network.{name}"], rtol=0, atol=1e-6)


def test_tensorboard_reads_the_scalars(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(finished / "tensorboard")).Reload()
    ours = {line["step"]: line["loss"] for line in read_log(finished) if line["event"] == "train"}
    theirs = {event.step: event.value for event in board.Scalars("train/loss")}
    assert theirs == pytest.approx(ours)
    assert [event.step for event in board.Scalars("epoch/validation/top1")] == [3, 6]


def test_a_recipe_made_for_fine_tuning_says_so_when_it_starts_from_scratch(finished: Path, tmp_path: Path) -> None:
    recipe = toy_recipe(epochs=1, milestones=(), starts_from="the EgoGesture model")
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    train(recipe, toy_data(validation=False), tmp_path / "scratch", console=console)
    notes = [line["text"] for line in read_log(tmp_path / "scratch") if line["event"] == "note"]
    for said in (console.export_text(), "\n".join(notes)):
        assert "WARNING: the recipe toy is meant to start from the EgoGesture model" in said
        assert "--init" in said
    train(recipe, toy_data(validation=False), tmp_path / "tuned", init=finished)
    assert not [line for line in read_log(tmp_path / "tuned") if "WARNING" in line.get("text", "")]


@pytest.mark.parametrize(("near", "msd", "warned"), [("dark", "both", 1), ("dark", "none", 0), ("bright", "both", 0)])
def test_warns_of_depth_that_is_upside_down(near: str, msd: str, warned: int, tmp_path: Path) -> None:
    made = [make_clip(tmp_path, f"{k}", "ab"[k % 2]) for k in range(6)]
    manifest = make_manifest(*made, depth=DepthSpec(near=near)).write(tmp_path / "manifest.csv")
    recipe = toy_recipe(epochs=1, milestones=(), msd=msd, validate_on=None)
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    train(recipe, manifest, tmp_path / "run", console=console)
    notes = [line["text"] for line in read_log(tmp_path / "run") if line["event"] == "note"]
    says = f"WARNING: {tmp_path / 'depth.yaml'}: declared near = dark; 6 clips look near = bright"
    for said in (console.export_text(), "\n".join(notes)):
        assert said.count(says) == warned == said.count("WARNING")
    train(recipe, manifest, tmp_path / "run", resume=True)
    assert sum("WARNING" in line.get("text", "") for line in read_log(tmp_path / "run")) == warned


def test_the_card_names_the_data_without_the_path_on_this_machine(tmp_path: Path) -> None:
    data = TrainingData.of_sources(ToyClips(), None, "/home/anna/my_clips/manifest.csv")
    train(toy_recipe(epochs=1, milestones=()), data, tmp_path)
    assert load_network(tmp_path)[1].provenance["data"] == "my_clips/manifest.csv"
    assert json.loads((tmp_path / "environment.json").read_text())["data"] == "/home/anna/my_clips/manifest.csv"


def test_the_card_tells_how_clips_were_sampled(tmp_path: Path) -> None:
    recipe = toy_recipe(epochs=1, milestones=(), sampling="dense", stride=3)
    train(recipe, toy_data(validation=False), tmp_path)
    card = load_network(tmp_path)[1]
    assert (card.sampling, card.stride) == ("dense", 3)


def test_decoders_of_the_run_that_is_started_from_go_on_where_they_fit(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    old = dict(load_decoders(run, load_network(run)[0]).parts())

    def kept(**changes: object) -> tuple[str, ...]:
        """The kinds that are said to be taken over; these have the old weights, and no others."""
        task, begun = build_task(toy_recipe(init=str(run), seed=7, **changes), len(CLASSES), CPU)
        assert begun is not None
        for kind, decoder in task.decoder.parts() if task.decoder else ():
            pairs = zip(decoder.state_dict().values(), old[kind].state_dict().values(), strict=False)
            assert all(torch.equal(*pair) for pair in pairs) == (kind in begun.decoders)
        assert ("with its decoders: " + ", ".join(begun.decoders) in str(begun)) == bool(begun.decoders)
        return begun.decoders

    assert kept() == ("local", "global")
    assert kept(msd="global") == ("global",)
    assert kept(global_scale="full") == ("local",)
    assert kept(msd="none") == ()
    assert kept(size=64) == ("local", "global")
    (run / "decoders.safetensors").unlink()
    assert kept() == ()
