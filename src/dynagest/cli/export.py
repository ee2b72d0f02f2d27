"""``dynagest export``: a trained network as a file that runs without PyTorch."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dynagest.cli.options import table_console

if TYPE_CHECKING:
    from dynagest.export import Export


def register(app: typer.Typer) -> None:
    """Add the command of this file to ``app``."""
    app.command(
        epilog="Examples:\n- `dynagest export runs/demo`\n- `dynagest export runs/demo --to openvino --precision int8`"
    )(export)


def export(
    run: Annotated[Path, typer.Argument(help="A run folder or a .safetensors file.")],
    to: Annotated[Literal["onnx", "openvino"], typer.Option(help="What shall run it.")] = "onnx",
    precision: Annotated[
        Literal["fp32", "bf16", "int8"], typer.Option(help="bf16: OpenVINO only. int8: calibrated on clips.")
    ] = "fp32",
    mode: Annotated[
        Literal["clip", "stream"], typer.Option(help="Whole clips, or frame by frame: for live streams (2D networks).")
    ] = "clip",
    frames: Annotated[
        int, typer.Option(min=1, help="Frames that a stream's file takes at once: more a second, answered later.")
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="The file. [default: in RUN, named like network-fp32.onnx, network-int8-stream.xml]"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A manifest. [default: the run's own; generated clips where that is gone, but not for int8]"),
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips to calibrate on, and as many others to compare on.")] = 64,
    agreement: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Least share of clips with PyTorch's best class. [default: 0.99; bf16: 0.95; int8: 0.9]"
        ),
    ] = None,
    drop: Annotated[
        float | None,
        typer.Option(
            min=0, max=100, help="Most points of accuracy to lose. [default: 1, int8: 2; but one answer in any case]"
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of PyTorch and of the file alike. [default: PyTorch's]")
    ] = None,
) -> None:
    """Export a network to ONNX or OpenVINO, run the file and compare it with PyTorch; it is kept only if they agree."""
    from dataclasses import replace

    from dynagest.export import TOLERANCES
    from dynagest.export import export as write

    tolerance = TOLERANCES[precision]
    if agreement is not None:
        tolerance = replace(tolerance, agreement=agreement)
    if drop is not None:
        tolerance = replace(tolerance, drop=drop / 100, answers=0)
    console = Console(stderr=True)
    with console.status("exporting") as status:
        result = write(
            run,
            to,
            precision=precision,
            mode=mode,
            frames=frames,
            out=out,
            data=data,
            clips=clips,
            tolerance=tolerance,
            threads=threads,
            progress=status.update,
        )
    _print(result)
    path = shlex.quote(str(result.path))
    print(f"next: dynagest predict {path} VIDEO" if mode == "clip" else f"next: dynagest live --model {path}")


def _print(result: "Export") -> None:
    table, compared = Table(box=SIMPLE, padding=0, collapse_padding=True), result.comparison
    unit = "clip" if result.info.mode == "clip" else "frame"
    for column in ("", "size", f"ms a {unit}", "accuracy"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    rows = (
        ("PyTorch, fp32", result.size_torch, result.latency_torch, compared.accuracy_torch),
        (f"{result.path.name}, {result.info.precision}", result.size, result.latency, compared.accuracy_file),
    )
    for name, size, latency, accuracy in rows:
        share = "-" if accuracy is None else f"{accuracy:.1%}"
        table.add_row(Text(name), f"{size / 2**20:.1f} MB", f"{1000 * latency:.1f}", share)
    table_console().print(table)
    print(
        f"{compared.rows} answers on {result.source}: same best class {compared.agreement:.1%}, "
        f"typical difference {compared.typical:.2g} of the logits' spread, largest {compared.difference:.2g}"
    )
    for fault in result.unreadable:
        print(f"left out: {fault}")
    if compared.accuracy_torch is None:
        print("note: accuracy was not compared: no label of these clips is a class of the network; --data names others")
