"""Connections to the server of the web page that are slow, broken, greedy or no HTTP: each ends, none does harm."""

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from web_helpers import body, client_of, make_site, post, request, running

from dynagest.web import app, connection
from dynagest.web.app import Site, create_app
from dynagest.web.guard import HEADERS
from dynagest.web.recording import CLIP_TYPE, Limits


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def assert_refusal(client: socket.socket, status: int, words: str) -> None:
    """The answer is a refusal as docs/serve.md has it, and the last word."""
    answer = b""
    with suppress(ConnectionResetError):  # what was sent and not read
        while piece := client.recv(65536):
            answer += piece
    head, _, text = answer.decode().partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert words in json.loads(text)["error"]
    lines = dict(line.split(": ", 1) for line in head.lower().splitlines()[1:])
    assert lines["content-type"] == "application/json"
    assert lines["connection"] == "close"
    assert {name: lines[name] for name in HEADERS} == {name: value.lower() for name, value in HEADERS.items()}


class TestSockets:
    GET = b"GET /api/model HTTP/1.1\r\nHost: localhost\r\n\r\n"
    HEAD = (
        "POST /api/gestures/wave/clips HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
        f"Content-Type: {CLIP_TYPE}\r\nContent-Length: 5000\r\nConnection: close\r\n\r\n"
    )

    def test_a_body_that_does_not_come(self, tmp_path: Path) -> None:
        site = make_site(tmp_path, Limits(upload_seconds=0.3))
        with running(create_app(site)) as port:
            status, text = request(port, self.HEAD, b"DGC1")
        assert status == 408
        assert "0.3 seconds" in text

    def test_a_body_that_breaks_off(self, site: Site) -> None:
        with running(create_app(site)) as port:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(self.HEAD.encode() + b"DGC1")
            assert request(port, "GET /api/model HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[0] == 200
        assert site.clips is not None
        assert not site.clips.folder.exists()

    def test_headers_that_do_not_end(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "HEADER_SECONDS", 0.3)
        monkeypatch.setattr(connection, "KEEP_ALIVE_SECONDS", 0.3)
        with running(create_app(site)) as port:
            began = time.monotonic()
            for start in ("", "GET / HTTP/1.1\r\nHost: loc"):
                assert request(port, start) == (0, "")
            assert time.monotonic() - began < 9
            # After one whole request on the same connection, too.
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(self.GET)
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
                client.sendall(self.GET[:20])
                while client.recv(65536):
                    pass

    def test_a_body_that_nobody_asked_for(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "KEEP_ALIVE_SECONDS", 0.5)
        with running(create_app(site)) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(self.GET[:-2] + b"Content-Length: 100000\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            client.sendall(b"x")
            with suppress(ConnectionResetError):
                while client.recv(65536):
                    pass

    def test_one_request_behind_another(self, site: Site) -> None:
        with running(create_app(site)) as port:
            last = "GET /api/model HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            status, text = request(port, self.GET.decode() * 5 + last)
            assert (status, text.count("HTTP/1.1 200 OK")) == (200, 5)

    @pytest.mark.parametrize("behind", [b"", b"x", GET])
    def test_an_answer_that_is_not_taken(self, site: Site, monkeypatch: pytest.MonkeyPatch, behind: bytes) -> None:
        monkeypatch.setattr(connection, "WRITE_SECONDS", 0.5)
        large = replace(site.models.current, data=bytes(50_000_000))
        site.models.put(large)
        with running(create_app(site)) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(self.GET.replace(b"/api/model", f"/model/{large.key}.onnx".encode()))
            assert client.recv(15) == b"HTTP/1.1 200 OK"
            client.sendall(behind)
            time.sleep(1.5)
            got = 0
            with suppress(ConnectionResetError):
                while piece := client.recv(1_000_000):
                    got += len(piece)
        assert got < len(large.data)

    def test_too_many_connections(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "CONNECTIONS", 2)
        with running(create_app(site)) as port, ExitStack() as others:
            for _ in range(2):
                open_one = socket.create_connection(("127.0.0.1", port), timeout=10)
                others.enter_context(open_one).sendall(self.GET)
                assert open_one.recv(15) == b"HTTP/1.1 200 OK"
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(self.GET)
                assert_refusal(client, 503, "2 connections are open")
            for _ in range(2):
                others.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert request(port, "") == (0, "")
            others.close()
            deadline = time.monotonic() + 10
            while request(port, self.GET.decode().replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))[0] != 200:
                assert time.monotonic() < deadline

    def test_so_many_uploads_at_once(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        now = most = 0

        async def read(*_: object) -> bytes:
            nonlocal now, most
            now += 1
            most = max(most, now)
            async with asyncio.timeout(30):  # until as many are in as may be, however slow the machine
                while most < app.CHANGES:
                    await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)  # for one more than that
            now -= 1
            return body()

        monkeypatch.setattr(app, "read_body", read)
        with client_of(site) as client, ThreadPoolExecutor(12) as pool:
            assert set(pool.map(lambda _: post(client)[0], range(12))) == {201}
        assert most == app.CHANGES

    @pytest.mark.parametrize(
        "head",
        [
            b"nonsense\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 90_000,
            b"POST /api/training HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n",
        ],
    )
    def test_no_http(self, site: Site, head: bytes, caplog: pytest.LogCaptureFixture) -> None:
        with running(create_app(site)) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(head)
            assert_refusal(client, 400, "no request that is understood here")
        assert "Exception" not in caplog.text

    def test_a_name_is_needed(self, site: Site) -> None:
        with running(create_app(site)) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert_refusal(client, 421, "--name")
