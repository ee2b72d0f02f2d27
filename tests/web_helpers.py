"""What the tests of the web page share: a site without a real network, recordings, and a server on a real socket."""

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import uvicorn
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from dynagest.card import NetworkCard
from dynagest.runtimes.model_file import ModelInfo
from dynagest.stream.events import EventSettings
from dynagest.web.app import Site, create_app
from dynagest.web.clips import ClipFolder
from dynagest.web.model import ModelShelf, ServedModel
from dynagest.web.recording import CLIP_TYPE, Limits
from dynagest.web.serve import ServeOptions, build_config
from dynagest.web.training import Training

CARD = NetworkCard(model="action_resnet18", classes=("wave", "none"), num_segments=8, fps=4.0, size=64, width=16)
HOST = "http://localhost:8000"
ORIGIN = {"origin": HOST}
CLIP = {**ORIGIN, "content-type": CLIP_TYPE}


def picture(value: int = 90, width: int = 64, height: int = 48) -> bytes:
    """A JPEG."""
    image = np.full((height, width, 3), value, np.uint8)
    cv2.circle(image, (width // 2, height // 2), 10, (0, 200, value), -1)
    return cv2.imencode(".jpg", image)[1].tobytes()


def body(pictures: Sequence[bytes] | None = None, times: Sequence[float] | None = None, header: object = None) -> bytes:
    """A clip as the page sends it: by default 10 pictures in 0.9 s."""
    pictures = [picture(20 * k) for k in range(10)] if pictures is None else pictures
    times = [0.1 * k for k in range(len(pictures))] if times is None else times
    head = {"times": list(times), "sizes": [len(each) for each in pictures]} if header is None else header
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<4sI", b"DGC1", len(text)) + text + b"".join(pictures)


def make_site(
    folder: Path, limits: Limits | None = None, init: Path | None = None, teacher: Path | None = None
) -> Site:
    """A site whose network is not one, with Teach in ``folder / "gestures"``."""
    runtime = folder / "runtime"
    runtime.mkdir(exist_ok=True)
    (runtime / "ort.wasm.min.mjs").write_text("export {};")
    info = ModelInfo(mode="clip", precision="fp32", card=CARD)
    model = ServedModel(b"not a network", "0" * 32, info, EventSettings())
    clips = ClipFolder(folder / "gestures", limits)
    training = Training(clips, init, folder / "runs", lambda path: None, teacher=teacher)
    return Site(ModelShelf(model), runtime, clips, training)


@contextmanager
def running(app: ASGIApp) -> Iterator[int]:
    """A server on loopback, with the limits of the real one: its port."""
    config = build_config(app, ServeOptions(Path("unused"), port=0))
    bound = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def client_of(site: Site, **options: int) -> TestClient:
    """A client of the page's own origin."""
    return TestClient(create_app(site, ("gestures.lan",), **options), base_url=HOST, raise_server_exceptions=False)


def post(client: TestClient, label: str = "wave", content: bytes | None = None) -> tuple[int, str]:
    """Upload a clip: status and error."""
    answer = client.post(f"/api/gestures/{label}/clips", content=body() if content is None else content, headers=CLIP)
    return answer.status_code, answer.json().get("error", "")


def request(port: int, head: str, content: bytes = b"", wait: float = 10.0) -> tuple[int, str]:
    """What a server answers to these bytes: status and body; (0, "") when it hangs up without a word."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        connection.sendall(head.encode("latin-1") + content)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    top, _, text = answer.partition(b"\r\n\r\n")
    return (int(top.split()[1]) if top else 0), text.decode()
