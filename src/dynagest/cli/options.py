"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

Fps = Annotated[
    float | None,
    typer.Option(min=0.1, max=120, help="Frames of a stream a second for the network. [default: its card's]"),
]
Device = Annotated[str | None, typer.Option(help="Such as cpu, cuda or cuda:1. [default: cuda if there is one]")]


def switch(flags: str, text: str) -> Any:
    """An option without a value, as ``--show`` or ``--fast/--realtime``; typer alone would show one, ``<bool>``."""
    return typer.Option(flags, metavar="", help=text)


def table_console() -> Console:
    """For tables of numbers: 80 columns at least, because rich cuts digits off where there is no room for them."""
    console = Console()
    console.width = max(console.width, 80)
    return console


def choose_device(name: str | None) -> str:
    """``name``; for None, "cuda" if there is such a device, else "cpu". Raises ``RecipeError`` if it cannot be used."""
    import torch

    from dynagest.runtimes.torch_network import check_device

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(name, f"--device {name}")
    return name


def device_of(model: Path, name: str | None) -> str | None:
    """The device for the network at ``model``: that of ``choose_device`` if torch runs it.

    For an exported file this is ``name`` unchecked, because exported files must not need torch.
    """
    from dynagest.runtimes.load import is_exported

    return name if is_exported(model) else choose_device(name)
