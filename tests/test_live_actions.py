"""Actions on gestures: what is done, what is refused, and that nobody waits for them."""

import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dynagest.errors import ActionError
from dynagest.live.actions import EXAMPLE, Action, Actions, perform, read_actions
from dynagest.stream.events import Event

CLASSES = ("swipe_left", "wave", "push")
WAVE = Event("wave", 1.25, None, 0.875, 1.75)
OVER = Event("wave", 1.25, 2.5, 0.9375, 1.75)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "actions.yaml"
    path.write_text(text)
    return path


def python(code: str, **fields: Any) -> Action:
    return Action(gesture=("wave",), run=(sys.executable, "-c", code), **fields)


@pytest.fixture
def server() -> Iterator[Any]:
    """A server of this host that keeps what is posted and answers ``server.status``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.posted.append((self.path, self.headers["Host"], json.loads(body)))
            self.send_response(found.status)
            self.send_header("Location", "http://192.0.2.7/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    found: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.posted, found.status = [], 204
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def test_the_example_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xdotool").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    actions = read_actions(write(tmp_path, EXAMPLE), CLASSES)
    assert [action.gesture for action in actions] == [("swipe_left",), ("wave", "push"), ("any",)]
    assert actions[0].run == ("xdotool", "key", "Left")
    assert (actions[2].at, actions[2].timeout) == ("end", 2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("actions: [", "not YAML (line 1, column 11: expected the node content, but found '<stream end>')"),
        ("- wave", "holds no actions"),
        ("actions: [{[a]: b}]", "not YAML"),
        ("actions: " + "[" * 4000, "not YAML (its lists or maps lie too deep in each other)"),
        ("actions:\n- gesture: wave\n  run: [env]\n  gesture: push\n  run: [ls]", "gesture and run given twice in one"),
        ("actions: []", "at least 1"),
        ("actions: [{gesture: wave}]", "give one of print, run and post, not none of them"),
        ("actions: [{gesture: wave, print: a, run: [b]}]", "not print and run"),
        ("actions: [{gesture: wave, run: rm -rf x}]", "must be a list"),
        ("actions: [{gesture: wave, run: [no-such-program]}]", "no program 'no-such-program'"),
        ('actions: [{gesture: wave, run: [env, "a\\0b"]}]', "run: no system takes the character 0"),
        ("actions: [{gesture: wave, print: a, timeout: 0}]", "more than 0"),
        ("actions: [{gesture: wave, print: a, timeout: 61}]", "at most 60"),
        ("actions: [{gesture: wave, print: '{lable}'}]", "print: {lable} would be printed as it is; there are {label}"),
        ("actions: [{gesture: wave, print: a, shell: true}]", "no such field"),
        ("actions: [{gesture: wav, print: a}]", "'wav'; did you mean wave"),
        ("actions: [{gesture: wave, post: 'http://192.0.2.7/x'}]", "/x: 192.0.2.7 is another machine; only this host"),
        ("actions: [{gesture: wave, post: 'https://127.0.0.1/x'}]", "expected http://"),
        ("actions: [{gesture: wave, post: 'file:///etc/passwd'}]", "expected http://"),
        ("actions: [{gesture: wave, post: 'http://a:b@127.0.0.1/'}]", "password"),
    ],
)
def test_a_faulty_file_is_named_with_its_fault(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ActionError, match=r"actions\.yaml") as error:
        read_actions(write(tmp_path, text), CLASSES)
    assert says in str(error.value)


def test_one_fault_is_told_once(tmp_path: Path) -> None:
    path = write(tmp_path, "actions: [{gesture: wave, print: a, timeout: soon}]")
    with pytest.raises(ActionError) as error:
        read_actions(path, CLASSES)
    says = f"{path}: actions, entry 1: timeout: is 'soon', but must be a number; for example:\n"
    assert str(error.value).startswith(says)


def test_entries_are_counted_from_1(tmp_path: Path) -> None:
    entries = "{gesture: wave, print: a}, {gesture: [wave, [push]], print: a}, {gesture: wave}"
    with pytest.raises(ActionError) as error:
        read_actions(write(tmp_path, f"actions: [{entries}]"), CLASSES)
    assert "actions, entry 2: gesture, entry 2: is ['push'], but must be text" in str(error.value)
    assert "actions, entry 3: give one of print, run and post" in str(error.value)


def test_text_stays_text(tmp_path: Path) -> None:
    path = write(tmp_path, "actions: [{gesture: yes, print: 5}, {gesture: [1, null], run: [env, 3, no]}]")
    actions = read_actions(path, ("yes", "1", "null"))
    assert [(action.gesture, action.print, action.run) for action in actions] == [
        (("yes",), "5", None),
        (("1", "null"), None, ("env", "3", "no")),
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ActionError, match="cannot be read"):
        read_actions(tmp_path / "actions.yaml", CLASSES)


def test_print() -> None:
    assert perform(Action(gesture=("wave",), print='{label}: {confidence} {"as": 1}'), WAVE) == 'wave: 88% {"as": 1}'


def test_a_command_is_told_what_happened_and_no_shell_reads_it(tmp_path: Path) -> None:
    out = tmp_path / "said"
    code = "import os, sys; open(sys.argv[1], 'w').write(os.environ['DYNAGEST_LABEL'] + os.environ['DYNAGEST_CONFIDENCE'] + os.environ['DYNAGEST_END'] + sys.argv[2])"  # noqa: E501
    action = Action(gesture=("wave",), run=(sys.executable, "-c", code, str(out), "$HOME; ls"))
    assert "on wave" in perform(action, WAVE)
    assert out.read_text() == "wave0.875$HOME; ls"


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (python("import sys; sys.exit('it went wrong')"), "exit code 1: it went wrong"),
        (python("import time; time.sleep(60)", timeout=0.3), "took longer than 0.3 s and was ended"),
        (Action(gesture=("wave",), run=("no-such-program",)), "cannot be started"),
        (Action(gesture=("wave",), post="http://127.0.0.1:9/"), "failed"),
    ],
)
def test_a_failure_says_what_failed(action: Action, says: str) -> None:
    with pytest.raises(ActionError) as error:
        perform(action, WAVE)
    assert says in str(error.value)
    assert action.name in str(error.value)


def test_what_a_command_started_ends_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = f"import time; time.sleep(1.2); open({str(mark)!r}, 'w')"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    with pytest.raises(ActionError, match="was ended"):
        perform(python(code, timeout=0.6), WAVE)
    time.sleep(1.5)
    assert not mark.exists()


def test_post(server: Any) -> None:
    url = f"http://localhost:{server.server_port}/hook?room=1"
    perform(Action(gesture=("any",), post=url), OVER)
    facts = {"label": "wave", "confidence": 0.9375, "begin": 1.25, "end": 2.5, "fired": 1.75}
    assert server.posted == [("/hook?room=1", f"localhost:{server.server_port}", facts)]


def test_a_redirect_is_a_failure_and_not_followed(server: Any) -> None:
    server.status = 302
    with pytest.raises(ActionError, match="answered 302"):
        perform(Action(gesture=("any",), post=f"http://127.0.0.1:{server.server_port}/"), WAVE)


def test_a_server_that_answers_byte_by_byte_is_left_when_the_time_is_over() -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            for _ in range(100):  # a line that never ends
                connection.sendall(b"H")
                time.sleep(0.05)

    threading.Thread(target=drip, daemon=True).start()
    told: list[str] = []
    action = Action(gesture=("any",), post=f"http://127.0.0.1:{listening.getsockname()[1]}/", timeout=0.4)
    begin = time.monotonic()
    with listening, Actions([action], lambda text, failed: told.append(text)) as actions:
        actions.on([WAVE])
    assert time.monotonic() - begin < 2.5, "it would drip for 5 s"
    assert told == [f"{action.name}: took longer than 0.4 s"]


def test_a_name_that_leads_elsewhere_later_is_refused_when_posting(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = f"actions: [{{gesture: wave, post: 'http://localhost:{server.server_port}/'}}]"
    (action,) = read_actions(write(tmp_path, text), CLASSES)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("192.0.2.7", 80))])
    with pytest.raises(ActionError, match="another machine"):
        perform(action, WAVE)
    assert server.posted == []


@pytest.mark.parametrize(
    ("gesture", "at", "event", "wanted"),
    [
        ("wave", "begin", WAVE, True),
        ("wave", "begin", OVER, False),
        ("wave", "end", OVER, True),
        ("any", "begin", WAVE, True),
        ("push", "begin", WAVE, False),
    ],
)
def test_which_events_set_it_off(gesture: str, at: Any, event: Event, wanted: bool) -> None:
    assert Action(gesture=(gesture,), at=at, print="x").wants(event) is wanted


def test_recognition_never_waits_and_failures_are_told() -> None:
    told: list[tuple[str, bool]] = []
    slow = python("import time; time.sleep(0.4)")
    shown = Action(gesture=("wave",), print="seen")
    failing = Action(gesture=("wave",), run=("no-such-program",))
    with Actions([slow, shown, failing], lambda text, failed: told.append((text, failed))) as actions:
        begin = time.monotonic()
        actions.on([WAVE])
        assert time.monotonic() - begin < 0.2
    assert ("seen", False) in told
    assert any(failed and "no-such-program" in text for text, failed in told)
    assert any(text.startswith("run ") and not failed for text, failed in told), "leaving waited for the slow one"


def test_more_than_can_wait_are_given_up_and_that_is_said() -> None:
    told: list[tuple[str, bool]] = []
    slow = python("import time; time.sleep(0.3)")
    with Actions([slow], lambda text, failed: told.append((text, failed))) as actions:
        actions.on([WAVE] * 40)
        given_up = [text for text, failed in told if failed]
    assert 20 <= len(given_up) <= 24
    assert "given up, 16 actions are waiting already" in given_up[0]
    assert len(told) == 40
