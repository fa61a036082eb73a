"""Commands about runs: start, watch, stop, resume, list, name and delete them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leukodash.cli.parameters import ANY_RUN, BACKBONE, DATA, OWNER, PRESET, RUN, SETTINGS, Names, RunType, read_dataset
from leukodash.cli.terminal import print_table, progress_bar
from leukodash.errors import RunError

if TYPE_CHECKING:
    from leukodash.data.dataset import Dataset
    from leukodash.jobs.sweep import Planned
    from leukodash.runs.run_folder import Run


@click.command()
@DATA
@BACKBONE
@PRESET
@SETTINGS
@OWNER
@click.option("--title", default="", metavar="TEXT", help="A name for the run.")
def train(data: Path, backbone: str, preset: str, settings: dict[str, Any], owner: str, title: str) -> int:
    """Train one run in the foreground."""
    from leukodash.config.presets import make_config
    from leukodash.jobs import launch
    from leukodash.runs.access import OPERATOR

    config = make_config(preset, backbone, read_dataset(data), **settings)
    return watch(launch.start(config, OPERATOR, title=title, owner=owner))


def _several(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of commands for several runs. Names after the first one of ``--backbone`` are arguments."""
    names = Names("leukodash.models.backbones:BACKBONES")
    for decorate in (
        click.argument("more_backbones", nargs=-1, type=names, metavar=""),
        click.option("--vary", metavar="KEY=VALUE,VALUE", help="A setting and the values to try."),
        SETTINGS,
        PRESET,
        click.option("--backbone", type=names, required=True, multiple=True, help="One or more."),
        DATA,
    ):
        command = decorate(command)
    return command


def _planned(
    data: Path, preset: str, settings: dict, vary: str | None, backbone: Sequence[str], more_backbones: Sequence[str]
) -> tuple[Dataset, list[Planned]]:
    """Read the data set and make the configurations for ``sweep`` and ``estimate``."""
    from leukodash.jobs.sweep import plan, read_values, sweepable
    from leukodash.models.backbones import BACKBONES

    dataset, setting, values, names = (read_dataset(data), None, [], [*backbone, *more_backbones])
    if vary:
        name, _, text = vary.partition("=")
        choices = {setting.name: setting for setting in sweepable(BACKBONES[names[0]])}
        if name not in choices:
            raise RunError(f"'{name}' is not a setting that can be varied. Choose one of {', '.join(choices)}.")
        setting, values = choices[name], read_values(text, choices[name])
    return dataset, plan(preset, names, dataset, settings, setting, values)


@click.command()
@_several
@OWNER
def sweep(owner: str, **options: Any) -> None:
    """Train several backbones, with several values of one setting."""
    from leukodash.jobs import launch
    from leukodash.runs.access import OPERATOR

    _, planned = _planned(**options)
    for run in launch.start_together(planned, OPERATOR, owner=owner):
        click.echo(run.path)
    click.echo(f"{len(planned)} runs are queued. To see them: python -m leukodash runs", err=True)


@click.command()
@_several
def estimate(**options: Any) -> None:
    """Say how long such runs would take on this machine."""
    from leukodash.jobs.estimate import estimate_together, estimate_words
    from leukodash.models.weights import find_weights
    from leukodash.runs.run_folder import list_runs, readable

    dataset, planned = _planned(**options)
    configs = [plan.config for plan in planned]
    missing = [config for config in configs if config.weights == "imagenet" and find_weights(config.spec) is None]
    configs = [config.as_random_start() if config in missing else config for config in configs]
    titles = [config.spec.title for config in configs]
    summary = estimate_words(titles, estimate_together(configs, dataset, readable(list_runs())[0]))
    click.echo(f"{summary} · from random weights, unless they can be downloaded" if missing else summary)


@click.command()
@DATA
@BACKBONE
@PRESET
@SETTINGS
def find_lr(data: Path, backbone: str, preset: str, settings: dict[str, Any]) -> int:
    """Search the learning rate at which the loss falls fastest."""
    from leukodash.config.presets import make_config
    from leukodash.jobs.lr_search import curve, start_finder, suggestion
    from leukodash.runs.access import OPERATOR

    run = start_finder(make_config(preset, backbone, read_dataset(data), **settings), OPERATOR)
    status = watch(run)
    if status == 0:
        rate = suggestion(curve(run))
        click.echo(f"learning_rate={rate:g}" if rate else "The loss fell at no rate: look at the data first.")
    return status


@click.command()
@RUN
@SETTINGS
@OWNER
def again(run: Run, settings: dict[str, Any], owner: str) -> int:
    """Train a new run with the settings of an old one.

    Some of them can be changed with --set.
    """
    from leukodash.jobs import launch
    from leukodash.runs.access import OPERATOR

    if "split" in settings:
        settings["split"] = {**run.config.split.model_dump(), **settings["split"]}
    return watch(launch.start(run.config.changed(**settings), OPERATOR, owner=owner or run.about["owner"]))


