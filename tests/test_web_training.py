"""Training on what Teach recorded, as a client sees it: when it starts, how far it is, how it ends."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from teacher_files import luminance
from web_helpers import CARD, ORIGIN, body, client_of, make_site, post

from dynagest.clips.checks.check import check
from dynagest.clips.gesture_folder import write_clip
from dynagest.clips.manifest import Manifest
from dynagest.clips.pseudo_depth import PSEUDO, write_pseudo_depth
from dynagest.clips.teacher import Teacher
from dynagest.errors import DynagestError, RunError
from dynagest.networks.build import create_model
from dynagest.networks.weights import save_network
from dynagest.processes import KILLED, last_words
from dynagest.training.log import read_log
from dynagest.training.recipes import get_recipe
from dynagest.web import clips as web_clips
from dynagest.web import training as web_training
from dynagest.web.training import Status, Training, _length, _settings, _with_progress


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with client_of(make_site(tmp_path)) as made:
        yield made


def weights(folder: Path) -> Path:
    """What a training takes for a run folder until it starts."""
    folder.mkdir()
    (folder / "network.json").write_text(CARD.model_dump_json())
    return folder


def start(client: TestClient, content: bytes = b"{}", kind: str = "application/json") -> tuple[int, str]:
    """Start a training: the answer's status and error."""
    answer = client.post("/api/training", content=content, headers=ORIGIN | {"content-type": kind})
    return answer.status_code, answer.json().get("error", "")


def ended(client: TestClient, seconds: float = 60) -> dict[str, Any]:
    """How the training stands when it is over."""
    deadline = time.monotonic() + seconds
    while (found := client.get("/api/training").json())["state"] == "running":
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


LINE = {"event": "train", "time": 0.0, "step": 80, "epoch": 4.0, "lr": 0.1, "top1": 0.5}


