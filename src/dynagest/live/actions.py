"""Reads from a YAML file what is to happen on which gesture, and does it in other threads: recognition never waits."""

import http.client
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import SplitResult

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dynagest.errors import ActionError, hint, some
from dynagest.fields import field_faults, parse_yaml, yaml_fault
from dynagest.live.loopback import on_this_host
from dynagest.processes import kill
from dynagest.stream.events import Event

ANY = "any"
EXAMPLE = """\
actions:
  - gesture: swipe_left                  # or a list of them, or any
    run: [xdotool, key, Left]            # a program and its arguments; no shell
  - gesture: [wave, push]
    print: "{label} ({confidence})"
  - gesture: any
    at: end                              # when it is over; by default when it is recognised
    post: http://127.0.0.1:8123/gesture  # JSON, to this host only
    timeout: 2                           # seconds; 5 by default
"""
_WAITING = 16  # the most actions that wait for a free thread; further ones are given up with a message
_WORKERS = 4
_FACTS = ("label", "confidence")  # of the gesture, which ``print`` writes in place of {label} and {confidence}
_TOLD = 200  # characters reported from the end of a failed command's stderr


class Action(BaseModel):
    """One entry of the file: the gestures that set it off, and exactly one of ``print``, ``run`` and ``post``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gesture: tuple[str, ...] = Field(min_length=1)
    at: Literal["begin", "end"] = "begin"
    print: str | None = None
    run: tuple[str, ...] | None = Field(default=None, min_length=1)
    post: str | None = None
    timeout: float = Field(default=5.0, gt=0, le=60)

    @field_validator("gesture", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        given = [name for name in ("print", "run", "post") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of print, run and post, not {' and '.join(given) or 'none of them'}")
        return self

    @field_validator("run")
    @classmethod
    def _possible(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if any("\0" in part for part in value or ()):
            raise ValueError("no system takes the character 0 in a command; leave it out")
        return value

    @field_validator("print")
    @classmethod
    def _known_facts(cls, value: str | None) -> str | None:
        unknown = [f"{{{name}}}" for name in re.findall(r"\{(\w+)\}", value or "") if name not in _FACTS]
        if unknown:
            raise ValueError(f"{some(unknown)} would be printed as it is; there are {{label}} and {{confidence}}")
        return value

    @property
    def name(self) -> str:
        """The action's name in messages."""
        if self.run is not None:
            return f"run {self.run[0]}"
        return f"post {self.post}" if self.post is not None else "print"

    def wants(self, event: Event) -> bool:
        """Whether this report of an event sets the action off."""
        return (event.end is None) == (self.at == "begin") and (ANY in self.gesture or event.label in self.gesture)


class ActionsFile(BaseModel):
    """The file as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actions: tuple[Action, ...] = Field(min_length=1)


class _Text(yaml.BaseLoader):
    """Reads all values as text. Plain YAML would read a gesture named yes as true, and an argument 3 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a repeated key. Plain YAML keeps the last one, so a missing dash would silently lose an action."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(
                None, None, f"{' and '.join(twice)} given twice in one entry; is a dash missing?", node.start_mark
            )
        return super().construct_mapping(node, deep)


def read_actions(path: Path, classes: Sequence[str]) -> tuple[Action, ...]:
    """Read an actions file for a network with these classes.

    Raises ``ActionError``, which names the file and what is wrong: it cannot be read or is not YAML, a field is unknown
    or has a wrong value, the network does not know a gesture, a program is not installed, or a URL leads to another
    host.
    """
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), _Text)
    except OSError as error:
        raise ActionError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ActionError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise ActionError(f"{path}: not YAML ({yaml_fault(error)}); write for example:\n{EXAMPLE}") from error
    if not isinstance(values, dict):
        raise ActionError(f"{path}: holds no actions; write for example:\n{EXAMPLE}")
    try:
        actions = ActionsFile.model_validate(values).actions
    except ValidationError as error:
        raise ActionError(f"{path}: {field_faults(ActionsFile, error)}; for example:\n{EXAMPLE}") from error
    for action in actions:
        for label in action.gesture:
            if label != ANY and label not in classes:
                raise ActionError(f"{path}: the network does not know the gesture {label!r}; {hint(label, classes)}")
        if action.run is not None and shutil.which(action.run[0]) is None:
            raise ActionError(f"{path}: there is no program {action.run[0]!r}; install it, or give its full path")
        if action.post is not None:
            try:
                on_this_host(action.post, ("http",))
            except ActionError as error:
                raise ActionError(f"{path}: {error}") from error
    return actions


