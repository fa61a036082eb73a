"""Options and argument types that several commands share. They import what they check against when it is needed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from leukodash.cli.terminal import progress_bar
from leukodash.errors import RunError

if TYPE_CHECKING:
    from leukodash.data.dataset import Dataset
    from leukodash.runs.run_folder import Run


class Names(click.Choice[str]):
    """The keys of a table of LeukoDash, such as ``leukodash.models.backbones:BACKBONES``."""

    def __init__(self, table: str) -> None:
        self.table, self.case_sensitive = table, True

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        """The keys, imported when they are needed."""
        module, name = self.table.split(":")
        return tuple(getattr(import_module(module), name))

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        """Return the keys in one sentence."""
        return f"Choose one of {', '.join(self.choices)}."


class RunType(click.ParamType):
    """A run, by its id or the start of it: finished ones only, imported ones too, damaged ones too."""

    name = "run"

    def __init__(self, *, finished: bool = False, imported: bool = False, damaged: bool = False) -> None:
        self.finished, self.imported, self.damaged = finished, imported, damaged

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Run:
        """Return the run. Raises RunError where there is none, or where the command needs another one."""
        from leukodash.runs.run_folder import find_run

        run = find_run(value)
        if run.imported and not self.imported:
            raise RunError(f"{run.id} holds predictions of another tool. Choose a run that was trained here.")
        if not self.damaged:
            run.check()
        if self.finished and not run.metrics:
            raise RunError(f"{run.id} has no results yet: it is {run.state}. Wait for it, or leave it out.")
        return run

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the runs whose id starts like this."""
        from leukodash.runs.run_folder import published_runs, run_folders

        runs = [run for run in (*run_folders(), *published_runs()) if run.id.startswith(incomplete)]
        return [CompletionItem(run.id, help=run.title) for run in runs if self.imported or not run.imported]


def read_dataset(folder: Path) -> Dataset:
    """Read a data set, with a progress bar."""
    from leukodash.data.dataset import load_dataset

    with progress_bar("reading files") as bar:
        return load_dataset(folder, bar)


def _settings(ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]) -> dict[str, Any]:
    from leukodash.config.run_config import parse_settings

    return parse_settings(list(pairs))


PATH = click.Path(path_type=Path)
RUN = click.argument("run", type=RunType(), metavar="RUN")
ANY_RUN = click.argument("run", type=RunType(imported=True, damaged=True), metavar="RUN")
FINISHED_RUN = click.argument("run", type=RunType(finished=True), metavar="RUN")
DATA = click.option("--data", type=PATH, required=True, metavar="DIR", help="Folder of the data set.")
BACKBONE = click.option("--backbone", type=Names("leukodash.models.backbones:BACKBONES"), required=True)
PRESET = click.option(
    "--preset", type=Names("leukodash.config.presets:PRESETS"), default="recommended", show_default=True
)
SETTINGS = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", callback=_settings, help="Any setting, such as epochs=10."
)
OWNER = click.option("--owner", default="", metavar="NAME", help="Whose run it is.")