class TestTraining:
    def test_what_it_needs(self, client: TestClient) -> None:
        assert client.get("/api/training").json()["state"] == "idle"
        status, error = start(client)
        assert status == 409
        assert "--init" in error
        assert client.delete("/api/training", headers=ORIGIN).status_code == 409

    @pytest.mark.parametrize(
        ("content", "kind", "status"),
        [
            (b"{", "application/json", 400),
            (b"\xff", "application/json", 400),
            (b"[" * 900, "application/json", 400),
            (b'{"epochs": 1000000}', "application/json", 422),
            (b"{}", "text/plain", 415),
            (b" " * 2000, "application/json", 413),
        ],
    )
    def test_bodies(self, client: TestClient, content: bytes, kind: str, status: int) -> None:
        assert start(client, content, kind)[0] == status

    def test_too_few_clips_then_one_at_a_time_then_cancelled(self, tmp_path: Path) -> None:
        with client_of(make_site(tmp_path, init=weights(tmp_path / "init"))) as client:
            assert "there is 0" in start(client)[1]
            post(client, "wave")
            post(client, "wave")
            post(client, "none")
            assert "none has fewer" in start(client)[1]
            post(client, "none")
            assert start(client)[0] == 202
            status, error = start(client)
            assert (status, "already" in error) == (409, True)
            assert client.delete("/api/training", headers=ORIGIN).status_code == 202
            assert ended(client)["state"] == "cancelled"

    def test_the_manifest_is_not_written_while_a_clip_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        site = make_site(tmp_path, init=weights(tmp_path / "init"))
        clips, training = site.clips, site.training
        assert clips is not None
        assert training is not None
        for label in ("wave", "none") * 2:
            clips.add(label, body())
        turns = []
        monkeypatch.setattr(web_clips, "refresh_manifest", lambda _: turns.append(clips._change.locked()))
        monkeypatch.setattr(Training, "_go", lambda *_: None)
        training.start()
        assert turns == [True]

    def test_it_learns_from_frames_chosen_as_the_network_was_used_to(self) -> None:
        card = CARD.model_copy(update={"sampling": "dense", "stride": 3, "options": {"online": True}})
        recipe = get_recipe("webcam").with_overrides(_settings(card))
        for field in ("model", "width", "size", "num_segments", "sampling", "stride", "options"):
            assert getattr(recipe, field) == getattr(card, field), field
        assert recipe.chained, "what remembers learns with a past"
        assert not get_recipe("webcam").with_overrides(_settings(CARD)).chained

    @pytest.mark.parametrize(("epochs", "rise"), [(1, 0.5), (2, 1.0), (40, 1.0)])
    def test_a_training_may_be_as_short_as_the_option_allows(self, epochs: int, rise: float) -> None:
        recipe = get_recipe("webcam").with_overrides(_length(epochs))
        assert (recipe.epochs, recipe.warmup_epochs) == (epochs, rise)

    def test_progress_while_a_line_is_being_written(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.json").write_text('{"epochs": 8}')
        line = json.dumps(LINE)
        before = Status("running", "Learning")
        assert _with_progress(before, tmp_path) == before
        (tmp_path / "log.jsonl").write_text(f"{line}\n{line[:20]}")
        assert _with_progress(before, tmp_path) == replace(before, epoch=5, epochs=8, top1=0.5, progress=0.4)
        assert _with_progress(replace(before, progress=0.3), tmp_path).progress == pytest.approx(0.55)

    def test_the_time_left_goes_by_the_pace_of_the_learning_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        training = make_site(tmp_path).training
        assert training is not None
        (tmp_path / "recipe.json").write_text('{"epochs": 8}')
        (tmp_path / "log.jsonl").write_text(json.dumps(LINE) + "\n")
        # Depth took from 0 to 1000 s, and 100 s of learning brought it from 0.3 to 0.55.
        training._status = Status("running", "Learning", progress=0.3)
        training._run, training._learning = tmp_path, 1000.0
        monkeypatch.setattr(web_training.time, "monotonic", lambda: 1100.0)
        found = training.status()
        assert found["progress"] == pytest.approx(0.55)
        assert found["left"] == 180.0

    def test_each_training_has_a_folder_of_its_own(self, tmp_path: Path) -> None:
        folders = [web_training._new_folder(tmp_path / "runs") for _ in range(3)]
        assert len({folder.resolve() for folder in folders if folder.is_dir()}) == 3
        (tmp_path / "file").touch()
        with pytest.raises(RunError, match=r"file: cannot be written \(Not a directory\); .*--runs"):
            web_training._new_folder(tmp_path / "file")

    def test_a_command_that_is_killed_is_told_by_its_signal(self, tmp_path: Path) -> None:
        training = make_site(tmp_path).training
        assert training is not None
        code = "import os, signal; print('epoch 2/40', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
        with pytest.raises(DynagestError, match=r"^Learning: Killed from outside, as when memory runs out"):
            training._do("Learning", [sys.executable, "-c", code])

    def test_a_command_that_does_not_stop_when_cancelled_is_killed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        training = make_site(tmp_path).training
        assert training is not None
        training._status = Status("running")
        started: list[subprocess.Popen[str]] = []
        popen = subprocess.Popen

        def start(*given: Any, **named: Any) -> "subprocess.Popen[str]":
            started.append(popen(*given, **named))
            return started[0]

        deaf = tmp_path / "deaf"
        code = f"import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); open({str(deaf)!r}, 'w'); "
        code += "time.sleep(20)"
        monkeypatch.setattr(web_training, "PATIENCE", 0.1)
        monkeypatch.setattr(web_training.subprocess, "Popen", start)

        def cancel() -> None:
            while not deaf.exists():
                time.sleep(0.01)
            training.cancel()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        with pytest.raises(web_training._Stopped):
            training._do("Learning", [sys.executable, "-c", code])
        canceller.join()
        assert started[0].returncode == KILLED

    @pytest.mark.parametrize(("epochs", "told"), [(None, set()), (3, {"epochs=3", "warmup_epochs=1.0"})])
    def test_the_recipe_says_how_long_unless_the_server_was_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int | None, told: set[str]
    ) -> None:
        training = make_site(tmp_path, init=weights(tmp_path / "init")).training
        assert training is not None
        training.epochs = epochs
        commands: list[list[str]] = []
        monkeypatch.setattr(training, "_do", lambda stage, command, unless="": commands.append(list(command)))
        monkeypatch.setattr(training, "adopt", lambda path: None)
        training._go(tmp_path / "init", CARD)
        assert {part for part in commands[0] if "epochs=" in part} == told

    def test_the_server_closes_while_a_training_ends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        training = make_site(tmp_path).training
        assert training is not None
        training._status = Status("running")
        cancel = training.cancel
        monkeypatch.setattr(training, "cancel", lambda: (training._end("done"), cancel()))
        training.close()
        assert training.status()["state"] == "done"

    @pytest.mark.parametrize(
        ("output", "said"),
        [
            (
                "epoch 1\nerror: a.onnx: the runtime says: error: no memory\n",
                "a.onnx: the runtime says: error: no memory",
            ),
            ("\x1b[1;31merror:\x1b[0m these runs failed:\n  a\n", "these runs failed:\n  a"),
            ("Traceback ...\nKeyError: 3\n", "Traceback ...\nKeyError: 3"),
        ],
    )
    def test_of_a_command_that_failed_the_message_is_told(self, output: str, said: str) -> None:
        assert last_words(output) == said

    @pytest.mark.slow
    def test_a_training_that_fails_says_why(self, tmp_path: Path) -> None:
        init = tmp_path / "init"
        init.mkdir()
        (init / "network.json").write_text(CARD.model_copy(update={"model": "no_such_network"}).model_dump_json())
        with client_of(make_site(tmp_path, init=init)) as client:
            for label in ("wave", "none") * 2:
                post(client, label)
            assert start(client)[0] == 202
            found = ended(client, 120)
        assert found["state"] == "failed"
        assert "no_such_network" in found["message"]
        assert "Traceback" not in found["message"]


