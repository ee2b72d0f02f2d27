"""Checks the options of ``dynagest serve`` and starts the server. Needs torch only to export a run first."""

import ipaddress
import os
import shlex
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvicorn
from starlette.types import ASGIApp

from dynagest.card import NetworkCard
from dynagest.clips.manifest import MANIFEST_FILE, Manifest
from dynagest.clips.pseudo_depth import check_origin
from dynagest.clips.teacher import Teacher
from dynagest.errors import ModelError, RunError, WeightsError
from dynagest.processes import PYTHON, last_words
from dynagest.run_folder import CARD_FILE, NETWORK_FILE
from dynagest.stream.events import EventSettings, tuned_settings
from dynagest.web.app import Site, create_app
from dynagest.web.clips import ClipFolder
from dynagest.web.connection import KEEP_ALIVE_SECONDS, ImpatientProtocol
from dynagest.web.model import ModelShelf, export_command, load_model
from dynagest.web.runtime import find_runtime
from dynagest.web.training import Training

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ServeOptions:
    """The options of ``dynagest serve``.

    ``model`` is an exported network, or a run folder, which is exported first. ``data`` is the folder for Teach's
    clips; ``None`` means ``gestures`` on a loopback address, and no Teach on any other. ``init`` is the run folder from
    whose weights a training starts; ``None`` means ``model`` if that is a run folder. ``teacher`` is a depth model
    (ONNX) for Teach. ``names`` are host names to answer to. ``certificate`` and ``key`` are PEM files for https.
    """

    model: Path
    host: str = LOOPBACK
    port: int = 8000
    data: Path | None = None
    init: Path | None = None
    runs: Path = Path("runs")
    epochs: int | None = None
    teacher: Path | None = None
    fps: float | None = None
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None


def build_site(options: ServeOptions) -> Site:
    """Build what the server serves. Raises ``DynagestError`` for whatever is wrong, before the server listens."""
    _check_tls(options)
    data = options.data or (Path("gestures") if is_loopback(options.host) else None)
    for option, folder in (("--data", data), ("--runs", options.runs)):
        _check_folder(option, folder)
    init = options.init or (options.model if options.model.is_dir() else None)
    if data is not None and options.init is not None and not (options.init / CARD_FILE).is_file():
        raise WeightsError(
            f"{options.init}: is no run folder with a network; --init names the weights a training starts from"
        )
    if options.teacher is not None:
        _check_teacher(options.teacher, data, init)
    runtime = find_runtime()
    events = None
    if options.model.is_dir():  # a run may have been tuned since it was exported
        events = tuned_settings(options.model) or EventSettings()
    shelf = ModelShelf(load_model(_exported(options.model), options.fps, events))
    if data is None:
        return Site(
            shelf, runtime, teach_off="on an address that others can reach, recording must be asked for: --data"
        )

    clips = ClipFolder(data.absolute())
    training = Training(
        clips,
        init and init.absolute(),
        options.runs.absolute(),
        lambda path: shelf.put(load_model(path)),
        options.epochs,
        options.teacher and options.teacher.absolute(),
    )
    return Site(shelf, runtime, clips, training)


def serve(options: ServeOptions) -> None:
    """Serve until Ctrl-C. Raises ``DynagestError`` when something that it needs is missing or the port is taken."""
    config = build_config(create_app(build_site(options), options.names), options)
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listening = socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # what follows repeats the address
        raise RunError(
            f"{options.host}:{options.port}: cannot be listened on ({reason}); choose another with --port or --host"
        ) from error
    if not is_loopback(options.host):
        print(_warning(options))
    host = f"[{options.host}]" if ":" in options.host else options.host
    scheme = "https" if options.certificate else "http"
    print(f"{scheme}://{host}:{listening.getsockname()[1]}/  (Ctrl-C ends it)", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


def build_config(app: ASGIApp, options: ServeOptions) -> uvicorn.Config:
    """Build uvicorn's configuration, with the limits of ``ImpatientProtocol`` and one on the size of headers."""
    return uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        http=ImpatientProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=16_384,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=3,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.key,
    )


def is_loopback(host: str) -> bool:
    """Whether ``host`` is ``localhost`` or a loopback address, which only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _warning(options: ServeOptions) -> str:
    teach = " and can record, delete and train here" if options.data is not None else ""
    text = f"WARNING: everybody who can reach {options.host} sees this page{teach}; there is no password."
    if options.certificate is None:
        text += "\nBrowsers give the camera to pages from another machine only over https: see --certificate and --key."
    return text


def _check_tls(options: ServeOptions) -> None:
    if options.certificate is None:
        if options.key is not None:
            raise RunError(f"--key {options.key}: is of no use without its certificate; give --certificate too")
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.certificate, options.key)
    except OSError as error:
        reason = (
            (error.reason or "a certificate or key is missing") if isinstance(error, ssl.SSLError) else error.strerror
        )
        key = f" with --key {options.key}" if options.key else ""
        raise RunError(
            f"--certificate {options.certificate}{key}: cannot be used ({reason}); give PEM files that belong "
            "together, the key with --key or in the certificate's file"
        ) from error


def _check_folder(option: str, folder: Path | None) -> None:
    if folder is None:
        return
    there = next((each for each in (folder, *folder.parents) if each.exists()), None)
    if there is not None and not there.is_dir():
        raise RunError(f"{option} {folder}: {there} is a file; name a folder")


def _check_teacher(path: Path, data: Path | None, init: Path | None) -> None:
    """Raise ``DynagestError`` if the teacher does not run, cannot teach this network, or the clips have other depth."""
    if data is None:
        raise RunError(f"--teacher {path}: is for Teach, which is off on this address; ask for it with --data")
    if init is not None:
        from dynagest.networks.rivals.build import RIVALS  # imports torch, which a training needs anyway

        model = NetworkCard.read(init / CARD_FILE).model
        if model in RIVALS:
            raise ModelError(
                f"--teacher {path}: {init} is a network that depth decoders cannot teach ({model}); leave --teacher "
                "out, or name a run of a TSN, TSM, ACTION or TEA network with --init"
            )
    teacher = Teacher(path)
    teacher.nearness(np.linspace(0, 255, 64 * 64 * 3).astype(np.uint8).reshape(1, 64, 64, 3))
    if (data / MANIFEST_FILE).exists():
        check_origin(Manifest.read(data), teacher)


def _exported(path: Path) -> Path:
    """The ONNX file of ``path``. A run folder is exported first unless its export is newer than its weights."""
    if not path.is_dir():
        return path
    command, exported = export_command(path, NetworkCard.read(path / CARD_FILE))
    weights = path / NETWORK_FILE
    if exported.exists() and weights.exists() and exported.stat().st_mtime >= weights.stat().st_mtime:
        return exported
    if not os.access(path, os.W_OK):
        elsewhere = shlex.join("network.onnx" if part == str(exported) else part for part in command[len(PYTHON) + 1 :])
        raise RunError(
            f"{path}: cannot be written, and has no network for the browser yet; run `{elsewhere}` and serve that file"
        )
    print(f"{path}: exporting its network for the browser, this once", flush=True)
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        raise RunError(f"{path}: cannot be exported for the browser: {last_words(done.stderr or done.stdout)}")
    return exported
