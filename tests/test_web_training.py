"""Training on what Teach recorded, as a client sees it: when it starts, how far it is, how it ends."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from web_helpers import CARD, ORIGIN, body, client_of, make_site, post

from dynagest.training.recipes import get_recipe
from dynagest.web import clips as web_clips
from dynagest.web.training import Status, Training, _settings, _with_progress


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with client_of(make_site(tmp_path)) as made:
        yield made


def weights(folder: Path) -> Path:
    """What a training takes for a run folder until it starts."""
    folder.mkdir()
    (folder / "network.json").write_text(CARD.model_dump_json())
    return folder


class TestTraining:
    def start(self, client: TestClient, content: bytes = b"{}", kind: str = "application/json") -> tuple[int, str]:
        answer = client.post("/api/training", content=content, headers=ORIGIN | {"content-type": kind})
        return answer.status_code, answer.json().get("error", "")

    def test_what_it_needs(self, client: TestClient) -> None:
        assert client.get("/api/training").json()["state"] == "idle"
        status, error = self.start(client)
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
        assert self.start(client, content, kind)[0] == status

    def test_too_few_clips_then_one_at_a_time_then_cancelled(self, tmp_path: Path) -> None:
        with client_of(make_site(tmp_path, init=weights(tmp_path / "init"))) as client:
            assert "there is 0" in self.start(client)[1]
            post(client, "wave")
            post(client, "wave")
            post(client, "none")
            assert "none has fewer" in self.start(client)[1]
            post(client, "none")
            assert self.start(client)[0] == 202
            status, error = self.start(client)
            assert (status, "already" in error) == (409, True)
            assert client.delete("/api/training", headers=ORIGIN).status_code == 202
            deadline = time.monotonic() + 60
            while (found := client.get("/api/training").json())["state"] == "running":
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert found["state"] == "cancelled"

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

    def test_progress_while_a_line_is_being_written(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.json").write_text('{"epochs": 8}')
        line = json.dumps({"event": "train", "epoch": 4.0, "top1": 0.5})
        before = Status("running", "Learning")
        assert _with_progress(before, tmp_path) == before
        (tmp_path / "log.jsonl").write_text(f"{line}\n{line[:20]}")
        assert _with_progress(before, tmp_path) == replace(before, epoch=5, epochs=8, top1=0.5, progress=0.4)

    @pytest.mark.slow
    def test_a_training_that_fails_says_why(self, tmp_path: Path) -> None:
        init = tmp_path / "init"
        init.mkdir()
        (init / "network.json").write_text(CARD.model_copy(update={"model": "no_such_network"}).model_dump_json())
        with client_of(make_site(tmp_path, init=init)) as client:
            for label in ("wave", "none") * 2:
                post(client, label)
            assert self.start(client)[0] == 202
            deadline = time.monotonic() + 120
            while (found := client.get("/api/training").json())["state"] == "running":
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert found["state"] == "failed"
        assert "no_such_network" in found["message"]
        assert "Traceback" not in found["message"]