@click.command()
@click.argument("run", type=RunType(imported=True), metavar="RUN")
@click.option("--title", metavar="TEXT")
@click.option("--owner", metavar="NAME")
@click.option("--notes", metavar="TEXT")
def about(run: Run, **changes: str | None) -> None:
    """Show or change a run's name, owner and notes."""
    from leukodash.runs.access import OPERATOR, change_about

    if texts := {name: text for name, text in changes.items() if text is not None}:
        change_about(run, OPERATOR, **texts)
    click.echo("\n".join(f"{name}: {run.about[name]}" for name in changes))


@click.command()
@ANY_RUN
@click.option("--lines", default=20, show_default=True)
def log(run: Run, lines: int) -> None:
    """Print the end of a run's output."""
    click.echo(run.log_tail(lines))


@click.command()
@click.argument("run")
@click.option("--undo", is_flag=True, help="Restore it; possible for a day.")
def delete(run: str, undo: bool) -> None:
    """Delete a stopped, failed or finished run."""
    from leukodash.runs import trash
    from leukodash.runs.access import OPERATOR
    from leukodash.runs.run_folder import find_run

    if undo:
        click.echo(trash.bring_back(run, OPERATOR).path)
        return
    found = find_run(run)
    trash.purge()
    trash.discard(found, OPERATOR)
    click.echo(f"{found.id} was deleted. For a day, this restores it: python -m leukodash delete --undo {found.id}")


@click.command()
@RUN
def resume(run: Run) -> int:
    """Resume a stopped, failed or lost run."""
    from leukodash.jobs import launch
    from leukodash.runs.access import OPERATOR

    return watch(launch.resume(run, OPERATOR))


@click.command()
@ANY_RUN
def stop(run: Run) -> None:
    """Ask a run to stop and keep what it reached."""
    from leukodash.jobs import launch
    from leukodash.runs.access import OPERATOR

    launch.stop(run, OPERATOR)
    click.echo(f"{run.id} was asked to stop.")


@click.command()
@click.option("--owner", metavar="NAME", help="Only the runs of this person.")
def runs(owner: str | None) -> None:
    """List all runs, newest first."""
    from leukodash.runs.run_folder import run_folders

    rows = []
    for run in run_folders():
        if owner and run.about["owner"] != owner:
            continue
        status, metrics, problem = run.status, run.metrics, run.problem
        state = "damaged" if problem else "imported" if run.imported else status["state"]
        words = f"{metrics['accuracy']:.1%} of {metrics['n']}" if metrics else f"{status['stage']} {status['message']}"
        rows.append((run.id, state, run.about["owner"], problem or words))
    plain = "\n".join(f"{run}  {state:<8}  {owner:<12}  {words}" for run, state, owner, words in rows)
    print_table(("Run", "State", "Owner", "Result"), rows, plain)


def watch(run: Run) -> int:
    """Show a run's progress until it ends, and print its folder last. Control-C asks it to stop."""
    from leukodash.evaluation.person_verdicts import verdict_words
    from leukodash.evaluation.statistics import wilson
    from leukodash.jobs import launch
    from leukodash.runs.access import OPERATOR
    from leukodash.runs.leaderboard import marks
    from leukodash.runs.run_folder import LIVE
    from leukodash.runs.run_verdicts import run_verdicts

    stopping = False
    with progress_bar() as bar:
        while (status := run.status)["state"] in LIVE:
            try:
                bar.stage = status["stage"] or status["state"]
                bar(status["progress"], status["message"], status.get("seconds_left"))
                time.sleep(0.2)
            except KeyboardInterrupt:
                if stopping or run.state not in LIVE:
                    raise
                stopping = True
                launch.stop(run, OPERATOR)
                bar.print("stopping after this step; progress is kept …")
    if status["state"] == "failed":
        raise RunError(status.get("error") or "The training ended without an error message: see its log.")
    if status["state"] == "lost":
        raise RunError(f"The training process ended without a message. To go on: resume {run.id}\n{run.log_tail(8)}")
    if metrics := run.metrics:
        low, high = wilson(metrics["correct"], metrics["n"])
        accuracy = f"{metrics['part']} accuracy {metrics['accuracy']:.1%}, {metrics['correct']} of {metrics['n']}"
        click.echo(f"{accuracy} (Wilson 95 %: {low:.1%} to {high:.1%}), {metrics['split']}")
        if verdicts := run_verdicts(run):
            click.echo(f"By person: {verdict_words(verdicts)}")
        if note := marks(metrics):
            click.echo(f"Note: {note}")
    click.echo(run.path)
    return 0 if status["state"] == "finished" else 130
