"""The command line: ``python -m leukodash``. The same functions as the pages, with the same words.

Exit status: 0 done, 1 an error in LeukoDash, 2 something that the user can mend (the sentence says how).
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leukodash.errors import LeukoDashError, RunError
from leukodash.models.backbones import BACKBONES
from leukodash.runs.config import PRESETS, make_config, parse_settings
from leukodash.runs.folder import LIVE, Run, find_run, list_runs
from leukodash.runs.jobs import resume, start, stop

if TYPE_CHECKING:
    from leukodash.data.dataset import Dataset
    from leukodash.runs.sweep import Planned

BAR = 28


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run_command(options)
    except LeukoDashError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe had enough
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m leukodash",
        description="Train, compare and explain networks for acute lymphoblastic leukemia cells. No medical device.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = commands.add_parser("data", help="make or check a data set").add_subparsers(required=True, metavar="WHAT")
    demo = data.add_parser("demo", help="draw the generated demo cells")
    demo.add_argument("folder", type=Path, metavar="DIR")
    demo.add_argument("--cells", type=int, default=600)
    demo.add_argument("--subjects", type=int, default=24)
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(run_command=_data_demo)
    check = data.add_parser("check", help="count, decode every image, and look for duplicates and leaks")
    check.add_argument("folder", type=Path, metavar="DIR")
    check.set_defaults(run_command=_data_check)

    _run_commands(commands)

    compare = commands.add_parser("compare", help="compare finished runs")
    compare.add_argument("runs", nargs="+", metavar="RUN")
    compare.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON too")
    compare.add_argument("--report", type=Path, metavar="FILE", help="write an HTML report that works offline")
    compare.set_defaults(run_command=_compare)

    card = commands.add_parser("card", help="print a finished run's model card, in Markdown")
    card.add_argument("run", metavar="RUN")
    card.set_defaults(run_command=_card)

    bring = commands.add_parser("import", help="bring another tool's predictions, to be compared")
    bring.add_argument("file", type=Path, metavar="FILE", help="CSV: file, label, p_<class> …, optionally subject")
    bring.add_argument("--title", default="", help="a name for it")
    bring.add_argument("--owner", default="", help="whose it is")
    bring.set_defaults(run_command=_import)

    classify = commands.add_parser("classify", help="class, probabilities and heat map of images")
    classify.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    classify.add_argument("--run", action="append", required=True, metavar="RUN", help="may be given several times")
    classify.add_argument("--csv", type=Path, metavar="FILE", help="write the table to this file")
    classify.add_argument("--overlays", type=Path, metavar="DIR", help="write heat maps over the cells as PNG files")
    classify.set_defaults(run_command=_classify)
    return parser


def _run_commands(commands: "argparse._SubParsersAction") -> None:
    """Add what starts runs, and what is done with them."""
    what = argparse.ArgumentParser(add_help=False)
    what.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the data set")
    what.add_argument("--preset", default="recommended", choices=list(PRESETS), metavar="NAME", help=", ".join(PRESETS))
    one = {"required": True, "choices": list(BACKBONES), "metavar": "NAME", "help": ", ".join(BACKBONES)}
    change = argparse.ArgumentParser(add_help=False)
    change.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting: epochs=10")
    whose = argparse.ArgumentParser(add_help=False)
    whose.add_argument("--owner", default="", help="whose run it is")

    train = commands.add_parser("train", help="train one run, in the foreground", parents=[what, change, whose])
    train.add_argument("--backbone", **one)
    train.add_argument("--title", default="", help="a name for the run")
    train.set_defaults(run_command=_train)

    for name, words, function in (
        ("sweep", "train several backbones, with several values of one setting", _sweep),
        ("estimate", "say what such runs would take on this machine", _estimate),
    ):
        several = commands.add_parser(name, help=words, parents=[what, change, whose])
        several.add_argument("--backbone", nargs="+", **one)
        several.add_argument("--vary", metavar="KEY=VALUE,VALUE", help="a setting and the values to try")
        several.set_defaults(run_command=function)

    find = commands.add_parser("find-lr", help="search the learning rate", parents=[what, change])
    find.add_argument("--backbone", **one)
    find.set_defaults(run_command=_find_rate)

    for name, words, function in (
        ("resume", "go on with a stopped, failed or lost run", _resume),
        ("stop", "ask a run to stop and keep what it reached", _stop),
        ("again", "train a new run with an old one's settings, or with some changed", _again),
        ("about", "show, or write, a run's name, owner and notes", _about),
        ("log", "the end of a run's output", _log),
        ("delete", "delete a run that is over", _delete),
    ):
        command = commands.add_parser(name, help=words, parents=[change, whose] if name == "again" else [])
        command.add_argument("run", metavar="RUN")
        if name == "about":
            for field in ("title", "owner", "notes"):
                command.add_argument(f"--{field}")
        if name == "log":
            command.add_argument("--lines", type=int, default=20)
        if name == "delete":
            command.add_argument("--undo", action="store_true", help="bring it back; possible for a day")
        command.set_defaults(run_command=function)

    runs = commands.add_parser("runs", help="list all runs, newest first")
    runs.add_argument("--owner", help="of this person only")
    runs.set_defaults(run_command=_runs)


def _data_demo(options: argparse.Namespace) -> int:
    from leukodash.data.synthetic import make_demo

    folder = make_demo(options.folder, options.cells, options.subjects, options.seed, _Bar("drawing cells"))
    print(f"{options.cells} generated cells of {options.subjects} subjects: {folder}")
    return 0


def _data_check(options: argparse.Namespace) -> int:
    from leukodash.data.dataset import label_title, load_dataset
    from leukodash.data.images import cell_store
    from leukodash.data.split import Split, find_leaks, make_split, split_words

    dataset = load_dataset(options.folder, _Bar("reading files"))
    cells = dataset.cells
    cell_store(dataset, 224, _Bar("decoding images"))
    kind = "generated" if dataset.generated else "real"
    print(f"{len(cells)} {kind} cells, all readable; fingerprint {dataset.fingerprint[:12]}")
    for label, rows in cells.groupby("label"):
        subjects = f" of {rows['subject'].nunique()} subjects" if dataset.has_subjects else ""
        print(f"  {label_title(label)} ({label}): {len(rows)} cells{subjects}")
    twins = int(cells.duplicated("sha256").sum())
    print(f"{twins} images are byte-identical to another one." if twins else "No two images are byte-identical.")
    default = Split(kind="subject" if dataset.has_subjects else "image")
    part = make_split(cells, default)
    leaks = find_leaks(cells, part)
    print(f"{split_words(cells, part, default.kind)}: {len(leaks)} leaks between the parts")
    if dataset.has_folds and cells["fold"].nunique() > 1:
        leaks = find_leaks(cells, cells["fold"].map("fold {}".format))
        print(f"The data set's own folds: {len(leaks)} leaks between them")
    return 0


def _train(options: argparse.Namespace) -> int:
    from leukodash.data.dataset import load_dataset

    dataset = load_dataset(options.data, _Bar("reading files"))
    config = make_config(options.preset, options.backbone, dataset, **parse_settings(options.set))
    return _watch(start(config, title=options.title, owner=options.owner))


def _planned(options: argparse.Namespace) -> tuple["Dataset", list["Planned"]]:
    """Read the data set and make the configs that ``sweep`` and ``estimate`` are asked for."""
    from leukodash.data.dataset import load_dataset
    from leukodash.runs.sweep import plan, read_values, sweepable

    dataset, vary, values = load_dataset(options.data, _Bar("reading files")), None, []
    if options.vary:
        name, _, text = options.vary.partition("=")
        settings = {setting.name: setting for setting in sweepable(BACKBONES[options.backbone[0]])}
        if name not in settings:
            raise RunError(f"'{name}' is no setting that can be varied. Choose one of {', '.join(settings)}.")
        vary, values = settings[name], read_values(text, settings[name])
    return dataset, plan(options.preset, options.backbone, dataset, parse_settings(options.set), vary, values)


def _sweep(options: argparse.Namespace) -> int:
    _, planned = _planned(options)
    for one in planned:
        print(start(one.config, title=one.title, owner=options.owner).path)
    print(f"{len(planned)} runs wait for their turn. See: python -m leukodash runs", file=sys.stderr)
    return 0


def _estimate(options: argparse.Namespace) -> int:
    from leukodash.models.weights import find_weights
    from leukodash.runs.estimate import estimate_together, estimate_words

    dataset, planned = _planned(options)
    configs = [one.config for one in planned]
    random = [c.weights == "imagenet" and find_weights(c.row) is None for c in configs]
    configs = [config.as_random_start() if no else config for config, no in zip(configs, random, strict=True)]
    said = estimate_words([config.row.title for config in configs], estimate_together(configs, dataset, list_runs()))
    print(f"{said} · from random weights, unless they can be downloaded" if any(random) else said)
    return 0


def _find_rate(options: argparse.Namespace) -> int:
    from leukodash.data.dataset import load_dataset
    from leukodash.runs.rates import curve, start_finder, suggestion

    dataset = load_dataset(options.data, _Bar("reading files"))
    run = start_finder(make_config(options.preset, options.backbone, dataset, **parse_settings(options.set)))
    code = _watch(run)
    if code == 0:
        rate = suggestion(curve(run))
        print(f"learning_rate={rate:g}" if rate else "The loss fell at no rate: look at the data first.")
    return code


def _again(options: argparse.Namespace) -> int:
    old = find_run(options.run)
    settings = parse_settings(options.set)
    if "split" in settings:
        settings["split"] = {**old.config.split.model_dump(), **settings["split"]}
    return _watch(start(old.config.changed(**settings), owner=options.owner or old.about["owner"]))


def _about(options: argparse.Namespace) -> int:
    run = find_run(options.run)
    written = {name: getattr(options, name) for name in ("title", "owner", "notes")}
    about = run.about | {name: text for name, text in written.items() if text is not None}
    if about != run.about:
        run.write("about.json", about)
    print("\n".join(f"{name}: {text}" for name, text in about.items()))
    return 0


def _log(options: argparse.Namespace) -> int:
    print(find_run(options.run).log_tail(options.lines))
    return 0


def _delete(options: argparse.Namespace) -> int:
    from leukodash.runs import trash

    if options.undo:
        print(trash.bring_back(options.run).path)
        return 0
    run = find_run(options.run)
    trash.purge()
    trash.discard(run)
    print(f"{run.id} was deleted. For a day, this brings it back: python -m leukodash delete --undo {run.id}")
    return 0


def _resume(options: argparse.Namespace) -> int:
    return _watch(resume(find_run(options.run)))


def _stop(options: argparse.Namespace) -> int:
    run = find_run(options.run)
    stop(run)
    print(f"{run.id} was asked to stop.")
    return 0


def _watch(run: Run) -> int:
    """Draw a run's progress until it ends, and print its folder last. Control-C asks it to stop."""
    bar, asked = _Bar(""), False
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
            stop(run)
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
    from leukodash.runs.results import marks

    metrics = run.metrics
    low, high = wilson(metrics["correct"], metrics["n"])
    text = f"{metrics['part']} accuracy {metrics['accuracy']:.1%}, {metrics['correct']} of {metrics['n']}"
    text += f" (Wilson 95 %: {low:.1%} to {high:.1%}), {metrics['split']}"
    said = marks(metrics)
    return f"{text}\nNote: {said}" if said else text


