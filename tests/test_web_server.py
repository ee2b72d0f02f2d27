"""The server of the web page against everything that a client can send: each is refused with words, none does harm."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from export_helpers import export_colours
from starlette.testclient import TestClient
from teacher_files import luminance
from web_helpers import CARD, ORIGIN, body, client_of, make_site, request, running

from dynagest.cli.serve import serve as serve_command
from dynagest.clips.gesture_folder import write_clip
from dynagest.clips.manifest import Manifest
from dynagest.clips.pseudo_depth import write_pseudo_depth
from dynagest.clips.teacher import Teacher
from dynagest.errors import DepthError, DynagestError, ModelError, RunError, WeightsError
from dynagest.web import serve as serving
from dynagest.web.app import ASSETS, STATIC, Site, create_app
from dynagest.web.guard import Rate
from dynagest.web.model import load_model
from dynagest.web.recording import CLIP_TYPE
from dynagest.web.runtime import fetch_runtime, find_runtime


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    with client_of(site) as made:
        yield made


class TestPage:
    def test_every_asset_is_there_and_every_file_is_an_asset(self, client: TestClient) -> None:
        assert {path.name for path in STATIC.iterdir()} == set(ASSETS)
        for name, kind in ASSETS.items():
            answer = client.get(f"/static/{name}")
            assert (answer.status_code, answer.headers["content-type"]) == (200, kind)

    def test_every_script_that_one_imports_is_served(self) -> None:
        for path in STATIC.glob("*.js"):
            for name in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")):
                assert name in ASSETS

    def test_nothing_comes_from_elsewhere(self) -> None:
        for path in STATIC.iterdir():
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert "//" not in re.sub(r"(?m)^\s*//.*$|\s// .*$", "", text).replace("http://localhost", "")

    @pytest.mark.parametrize("path", ["/", "/static/nothing.js", "/api/model", "/model/00.onnx", "/api/gestures"])
    def test_headers_on_every_answer(self, client: TestClient, path: str) -> None:
        headers = client.get(path).headers
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-embedder-policy"] == "require-corp"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe-inline" not in policy
        assert "'unsafe-eval'" not in policy

    def test_what_browsers_may_keep(self, client: TestClient) -> None:
        """For ever what is named by its content or version; a file of the page, if this server says it is the same."""
        about = client.get("/api/model").json()
        for path in (about["url"], f"{about['runtime']}ort.wasm.min.mjs"):
            assert client.get(path).headers["cache-control"] == "public, max-age=31536000, immutable"
        for path in ("/", "/static/app.js"):
            assert client.get(path).headers["cache-control"] == "no-cache"
        for path in ("/api/model", "/model/ffff.onnx", "/runtime/1.0/ort.wasm.min.mjs"):
            assert client.get(path).headers["cache-control"] == "no-store"

    def test_model(self, client: TestClient) -> None:
        about = client.get("/api/model").json()
        assert about["card"]["classes"] == ["wave", "none"]
        assert about["events"]["threshold"] == 0.6
        assert client.get(about["url"]).content == b"not a network"
        assert client.get("/model/ffff.onnx").json() == {
            "error": "this network was replaced by another one; load the page again"
        }

    def test_a_network_that_was_replaced_stays_for_one_more(self, site: Site) -> None:
        first = site.models.current
        site.models.put(replace(first, key="1" * 32))
        assert site.models.get("0" * 32) is first
        site.models.put(replace(first, key="2" * 32))
        assert site.models.get("0" * 32) is None
        assert site.models.current.key == "2" * 32

    def test_runtime_by_version_and_name(self, client: TestClient) -> None:
        base = client.get("/api/model").json()["runtime"]
        assert client.get(f"{base}ort.wasm.min.mjs").headers["content-type"].startswith("text/javascript")
        for wrong in (f"{base}other.mjs", "/runtime/1.0/ort.wasm.min.mjs"):
            assert client.get(wrong).status_code == 404


def test_the_server_needs_no_torch() -> None:
    code = "import sys; import dynagest.web.serve; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "/static/../app.py",
            "/static/%2e%2e/app.py",
            "/static/..%2fapp.py",
            "/static/%2e%2e%2f%2e%2e%2fcard.py",
            "/static//etc/passwd",
            "//etc/passwd",
            "/static/style.css%00.js",
            "/static/..%5capp.py",
            "/static/",
            "/static",
            "/runtime/",
            "/docs",
            "/openapi.json",
            "/app.py",
        ],
    )
    def test_no_other_file_and_no_listing(self, site: Site, path: str) -> None:
        # On a socket: a client library would tidy the path up.
        with running(create_app(site)) as port:
            status, text = request(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert status in (400, 404)
        assert "error" in json.loads(text)

    def test_other_methods(self, client: TestClient) -> None:
        for method in ("PUT", "PATCH", "OPTIONS", "TRACE"):
            assert client.request(method, "/", headers=ORIGIN).status_code == 405
        assert client.post("/static/app.js", headers=ORIGIN).status_code == 405

    @pytest.mark.parametrize(
        "given", ["bytes=0-3", "bytes=0-3,5-9", "bytes=99999999-", "bytes=x", "lines=1-2", "bytes=" + "0-1," * 4000]
    )
    def test_a_part_of_a_file_is_answered_with_the_whole(self, client: TestClient, given: str) -> None:
        """So no range is refused in words of another form, or costs time (CVE-2025-62727)."""
        whole = client.get("/static/app.js")
        answer = client.get("/static/app.js", headers={"range": given, "if-range": whole.headers["etag"]})
        assert (answer.status_code, answer.content) == (200, whole.content)
        assert answer.headers["accept-ranges"] == "none"


class TestWho:
    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "gestures.lan", "192.168.0.9"]
    )
    def test_hosts_that_are_answered(self, client: TestClient, host: str) -> None:
        assert client.get("/api/model", headers={"host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "a b", "[::g]", "localhost:8000@x"]
    )
    def test_a_name_that_leads_here_by_rebinding_is_not(self, client: TestClient, host: str) -> None:
        answer = client.get("/api/gestures", headers={"host": host})
        assert answer.status_code == 421
        assert "--name" in answer.json()["error"]

    @pytest.mark.parametrize(
        "origin",
        [None, "null", "http://evil.example", "https://localhost:8000", "http://localhost:8001", "http://localhost"],
    )
    def test_only_the_page_itself_may_write(self, client: TestClient, site: Site, origin: str | None) -> None:
        headers = {"content-type": CLIP_TYPE} | ({"origin": origin} if origin else {})
        answer = client.post("/api/gestures/wave/clips", content=body(), headers=headers)
        assert answer.status_code == 403
        assert client.delete("/api/training", headers=headers).status_code == 403
        assert site.clips is not None
        assert site.clips.listing() == []

    def test_two_hosts(self, site: Site) -> None:
        with running(create_app(site)) as port:
            status, _ = request(
                port, "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
            )
        assert status == 400

    def test_too_often(self, site: Site) -> None:
        with client_of(site, writes_a_minute=8) as client:
            answers = [client.delete("/api/training", headers=ORIGIN) for _ in range(4)]
            assert [answer.status_code for answer in answers] == [409, 409, 429, 429]
            assert [answer.headers.get("retry-after") for answer in answers] == [None, None, "5", "5"]
            assert client.get("/api/model").status_code == 200

    def test_rate_refills_and_forgets(self) -> None:
        now = [0.0]
        rate = Rate(60, lambda: now[0])
        assert [rate.allows("a") for _ in range(16)] == [True] * 15 + [False]
        assert rate.allows("b")
        now[0] = 2.0
        assert [rate.allows("a") for _ in range(3)] == [True, True, False]
        now[0] = 9000.0
        assert [rate.allows("a") for _ in range(16)] == [True] * 15 + [False], "as many at once as at first"
        for other in range(3000):
            rate.allows(str(other))
        assert [rate.allows("c") for _ in range(16)] == [True] * 15 + [False], "the last ones are remembered"
        assert len(rate._left) == 1024


class TestStart:
    def test_without_the_runtime_it_says_what_to_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DYNAGEST_CACHE", str(tmp_path))
        with pytest.raises(RunError, match="dynagest serve --fetch-runtime"):
            find_runtime()

    def test_a_user_without_a_home_is_told_to_name_a_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("DYNAGEST_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(name, raising=False)

        def nowhere() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", nowhere)
        with pytest.raises(RunError, match="DYNAGEST_CACHE"):
            find_runtime()

    def test_a_runtime_that_was_tampered_with(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DYNAGEST_CACHE", str(tmp_path / "cache"))
        (tmp_path / "other.tgz").write_bytes(b"other")
        with pytest.raises(RunError, match="nothing of it was used"):
            fetch_runtime(tmp_path / "other.tgz")
        with pytest.raises(RunError, match="cannot be read"):
            fetch_runtime(tmp_path / "missing.tgz")
        assert list((tmp_path / "cache").iterdir()) == []

    def test_models_that_are_none(self, tmp_path: Path) -> None:
        (tmp_path / "text.onnx").write_text("hello")
        for path in (tmp_path / "missing.onnx", tmp_path / "text.onnx"):
            with pytest.raises(DynagestError, match=path.name):
                load_model(path)
        with pytest.raises(WeightsError, match=r"nowhere: cannot be read \(.*\); name a run folder, or an ONNX file"):
            load_model(tmp_path / "nowhere")
        (tmp_path / "network.xml").write_text("<net/>")
        with pytest.raises(WeightsError, match="--to onnx"):
            load_model(tmp_path / "network.xml")

    def test_networks_that_the_page_cannot_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = export_colours(tmp_path / "two.onnx", "left", "right", frames=2)
        with pytest.raises(WeightsError, match=r"two\.onnx: takes 2 frames at once, .*; export it without --frames"):
            load_model(path)
        path = export_colours(tmp_path / "one.onnx", "left", "right", fps=None)
        with pytest.raises(WeightsError, match=r"one\.onnx: its card does not say how many .* give --fps"):
            load_model(path)
        assert load_model(path, fps=6.0).describe()["card"]["fps"] == 6.0
        monkeypatch.setattr("dynagest.web.model.LARGEST", path.stat().st_size)
        load_model(path, fps=6.0)
        monkeypatch.setattr("dynagest.web.model.LARGEST", path.stat().st_size - 1)
        with pytest.raises(WeightsError, match=r"one\.onnx: is larger than"):
            load_model(path, fps=6.0)

    def test_a_run_that_was_trained_since_is_exported_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ran: list[list[str]] = []

        def export(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            ran.append(command)
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(serving.subprocess, "run", export)
        for options, name in (({}, "network-fp32.onnx"), ({"online": True}, "network-fp32-stream.onnx")):
            card = CARD.model_copy(update={"options": options})
            (tmp_path / "network.json").write_text(card.model_dump_json())
            exported = tmp_path / name
            for file, time in ((tmp_path / "network.safetensors", 1000), (exported, 1001)):
                file.touch()
                os.utime(file, (time, time))
            assert serving._exported(tmp_path) == exported
            assert ran == []
            os.utime(exported, (999, 999))
            assert serving._exported(tmp_path) == exported
            (command,) = ran
            assert command[command.index("--mode") + 1] == ("stream" if options else "clip")
            assert command[command.index("--out") + 1] == str(exported)
            ran.clear()

    def test_what_is_no_certificate_or_no_folder_is_told_before_the_model_is_loaded(self, tmp_path: Path) -> None:
        picture = tmp_path / "s.png"
        picture.write_bytes(b"\x89PNG\r\n")
        options = serving.ServeOptions(tmp_path / "network.onnx")
        for changed, message in (
            ({"key": picture}, "give --certificate too"),
            ({"certificate": picture}, r"s\.png: cannot be used \(a certificate or key is missing\); give PEM files"),
            ({"certificate": tmp_path / "gone.pem"}, r"cannot be used \(No such file"),
            ({"data": picture}, "--data .* is a file; name a folder"),
            ({"runs": picture / "runs"}, "--runs .*s.png is a file; name a folder"),
        ):
            with pytest.raises(RunError, match=message):
                serving.build_site(replace(options, **changed))

    def test_a_run_folder_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "network.json").write_text(CARD.model_dump_json())
        monkeypatch.setattr(serving.os, "access", lambda *_: False)
        with pytest.raises(RunError, match=r"run `dynagest export .* --out network\.onnx .*` and serve that file"):
            serving._exported(tmp_path)

    def test_an_export_is_told_before_it_begins(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "network.json").write_text(CARD.model_dump_json())

        def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            assert capsys.readouterr().out == f"{tmp_path}: exporting its network for the browser, this once\n"
            return subprocess.CompletedProcess(command, 2, "", "error: no weights\n")

        monkeypatch.setattr(serving.subprocess, "run", fail)
        with pytest.raises(RunError, match="cannot be exported for the browser: no weights"):
            serving._exported(tmp_path)

    def test_no_model(self) -> None:
        with pytest.raises(RunError, match="runs/demo"):
            serve_command()

    @pytest.mark.parametrize(
        ("host", "local"),
        [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("pc.lan", False)],
    )
    def test_loopback(self, host: str, local: bool) -> None:
        assert serving.is_loopback(host) is local

    def test_elsewhere_teach_must_be_asked_for(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serving, "find_runtime", lambda: site.runtime)
        monkeypatch.setattr(serving, "load_model", lambda *_: site.models.current)
        options = serving.ServeOptions(tmp_path / "network.onnx", host="0.0.0.0")
        assert serving.build_site(options).clips is None
        assert "--data" in serving.build_site(options).teach_off
        assert serving.build_site(replace(options, data=tmp_path)).clips is not None
        assert serving.build_site(replace(options, host="127.0.0.1")).clips is not None
        with pytest.raises(WeightsError, match="--init"):
            serving.build_site(replace(options, data=tmp_path, init=tmp_path))
        assert "WARNING: everybody" in serving._warning(options)

    def test_a_teacher_that_will_not_do_is_told_before_the_server_listens(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serving, "find_runtime", lambda: site.runtime)
        monkeypatch.setattr(serving, "load_model", lambda *_: site.models.current)
        folder, teacher = tmp_path / "gestures", luminance(tmp_path / "t.onnx")
        (tmp_path / "text.onnx").write_text("hello")
        luminance(tmp_path / "wild.onnx", offset=float("nan"))
        options = serving.ServeOptions(tmp_path / "network.onnx", data=folder, teacher=teacher)
        for path, message in (
            ("gone.onnx", r"gone\.onnx: cannot be read"),
            ("text.onnx", r"text\.onnx: not an ONNX model"),
            ("wild.onnx", r"wild\.onnx: gives values that are no numbers"),
        ):
            with pytest.raises(ModelError, match=message):
                serving.build_site(replace(options, teacher=tmp_path / path))
        rival = tmp_path / "rival"
        rival.mkdir()
        (rival / "network.json").write_text(CARD.model_copy(update={"model": "c3d"}).model_dump_json())
        with pytest.raises(ModelError, match=r"t\.onnx: .*rival is a network that .* cannot teach \(c3d\).*--init"):
            serving.build_site(replace(options, init=rival))
        with pytest.raises(RunError, match=r"--teacher .*t\.onnx: is for Teach, which is off .*--data"):
            serving.build_site(replace(options, data=None, host="0.0.0.0"))

        for _ in range(2):
            write_clip(folder, "wave", [np.full((48, 64, 3), value, np.uint8) for value in (0, 90, 180)], [0, 0.1, 0.2])
        made = serving.build_site(options).training
        assert made is not None
        assert made.teacher == teacher
        write_pseudo_depth(Manifest.read(folder), Teacher(luminance(tmp_path / "other.onnx", offset=1.0)))
        with pytest.raises(DepthError, match=r"the depth here is of other\.onnx .* --overwrite` makes it again"):
            serving.build_site(options)
        (folder / "pseudo_depth.json").unlink()  # as if it were a sensor's
        with pytest.raises(DepthError, match="2 clips have depth already"):
            serving.build_site(options)

    def test_a_port_that_is_taken(self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(serving, "build_site", lambda *_: site)
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            with pytest.raises(RunError, match=r"cannot be listened on \(Address already in use\); .* --port"):
                serving.serve(serving.ServeOptions(tmp_path, port=other.getsockname()[1]))
