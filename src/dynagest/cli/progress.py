"""Progress bars on stderr, so that stdout holds only what the command was asked for."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar inside the block, if stderr is a terminal. Yields a function of (done, all) that moves the bar."""
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def rendering(what: str, folder: Path) -> Iterator[Callable[[int, int], None]]:
    """``progress_bar`` while something is rendered into a folder. Ctrl-C says how to go on and exits with code 130."""
    try:
        with progress_bar(f"rendering {what}") as progress:
            yield progress
    except KeyboardInterrupt:
        print(f"interrupted; the same command completes {folder}", file=sys.stderr)
        raise typer.Exit(130) from None
