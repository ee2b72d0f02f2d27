"""The server's application: it serves the page, its network, the user's clips and the training. Needs no torch.

It gives out nothing else of this machine. A fault is answered with ``{"error": text}`` and a fitting status.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from dynagest.errors import DynagestError
from dynagest.web import runtime
from dynagest.web.clips import ClipFolder
from dynagest.web.guard import WRITES_A_MINUTE, Guard, RequestError, read_body
from dynagest.web.model import ModelShelf
from dynagest.web.recording import CLIP_TYPE
from dynagest.web.training import FEWEST_CLIPS, Training

STATIC = Path(__file__).parent / "static"
# All files of the page; no other file of the folder is served.
ASSETS = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **{
        f"{name}.js": "text/javascript; charset=utf-8"
        for name in (
            *("app", "api", "camera", "clipfile", "clock", "events", "network", "preprocess"),
            *("recogniser", "scorer", "stage", "teach", "timeline", "worker"),
        )
    },
}
CHANGES = 4  # of clips at the same time: each keeps its body in memory, and a thread while it waits for its turn
_KINDS = {".mjs": "text/javascript; charset=utf-8", ".wasm": "application/wasm", "": "text/plain; charset=utf-8"}
_PIECE = 65_536  # bytes; FileResponse sends files in pieces of this size, too
_FOREVER = {"cache-control": "public, max-age=31536000, immutable"}  # the name changes when the content does
_log = logging.getLogger("dynagest.web")


@dataclass(frozen=True)
class Site:
    """What a server serves. Teach is off unless ``clips`` and ``training`` are given; ``teach_off`` then says why."""

    models: ModelShelf
    runtime: Path
    clips: ClipFolder | None = None
    training: Training | None = None
    teach_off: str = ""


def create_app(site: Site, names: tuple[str, ...] = (), writes_a_minute: int = WRITES_A_MINUTE) -> ASGIApp:
    """Build the application.

    ``names`` are host names to answer to, besides localhost and plain addresses. A client may make ``writes_a_minute``
    changes a minute.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        if site.training is not None:
            await run_in_threadpool(site.training.close)

    handlers = _Handlers(site)
    clip = "/api/gestures/{label}/clips/{name}"
    routes = [
        Route("/", handlers.page, methods=["GET"]),
        Route("/static/{name}", handlers.asset, methods=["GET"]),
        Route("/runtime/{version}/{name}", handlers.runtime, methods=["GET"]),
        Route("/model/{key}.onnx", handlers.network, methods=["GET"]),
        Route("/api/model", handlers.model, methods=["GET"]),
        Route("/api/gestures", handlers.gestures, methods=["GET"]),
        Route("/api/gestures/{label}/clips", handlers.add_clip, methods=["POST"]),
        Route(clip, handlers.clip, methods=["GET"]),
        Route(clip, handlers.delete_clip, methods=["DELETE"]),
        Route(f"{clip}/picture", handlers.picture, methods=["GET"]),
        Route("/api/training", handlers.training, methods=["GET"]),
        Route("/api/training", handlers.start_training, methods=["POST"]),
        Route("/api/training", handlers.cancel_training, methods=["DELETE"]),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={RequestError: _refused, HTTPException: _http_error, DynagestError: _fault, Exception: _bug},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return Guard(app, names, writes_a_minute)


class _Handlers:
    def __init__(self, site: Site) -> None:
        self.site = site
        self._changes = asyncio.Semaphore(CHANGES)

    async def page(self, _: Request) -> Response:
        return _file(STATIC / "index.html", ASSETS["index.html"])

    async def asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return _file(STATIC / name, ASSETS[name])

    async def runtime(self, request: Request) -> Response:
        name = request.path_params["name"]
        if request.path_params["version"] != runtime.VERSION or name not in (*runtime.FILES, "LICENSE"):
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return _file(self.site.runtime / name, _KINDS[Path(name).suffix], _FOREVER)

    async def network(self, request: Request) -> Response:
        model = self.site.models.get(request.path_params["key"])
        if model is None:
            raise RequestError(HTTPStatus.NOT_FOUND, "this network was replaced by another one; load the page again")
        return _in_pieces(model.data, "application/octet-stream", _FOREVER)

    async def model(self, _: Request) -> Response:
        return JSONResponse(self.site.models.current.describe() | {"runtime": f"/runtime/{runtime.VERSION}/"})

    async def gestures(self, _: Request) -> Response:
        folder, training = self.site.clips, self.site.training
        if folder is None or training is None:
            return JSONResponse({"teach": False, "reason": self.site.teach_off, "gestures": []})
        body = {
            "teach": True,
            "folder": str(folder.folder),
            "gestures": await run_in_threadpool(folder.listing),
            "fewest_clips": FEWEST_CLIPS,
            "trainable": training.init is not None,
        }
        return JSONResponse(body)

    async def add_clip(self, request: Request) -> Response:
        folder = self._clips()
        async with self._changes:
            body = await read_body(request, folder.limits.clip_bytes, CLIP_TYPE, folder.limits.upload_seconds)
            added = await run_in_threadpool(folder.add, request.path_params["label"], body)
        return JSONResponse(asdict(added), HTTPStatus.CREATED)

    async def clip(self, request: Request) -> Response:
        recording = await run_in_threadpool(self._clips().read, **request.path_params)
        return _in_pieces(recording.pack(), CLIP_TYPE)

    async def picture(self, request: Request) -> Response:
        recording = await run_in_threadpool(self._clips().read, **request.path_params)
        return Response(recording.pictures[len(recording.pictures) // 2], media_type="image/jpeg")

    async def delete_clip(self, request: Request) -> Response:
        async with self._changes:
            await run_in_threadpool(self._clips().delete, **request.path_params)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def training(self, _: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._training().status))

    async def start_training(self, request: Request) -> Response:
        training = self._training()
        body = await read_body(request, 1000, "application/json", 5.0)
        try:
            if json.loads(body) != {}:
                raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, "training takes no options here: send {}")
        except (ValueError, RecursionError):
            raise RequestError(HTTPStatus.BAD_REQUEST, "the body is no JSON") from None
        await run_in_threadpool(training.start)
        return JSONResponse(training.status(), HTTPStatus.ACCEPTED)

    async def cancel_training(self, _: Request) -> Response:
        training = self._training()
        await run_in_threadpool(training.cancel)
        return JSONResponse(training.status(), HTTPStatus.ACCEPTED)

    def _clips(self) -> ClipFolder:
        if self.site.clips is None:
            raise RequestError(HTTPStatus.FORBIDDEN, f"nothing can be recorded here: {self.site.teach_off}")
        return self.site.clips

    def _training(self) -> Training:
        if self.site.training is None:
            raise RequestError(HTTPStatus.FORBIDDEN, f"nothing can be trained here: {self.site.teach_off}")
        return self.site.training


def _file(path: Path, kind: str, headers: dict[str, str] | None = None) -> Response:
    # The guard leaves ranges out, so none is offered.
    return FileResponse(
        path, media_type=kind, headers={"accept-ranges": "none"} | (headers or {"cache-control": "no-cache"})
    )


def _in_pieces(data: bytes, kind: str, headers: dict[str, str] | None = None) -> Response:
    """Send ``data`` in pieces as the browser takes them, so that a slow one keeps no copy in the server's memory."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), _PIECE):
            yield data[at : at + _PIECE]

    length = {"content-length": str(len(data))}
    return StreamingResponse(pieces(), media_type=kind, headers=length | (headers or {}))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error.response()


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = "there is no such page here" if error.status_code == HTTPStatus.NOT_FOUND else error.detail
    return JSONResponse({"error": text}, error.status_code, error.headers)


async def _fault(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, HTTPStatus.CONFLICT)


async def _bug(request: Request, error: Exception) -> Response:
    _log.error("%s %s", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": "this is a fault of the server; its terminal says more"}, 500)