def _runs(options: argparse.Namespace) -> int:
    for run in list_runs():
        if options.owner and run.about["owner"] != options.owner:
            continue
        status, metrics = run.status, run.metrics
        words = f"{metrics['accuracy']:.1%} of {metrics['n']}" if metrics else f"{status['stage']} {status['message']}"
        print(f"{run.id}  {status['state']:<8}  {run.about['owner']:<12}  {words}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from leukodash.runs.imports import imported_runs
    from leukodash.runs.results import leaderboard

    imports = {run.id: run for run in imported_runs()}
    runs = [imports.get(name) or _finished(name) for name in options.runs]
    table = leaderboard(runs)
    columns = ["run", "accuracy", "low", "high", "correct", "n", "sensitivity", "specificity", "f1_weighted", "roc_auc"]
    shown = table[[*columns, "area_auc", "split", "marks"]]
    print(shown.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    if table["test_set"].nunique() > 1:
        print("These runs were not tested on the same cells: the numbers stand side by side but rank nothing.")
    if options.json:
        options.json.write_text(json.dumps(json.loads(table.to_json(orient="records")), indent=1) + "\n")
    if options.report:
        from leukodash.runs.report import comparison_report

        options.report.write_text(comparison_report(runs), encoding="utf-8")
    return 0


def _finished(name: str) -> Run:
    """Return a run that has results. Raises RunError."""
    run = find_run(name)
    if not run.metrics:
        raise RunError(f"{run.id} has no results yet: it is {run.state}. Wait for it, or leave it out.")
    return run


def _card(options: argparse.Namespace) -> int:
    from leukodash.runs.report import run_card

    print(run_card(_finished(options.run)))
    return 0


def _import(options: argparse.Namespace) -> int:
    from leukodash.runs.folder import finished
    from leukodash.runs.imports import import_predictions

    try:
        content = options.file.read_bytes()
    except OSError as error:
        raise RunError(
            f"'{options.file}' cannot be read ({error.strerror}). Give a CSV file of predictions."
        ) from error
    words = {"title": options.title, "owner": options.owner}
    print(import_predictions(content, options.file.name, like=finished(list_runs()), **words).path)
    return 0


def _classify(options: argparse.Namespace) -> int:
    from leukodash.explain.predict import classify_paths

    bar = _Bar("classifying")
    table = classify_paths(options.images, [find_run(name) for name in options.run], options.overlays, bar)
    bar.end()
    if options.csv:
        table.to_csv(options.csv, index=False)
    else:
        table.to_csv(sys.stdout, index=False)
    failed = table[table["error"] != ""].drop_duplicates("file")
    for sentence in failed["error"]:
        print(sentence, file=sys.stderr)
    return 2 if len(failed) else 0


class _Bar:
    """A progress bar on standard error; silent where that is no terminal, but for the stages' names."""

    def __init__(self, words: str) -> None:
        self.words, self._said, self._since = words, "", time.monotonic()

    def __call__(self, fraction: float, message: str = "", seconds_left: float | None = None) -> None:
        if not sys.stderr.isatty():
            if self.words != self._said:
                print(self.words, file=sys.stderr, flush=True)
                self._said = self.words
            return
        if seconds_left is None and fraction > 0.02:
            seconds_left = (time.monotonic() - self._since) * (1 - fraction) / fraction
        left = f" · {int(seconds_left // 60)}:{int(seconds_left % 60):02d} left" if seconds_left else ""
        filled = int(BAR * fraction)
        self.line(f"{self.words:<11} {'█' * filled}{'░' * (BAR - filled)} {fraction:4.0%} {message}{left}", end="")
        self._said = self.words

    def line(self, text: str, end: str = "\n") -> None:
        """Write over the bar."""
        print(f"\r\x1b[K{text}" if sys.stderr.isatty() else text, end=end, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the bar behind."""
        if sys.stderr.isatty() and self._said:
            print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
