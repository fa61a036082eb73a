"""Commands about runs: start, watch, stop, resume, list, name and delete them."""

import argparse
import sys
import time
from typing import TYPE_CHECKING

from leukodash.cli.progress_bar import Bar
from leukodash.config.presets import make_config
from leukodash.config.run_config import parse_settings
from leukodash.errors import RunError
from leukodash.jobs import launch as jobs
from leukodash.models.backbones import BACKBONES
from leukodash.runs.run_folder import LIVE, Run, find_run, list_runs

if TYPE_CHECKING:
    from leukodash.data.dataset import Dataset
    from leukodash.jobs.sweep import Planned


def train(options: argparse.Namespace) -> int:
    """Train one run and watch it."""
    from leukodash.data.dataset import load_dataset

    dataset = load_dataset(options.data, Bar("reading files"))
    config = make_config(options.preset, options.backbone, dataset, **parse_settings(options.set))
    return watch(jobs.start(config, title=options.title, owner=options.owner))


def _planned(options: argparse.Namespace) -> tuple["Dataset", list["Planned"]]:
    """Read the data set and make the configs that ``sweep`` and ``estimate`` are asked for."""
    from leukodash.data.dataset import load_dataset
    from leukodash.jobs.sweep import plan, read_values, sweepable

    dataset, vary, values = load_dataset(options.data, Bar("reading files")), None, []
    if options.vary:
        name, _, text = options.vary.partition("=")
        settings = {setting.name: setting for setting in sweepable(BACKBONES[options.backbone[0]])}
        if name not in settings:
            raise RunError(f"'{name}' is no setting that can be varied. Choose one of {', '.join(settings)}.")
        vary, values = settings[name], read_values(text, settings[name])
    return dataset, plan(options.preset, options.backbone, dataset, parse_settings(options.set), vary, values)


def sweep(options: argparse.Namespace) -> int:
    """Start several runs; they wait for their turn by themselves."""
    _, planned = _planned(options)
    for one in planned:
        print(jobs.start(one.config, title=one.title, owner=options.owner).path)
    print(f"{len(planned)} runs wait for their turn. See: python -m leukodash runs", file=sys.stderr)
    return 0


def estimate(options: argparse.Namespace) -> int:
    """Say what such runs would take."""
    from leukodash.jobs.estimate import estimate_together, estimate_words
    from leukodash.models.weights import find_weights

    dataset, planned = _planned(options)
    configs = [one.config for one in planned]
    random = [c.weights == "imagenet" and find_weights(c.spec) is None for c in configs]
    configs = [config.as_random_start() if no else config for config, no in zip(configs, random, strict=True)]
    said = estimate_words([config.spec.title for config in configs], estimate_together(configs, dataset, list_runs()))
    print(f"{said} · from random weights, unless they can be downloaded" if any(random) else said)
    return 0


def find_rate(options: argparse.Namespace) -> int:
    """Search the learning rate, and print the one at which the loss falls fastest."""
    from leukodash.data.dataset import load_dataset
    from leukodash.jobs.lr_search import curve, start_finder, suggestion

    dataset = load_dataset(options.data, Bar("reading files"))
    run = start_finder(make_config(options.preset, options.backbone, dataset, **parse_settings(options.set)))
    code = watch(run)
    if code == 0:
        rate = suggestion(curve(run))
        print(f"learning_rate={rate:g}" if rate else "The loss fell at no rate: look at the data first.")
    return code


def again(options: argparse.Namespace) -> int:
    """Train a new run with an old one's settings, some of them changed."""
    old = find_run(options.run)
    settings = parse_settings(options.set)
    if "split" in settings:
        settings["split"] = {**old.config.split.model_dump(), **settings["split"]}
    return watch(jobs.start(old.config.changed(**settings), owner=options.owner or old.about["owner"]))


def about(options: argparse.Namespace) -> int:
    """Show or write a run's name, owner and notes."""
    run = find_run(options.run)
    written = {name: getattr(options, name) for name in ("title", "owner", "notes")}
    about = run.about | {name: text for name, text in written.items() if text is not None}
    if about != run.about:
        run.write("about.json", about)
    print("\n".join(f"{name}: {text}" for name, text in about.items()))
    return 0


def log(options: argparse.Namespace) -> int:
    """Print the end of a run's output."""
    print(find_run(options.run).log_tail(options.lines))
    return 0


def delete(options: argparse.Namespace) -> int:
    """Delete a run, or bring it back."""
    from leukodash.runs import trash

    if options.undo:
        print(trash.bring_back(options.run).path)
        return 0
    run = find_run(options.run)
    trash.purge()
    trash.discard(run)
    print(f"{run.id} was deleted. For a day, this brings it back: python -m leukodash delete --undo {run.id}")
    return 0


def resume(options: argparse.Namespace) -> int:
    """Go on with a run, and watch it."""
    return watch(jobs.resume(find_run(options.run)))


def stop(options: argparse.Namespace) -> int:
    """Ask a run to stop."""
    run = find_run(options.run)
    jobs.stop(run)
    print(f"{run.id} was asked to stop.")
    return 0


def runs(options: argparse.Namespace) -> int:
    """List all runs, newest first."""
    for run in list_runs():
        if options.owner and run.about["owner"] != options.owner:
            continue
        status, metrics = run.status, run.metrics
        words = f"{metrics['accuracy']:.1%} of {metrics['n']}" if metrics else f"{status['stage']} {status['message']}"
        print(f"{run.id}  {status['state']:<8}  {run.about['owner']:<12}  {words}")
    return 0


def watch(run: Run) -> int:
    """Draw a run's progress until it ends, and print its folder last. Control-C asks it to stop."""
    bar, asked = Bar(""), False
    while True:
        try:
            status = run.status
            if status["state"] not in LIVE:
                break
            bar.words = status["stage"] or status["state"]
            bar(status["progress"], status["message"], status.get("seconds_left"))
            time.sleep(0.2)
        except KeyboardInterrupt:
            if asked or run.state not in LIVE:
                raise
            asked = True
            jobs.stop(run)
            bar.line("stopping after this step; what was reached is kept …")
    bar.end()
    if status["state"] == "failed":
        raise RunError(status["error"])
    if status["state"] == "lost":
        raise RunError(f"The training process has gone without a word. Go on with: resume {run.id}\n{run.log_tail(8)}")
    if run.metrics:
        print(_result_words(run))
    print(run.path)
    return 0 if status["state"] == "finished" else 130


def _result_words(run: Run) -> str:
    from leukodash.evaluation.metrics import wilson
    from leukodash.runs.leaderboard import marks

    metrics = run.metrics
    low, high = wilson(metrics["correct"], metrics["n"])
    text = f"{metrics['part']} accuracy {metrics['accuracy']:.1%}, {metrics['correct']} of {metrics['n']}"
    text += f" (Wilson 95 %: {low:.1%} to {high:.1%}), {metrics['split']}"
    said = marks(metrics)
    return f"{text}\nNote: {said}" if said else text
