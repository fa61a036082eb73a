"""What commands draw on a terminal: progress bars and tables. Pipes and files get plain text."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text


class Bar:
    """A progress bar on standard error. Without a terminal, the name of each stage is printed once.

    Attributes:
        stage: what is being done, written before the bar.
    """

    def __init__(self, progress: Progress, stage: str) -> None:
        self.stage, self._progress, self._printed = stage, progress, ""
        self._task = progress.add_task(stage, total=1, message="", left="")

    def __call__(self, fraction: float, message: str = "", seconds_left: float | None = None) -> None:
        """Draw the bar; without `seconds_left`, the time that is left is estimated from the progress so far."""
        if self._progress.disable and self.stage != self._printed:
            click.echo(self.stage, err=True)
            self._printed = self.stage
        self._progress.update(self._task, completed=fraction, description=self.stage, message=message)
        seconds = self._progress.tasks[0].time_remaining if seconds_left is None else seconds_left
        left = f"· {int(seconds // 60)}:{int(seconds % 60):02d} left" if seconds else ""
        self._progress.update(self._task, left=left)

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)


@contextmanager
def progress_bar(stage: str = "") -> Iterator[Bar]:
    """Yield a `Bar` that ends with the block."""
    columns = ("{task.description:<11}", "{task.fields[message]}", "{task.fields[left]}")
    stage_column, *others = (TextColumn(column, style="none", markup=False) for column in columns)
    console = Console(stderr=True)
    with Progress(
        stage_column, BarColumn(28), TaskProgressColumn(), *others,
        console=console, disable=not console.is_terminal, redirect_stdout=False,
    ) as progress:  # fmt: skip
        yield Bar(progress, stage)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], plain: str) -> None:
    """Print a table on a terminal, and `plain` into a pipe or file."""
    if not sys.stdout.isatty():
        click.echo(plain, nl=bool(plain))
        return
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
