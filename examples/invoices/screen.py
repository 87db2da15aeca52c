"""What is seen while the demo works: lines, and on a terminal a bar below them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text


class Screen:
    """Prints lines; inside `bar` also how far a list of letters is."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str, *, style: str = "") -> None:
        """Print a line, as it is."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def print(self, renderable: RenderableType) -> None:
        """Print a table, with a line before it."""
        self.console.print()
        self.console.print(renderable)

    @contextmanager
    def bar(self, total: int) -> Iterator[Bar]:
        """Show a bar of `total` parts on a terminal, nothing without one."""
        progress = Progress(
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        with progress:
            yield Bar(progress, total)


class Bar:
    """A bar that is on the screen."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)

    def at(self, text: str) -> None:
        """Say what is at work."""
        self._progress.update(self._task, description=text)

    def advance(self) -> None:
        """One part is done."""
        self._progress.advance(self._task)


def money_text(total: str) -> str:
    """Write an amount for people: 1,234.50."""
    return f"{Decimal(total):,}"
