"""The ``dynagest`` command: the only place that parses arguments.

Each sub-command imports what it needs when it runs, so that ``--help`` answers at once.
"""

import os
import re
import sys
from importlib.metadata import requires
from io import TextIOWrapper
from typing import Annotated

import typer
from rich.console import Console

from dynagest import __version__
from dynagest.cli import data, export, inspect, live, reproduce, runs, serve, stream
from dynagest.errors import DynagestError

_RECOGNISING = {"predict", "evaluate", "tune", "live"}  # commands that also take an exported file, without torch

app = typer.Typer(
    name="dynagest",
    epilog="First steps: `dynagest doctor`, `dynagest data index folders DATA`, `dynagest data check data/folders`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
for commands in (runs, export, inspect, reproduce, stream, live, serve):
    commands.register(app)


def _version(asked: bool) -> None:
    if asked:
        print(f"dynagest {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    """Dynamic hand gestures from any RGB camera, taught by depth."""


def main() -> None:
    """Run the command line.

    A user's mistake, a path that the system refuses, or a missing package ends in one message and exit code 2.
    Typer ends with exit code 130 on Ctrl-C.
    """
    # OpenMP reads this when torch starts its threads. It makes waiting threads spin briefly and then sleep, because
    # spinning for milliseconds made training up to ten times slower beside another program on the same cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if isinstance(sys.stdout, TextIOWrapper):  # printing a name that its encoding lacks (on Windows) must not fail
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does by default
    stderr = Console(stderr=True, emoji=False)  # a file may be called :smile:
    try:
        app()
    except DynagestError as error:
        message = str(error)
    except OSError as error:
        # Any place that looks at a path of the user may meet a folder that may not be entered, or a name that is too
        # long. Such an error names its file; one that does not is no mistake in a name.
        if error.filename is None:
            raise
        message = f"{error.filename}: {error.strerror}; check the name, and that you may read or write there"
    except ModuleNotFoundError as error:
        extra = _extra_with(error.name or "")
        if extra is None:
            raise
        message = f'this needs {error.name}, which is not installed: pip install "dynagest[{extra}]"'
        if error.name == "torch" and not _RECOGNISING.isdisjoint(sys.argv[1:2]):
            message += "; to recognise gestures without it, name a file that `dynagest export` wrote"
    else:
        return
    stderr.print("[bold red]error:[/] ", end="")
    stderr.print(message, markup=False, highlight=False, soft_wrap=True)
    sys.exit(2)


def _extra_with(package: str) -> str | None:
    """The extra of dynagest that installs this package, or None."""
    found = (re.fullmatch(rf'{re.escape(package)}\b.* extra == "(\w+)"', each) for each in requires("dynagest") or ())
    return next((match[1] for match in found if match), None)
