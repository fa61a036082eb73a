"""Commands about finished runs: compare them, classify with them, export them, bring others beside them."""

import argparse
import json
import sys

from leukodash.cli.progress_bar import Bar
from leukodash.errors import RunError
from leukodash.runs.run_folder import Run, all_runs, find_run


def compare(options: argparse.Namespace) -> int:
    """Print a table of finished runs, and write it as JSON or as a report."""
    from leukodash.runs.imported_predictions import imported_runs
    from leukodash.runs.leaderboard import leaderboard

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
        from leukodash.runs.run_report import comparison_report

        options.report.write_text(comparison_report(runs), encoding="utf-8")
    return 0


def _finished(name: str) -> Run:
    """Return a run that has results. Raises RunError."""
    run = find_run(name)
    if not run.metrics:
        raise RunError(f"{run.id} has no results yet: it is {run.state}. Wait for it, or leave it out.")
    return run


def card(options: argparse.Namespace) -> int:
    """Print a run's model card."""
    from leukodash.runs.run_report import run_card

    print(run_card(_finished(options.run)))
    return 0


def bring(options: argparse.Namespace) -> int:
    """Take in another tool's predictions, so that they can be compared."""
    from leukodash.runs.imported_predictions import import_predictions
    from leukodash.runs.run_folder import finished

    try:
        content = options.file.read_bytes()
    except OSError as error:
        raise RunError(
            f"'{options.file}' cannot be read ({error.strerror}). Give a CSV file of predictions."
        ) from error
    words = {"title": options.title, "owner": options.owner}
    print(import_predictions(content, options.file.name, like=finished(all_runs()), **words).path)
    return 0


def classify(options: argparse.Namespace) -> int:
    """Classify images with one run or several."""
    from leukodash.inference.classify_files import classify_paths

    bar, runs = Bar("classifying"), [find_run(name) for name in options.run]
    choice = {"method": options.method, "target": options.target, "layer": options.layer, "rule": options.rule}
    table = classify_paths(options.images, runs, options.overlays, bar, **choice)
    bar.end()
    table.to_csv(options.csv or sys.stdout, index=False)
    failed = table[table["error"] != ""].drop_duplicates("file")
    for sentence in failed["error"]:
        print(sentence, file=sys.stderr)
    return 2 if len(failed) else 0


def export(options: argparse.Namespace) -> int:
    """Write a run's network as a file for other programs, once it was seen to give the same answers."""
    from leukodash.export.model_export import export as write

    bar = Bar("exporting")
    done = write(_finished(options.run), options.format, options.output, bar)
    bar.end()
    print(f"{done.words}\n{done.path}")
    return 0