# `dynagest`, but it stays at the clips of this name until it is stopped.
STAYS = """
import time
from dynagest.clips import pseudo_depth
from dynagest.cli import main
look = pseudo_depth._depth_of
pseudo_depth._depth_of = lambda video, model: time.sleep(600) if video.stem == "002" else look(video, model)
main()
"""


class TestTeacher:
    """With a teacher the clips get depth first. What comes after it is told by the commands, but for the last test."""

    @pytest.fixture
    def commands(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What was to be run after the depth."""
        ran: list[str] = []
        do = Training._do

        def only_depth(self: Training, stage: str, command: Any, unless: str = "") -> str:
            if stage == "Looking for depth":
                return do(self, stage, command, unless)
            ran.append(" ".join(command))
            return ""

        monkeypatch.setattr(Training, "_do", only_depth)
        return ran

    @pytest.fixture
    def client(self, tmp_path: Path) -> Iterator[TestClient]:
        teacher = luminance(tmp_path / "t.onnx")
        with client_of(make_site(tmp_path, init=weights(tmp_path / "init"), teacher=teacher)) as made:
            for label in ("wave", "none") * 2:
                assert post(made, label)[0] == 201
            yield made

    def with_depth(self, folder: Path) -> dict[str, bool]:
        clips = Manifest.read(folder / "gestures").clips
        return {f"{clip.label}/{clip.video.stem}": clip.depth is not None for clip in clips}

    def test_clips_get_depth_and_both_decoders_learn(
        self, client: TestClient, commands: list[str], tmp_path: Path
    ) -> None:
        folder = tmp_path / "gestures"
        assert start(client)[0] == 202
        found = ended(client)
        assert (found["state"], found["note"]) == ("done", "")
        assert self.with_depth(tmp_path) == dict.fromkeys(("none/001", "none/002", "wave/001", "wave/002"), True)
        train, export = commands
        assert " train webcam " in train
        assert train.endswith("--set msd=both")
        assert " export " in export
        manifest = Manifest.read(folder)
        assert manifest.depth == PSEUDO
        assert not check(manifest, 8).errors

        # Later clips are recorded beside it, get theirs at the next training, and take it along when they go.
        assert post(client, "wave")[0] == 201
        assert self.with_depth(tmp_path)["wave/003"] is False
        assert sum(self.with_depth(tmp_path).values()) == 4
        assert start(client)[0] == 202
        assert ended(client)["state"] == "done"
        assert all(self.with_depth(tmp_path).values())
        for name in self.with_depth(tmp_path):
            label, clip = name.split("/")
            assert (folder / label / f"{clip}.depth.npz").exists()
            assert client.delete(f"/api/gestures/{label}/clips/{clip}", headers=ORIGIN).status_code == 204
        assert list(folder.iterdir()) == []

    def test_a_clip_that_cannot_be_read_ends_nothing(
        self, client: TestClient, commands: list[str], tmp_path: Path
    ) -> None:
        broken = tmp_path / "gestures" / "wave" / "002.mkv"
        broken.write_bytes(broken.read_bytes()[:500])
        assert start(client)[0] == 202
        found = ended(client)
        assert found["state"] == "done"
        assert found["note"].startswith(f"1 of 4 clips taught without depth: {broken}: ")
        assert self.with_depth(tmp_path) == {"wave/001": True, "none/001": True, "wave/002": False, "none/002": True}
        assert len(commands) == 2

    def test_no_clip_gets_depth(self, client: TestClient, commands: list[str], tmp_path: Path) -> None:
        luminance(tmp_path / "t.onnx", weights=(0, 0, 0), offset=1.0)
        assert start(client)[0] == 202
        found = ended(client)
        assert found["state"] == "failed"
        assert "no clip got depth from t.onnx: " in found["message"]
        assert "the teacher sees the same depth everywhere" in found["message"]
        assert commands == []

    def test_a_teacher_that_is_gone_or_another_one(
        self, client: TestClient, commands: list[str], tmp_path: Path
    ) -> None:
        (tmp_path / "t.onnx").unlink()
        assert start(client)[0] == 202
        found = ended(client)
        assert (found["state"], "t.onnx: cannot be read" in found["message"]) == ("failed", True)
        luminance(tmp_path / "t.onnx")
        write_pseudo_depth(Manifest.read(tmp_path / "gestures"), Teacher(luminance(tmp_path / "other.onnx")))
        assert start(client)[0] == 202
        found = ended(client)
        assert found["state"] == "failed"
        assert "the depth here is of other.onnx" in found["message"]
        assert f"--teacher {tmp_path / 't.onnx'} --overwrite` makes it again" in found["message"]
        assert commands == []

    def test_cancelled_between_two_clips(
        self, client: TestClient, commands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(web_training, "_COMMAND", (sys.executable, "-c", STAYS))
            assert start(client)[0] == 202
            deadline = time.monotonic() + 60
            while (found := client.get("/api/training").json())["stage"] != "Looking for depth: 2 of 4 clips":
                assert found["state"] == "running", found
                assert time.monotonic() < deadline, found
                time.sleep(0.1)
            assert (found["progress"], found["left"]) == (0.15, None)
            assert client.delete("/api/training", headers=ORIGIN).status_code == 202
            found = ended(client)
        assert (found["state"], found["progress"], commands) == ("cancelled", 0.0, [])
        # What there is stays, recording goes on, and so does the next training.
        assert post(client, "wave")[0] == 201
        assert client.delete("/api/gestures/wave/clips/001", headers=ORIGIN).status_code == 204
        assert start(client)[0] == 202
        assert ended(client)["state"] == "done"
        assert self.with_depth(tmp_path) == dict.fromkeys(("none/001", "wave/002", "none/002", "wave/003"), True)

    @pytest.mark.slow
    def test_from_clips_to_a_network(self, tmp_path: Path) -> None:
        init = tmp_path / "init"
        save_network(init, create_model("action_resnet18", 2, 8, width=16).eval(), CARD)
        site = make_site(tmp_path, init=init, teacher=luminance(tmp_path / "t.onnx"))
        assert site.training is not None
        site.training.epochs = 2
        for label in ("wave", "none") * 2:
            frames = np.random.default_rng(0).integers(0, 256, (10, 48, 64, 3), dtype=np.uint8)
            write_clip(tmp_path / "gestures", label, list(frames), [index / 10 for index in range(10)])
        with client_of(site) as client:
            assert start(client)[0] == 202
            found = ended(client, 300)
        assert (found["state"], found["note"], found["progress"]) == ("done", "", 1.0), found
        (run,) = (tmp_path / "runs").iterdir()
        assert json.loads((run / "recipe.json").read_text())["msd"] == "both"
        assert (run / "decoders.safetensors").exists()
        assert (run / "network-fp32.onnx").exists()
        learned = [line for line in read_log(run) if line["event"] == "train"]
        assert all(line["local"] > 0 and line["global"] > 0 for line in learned)
        assert learned[-1]["epoch"] == 2
