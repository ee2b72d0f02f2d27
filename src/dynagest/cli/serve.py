"""``dynagest serve``: the web page that recognises gestures in the browser and teaches new ones."""

from pathlib import Path
from typing import Annotated

import typer

from dynagest.cli.options import switch
from dynagest.errors import RunError


def register(app: typer.Typer) -> None:
    """Add ``serve`` to ``app``."""
    app.command(
        epilog="Examples:\n- `dynagest serve runs/demo`"
        "\n- `dynagest serve network.onnx --data my_gestures --init runs/demo`"
        "\n- once, before the first time: `dynagest serve --fetch-runtime`"
    )(serve)


def serve(
    model: Annotated[Path | None, typer.Argument(help="A run folder, or an ONNX file of `dynagest export`.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; by default this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the clips recorded by Teach. [default: gestures; none if not local]")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Run folder that Teach trains on from. [default: MODEL, if it is one]")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where the runs of Teach go.")] = Path("runs"),
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of Teach. [default: by the number of clips]")
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="A monocular depth model (ONNX): Teach trains with what it makes of the clips.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.1, max=120, help="Frames a second that the network sees. [default: its own]")
    ] = None,
    name: Annotated[
        list[str], typer.Option("--name", help="A host name under which the page is opened; repeatable.")
    ] = [],  # noqa: B006
    certificate: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="TLS certificate (PEM), for https.")
    ] = None,
    key: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Its private key (PEM).")] = None,
    fetch_runtime: Annotated[
        bool, switch("--fetch-runtime", "Fetch ONNX Runtime Web from the npm registry, and stop.")
    ] = False,
    runtime_archive: Annotated[
        Path | None, typer.Option(help="With --fetch-runtime: the package, already fetched by other means.")
    ] = None,
) -> None:
    """Open a web page that recognises gestures from the browser's camera. Pictures leave it only for Teach."""
    if fetch_runtime:
        from dynagest.web.runtime import fetch_runtime as fetch

        print(fetch(runtime_archive))
        return
    if model is None:
        raise RunError("name a run folder or an exported network, as in `dynagest serve runs/demo`")
    from dynagest.web.serve import ServeOptions
    from dynagest.web.serve import serve as run

    run(ServeOptions(model, host, port, data, init, runs, epochs, teacher, fps, tuple(name), certificate, key))
