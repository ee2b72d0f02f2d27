"""``dynagest count`` and ``dynagest doctor``: report, and change nothing."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dynagest.cli.options import switch, table_console
from dynagest.errors import ModelError, hint

if TYPE_CHECKING:
    from dynagest.networks.spec import NetworkSpec

STATUS_STYLE = {"ok": "green", "warning": "yellow", "error": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command(epilog="Example: `dynagest count action_resnet50 --classes 83`")(count)
    app.command(epilog="Example: `dynagest doctor`")(doctor)


def count(
    models: Annotated[
        list[str],
        typer.Argument(help="Names of networks or of systems of the paper's tables (see `--list`), or run folders."),
    ] = [],  # noqa: B006
    classes: Annotated[int, typer.Option(min=1, help="Number of classes (for names).")] = 83,
    segments: Annotated[
        int | None, typer.Option(min=1, help="Frames of a clip. [default: as published, or the run's own]")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of the input. [default: as published, or the run's own]")
    ] = None,
    width: Annotated[
        int, typer.Option(min=8, help="Channels of the stem (for names); 64 is the published network.")
    ] = 64,
    list_: Annotated[bool, switch("--list", "Only list the names.")] = False,
) -> None:
    """Count parameters, multiply-adds and the paper's legacy GFLOPs of networks, with and without decoders."""
    import torch

    from dynagest.networks.build import build_network, list_models
    from dynagest.networks.count import count as count_network
    from dynagest.networks.weights import load_network
    from dynagest.task.decoder import MultiScaleDecoder
    from dynagest.training.recipes_systems import SYSTEMS

    if list_ or not models:
        for name in dict.fromkeys([*list_models(), *SYSTEMS]):
            print(name)
        return
    table = Table(box=SIMPLE, padding=0, collapse_padding=True)
    for column in ("network", "clip", "parameters", "GMAC", "legacy", "MSD weights", "MSD GMAC"):
        table.add_column(
            column, justify="left" if column == "network" else "right", no_wrap=column != "network", overflow="fold"
        )
    for name in models:
        if Path(name).exists():
            net, card = load_network(Path(name))
            frames, side = segments or card.num_segments, size or card.size
        else:
            spec = _published(name, classes)
            frames, side = segments or spec.num_segments, size or spec.size
            with torch.device("meta"):  # only shapes are needed, and random weights would take seconds
                net = build_network(replace(spec, num_segments=frames, size=side, width=width))
        cost = count_network(net, clip_shape=(1, frames, net.channels, side, side))
        # Depth decoders attach only to 2D networks that are not fed depth.
        taught = net.taps and net.inputs == "rgb"
        decoder = MultiScaleDecoder.for_model(net, image_size=side) if taught else None
        table.add_row(
            Text(name),
            f"{frames} x {side}",
            f"{cost.parameters:,}",
            f"{cost.multiply_adds / 1e9:.3f}",
            f"{cost.legacy_flops / 1e9:.3f}",
            f"{sum(p.numel() for p in decoder.parameters()):,}" if decoder else "-",
            f"{decoder.multiply_adds(frames) / 1e9:.3f}" if decoder else "-",
        )
    table_console().print(table)
    Console().print(
        "GMAC: 10^9 multiply-adds. legacy: GFLOPs by the counter behind the paper's tables (docs/method.md).\n"
        "MSD: the two depth decoders, which exist in training only."
    )


def _published(name: str, classes: int) -> "NetworkSpec":
    """The network of this name, or that with which a system is tested, with the published input."""
    from dynagest.networks.build import list_models, natural_input
    from dynagest.networks.spec import NetworkSpec
    from dynagest.training.recipes import get_recipe
    from dynagest.training.recipes_systems import SYSTEMS

    if name in list_models():
        frames, size = natural_input(name)
        return NetworkSpec(name, classes, frames, size=size)
    if name in SYSTEMS:
        return SYSTEMS[name](get_recipe("egogesture")).network_spec(classes)
    raise ModelError(f"there is no network or system {name!r}; {hint(name, [*list_models(), *SYSTEMS])}")


def doctor() -> None:
    """Say what this machine offers and what stands in the way; exit code 1 if something will fail."""
    from dynagest.doctor import examine

    table = Table(show_header=False, box=None)
    findings = examine(Path.cwd())
    for finding in findings:
        status = Text(finding.status, STATUS_STYLE[finding.status])
        table.add_row(status, Text(finding.subject), Text(finding.detail))
    Console().print(table)
    if any(finding.status == "error" for finding in findings):
        raise typer.Exit(1)