class Actions:
    """Performs actions in threads of its own. A context manager.

    ``tell(text, failed)`` is called with a line about each action that is done and each that failed: from those
    threads, or from the thread that calls ``on`` when an action is given up. Entering starts the threads; leaving waits
    for all actions that were set off, each of them for its time limit at most.
    """

    def __init__(self, actions: Sequence[Action], tell: Callable[[str, bool], None]) -> None:
        self._actions, self._tell = tuple(actions), tell
        self._waiting: queue.Queue[tuple[Action, Event]] = queue.Queue(_WAITING)
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._work, name="action", daemon=True) for _ in range(_WORKERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()

    def on(self, events: Sequence[Event]) -> None:
        """Set off the actions that these events ask for. Returns at once, however many actions are running."""
        for event in events:
            for action in self._actions:
                if action.wants(event):
                    try:
                        self._waiting.put_nowait((action, event))
                    except queue.Full:
                        self._tell(f"{action.name}: given up, {_WAITING} actions are waiting already", True)

    def _work(self) -> None:
        while True:
            try:
                action, event = self._waiting.get(timeout=0.1)
            except queue.Empty:
                if self._closing.is_set():
                    return
                continue
            try:
                self._tell(perform(action, event), False)
            except ActionError as error:
                self._tell(str(error), True)


def perform(action: Action, event: Event) -> str:
    """Perform an action, wait for it, and return a line about it.

    Raises ``ActionError`` if it fails or takes longer than its time limit.
    """
    if action.run is not None:
        return _run(action, action.run, event)
    if action.post is not None:
        return _post(action, action.post, event)
    assert action.print is not None
    return action.print.replace("{label}", event.label).replace("{confidence}", f"{event.confidence:.0%}")


def payload(event: Event) -> dict[str, str | float | None]:
    """An event as JSON values. Times are seconds of the stream; ``end`` is None in the report of the activation."""
    return {
        "label": event.label,
        "confidence": round(event.confidence, 4),
        "begin": round(event.begin, 3),
        "end": None if event.end is None else round(event.end, 3),
        "fired": round(event.fired, 3),
    }


def _run(action: Action, command: tuple[str, ...], event: Event) -> str:
    facts = {f"DYNAGEST_{name.upper()}": "" if value is None else str(value) for name, value in payload(event).items()}
    # A file, not a pipe: a program left in the background would keep a pipe open, and we would wait for it, too.
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=os.environ | facts,
                start_new_session=True,
            )
        except OSError as error:
            raise ActionError(f"{action.name}: cannot be started ({error.strerror})") from error
        try:
            code = process.wait(action.timeout)
        except subprocess.TimeoutExpired:
            kill(process)
            process.wait()
            raise ActionError(f"{action.name}: took longer than {action.timeout:g} s and was ended") from None
        if code:
            said.seek(0)
            text = " ".join(said.read().decode(errors="replace").split())[-_TOLD:]
            raise ActionError(f"{action.name}: exit code {code}{': ' if text else ''}{text}")
    return f"{action.name} on {event.label}"


def _post(action: Action, url: str, event: Event) -> str:
    parts, address = on_this_host(url, ("http",))
    # Connects to the address that was checked; http.client follows no redirect.
    connection = http.client.HTTPConnection(address, parts.port or 80, timeout=action.timeout)
    due = time.monotonic() + action.timeout
    try:
        connection.connect()
        # A socket's own timeout starts again with every byte, so it does not limit the whole exchange.
        with _cut_off(connection.sock, due):
            body = json.dumps(payload(event), ensure_ascii=False).encode()
            connection.request("POST", _target(parts), body, {"Content-Type": "application/json", "Host": parts.netloc})
            status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        late = time.monotonic() >= due
        reason = f"took longer than {action.timeout:g} s" if late else f"failed ({error or type(error).__name__})"
        raise ActionError(f"{action.name}: {reason}") from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise ActionError(f"{action.name}: answered {status}")
    return f"{action.name} on {event.label}"


@contextmanager
def _cut_off(connected: socket.socket, due: float) -> Iterator[None]:
    """Shut ``connected`` down at ``due`` (in ``time.monotonic`` seconds), which ends any read or write on it."""

    def cut() -> None:
        with suppress(OSError):  # it has just been closed
            connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(due - time.monotonic(), 0), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
