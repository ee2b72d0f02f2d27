"""Shows the progress of a run: a bar on a terminal, plain lines elsewhere, nothing without a console."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """A run's progress bar or lines; ``steps`` are those of one epoch.

    Example: ``with Display(Console(), epochs=25, steps=1199) as show: show.step(0, 12, "loss 1.2")``
    """

    def __init__(self, console: Console | None, epochs: int, steps: int) -> None:
        self._console, self._epochs, self._steps = console, epochs, steps
        self._bar: Progress | None = None
        if console is not None and console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[text]}"), console=console)
            self._task = self._bar.add_task("", total=steps, text="")

    @property
    def live(self) -> bool:
        """Whether progress is a bar that is redrawn in place, rather than lines."""
        return self._bar is not None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, epoch: int, done: int, text: str | None) -> None:
        """Show that ``done`` steps of epoch ``epoch`` (0-based) are done; ``text`` is news about them, if any."""
        title = f"epoch {epoch + 1}/{self._epochs}"
        if self._bar is not None:
            self._bar.update(self._task, description=title, completed=done)
            if text is not None:
                self._bar.update(self._task, text=text)
        elif text is not None:
            self.note(f"{title} step {done}/{self._steps}  {text}")

    def note(self, text: str, loud: bool = False) -> None:
        """Print a line that stays; ``loud`` makes it stand out."""
        if self._console is not None:
            style = "bold yellow" if loud else None
            self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
