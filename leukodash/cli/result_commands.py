"""Commands about finished runs: compare them, classify with them, export them, import predictions."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leukodash.cli.parameters import FINISHED_RUN, PATH, Names, RunType
from leukodash.cli.terminal import print_table, progress_bar
from leukodash.errors import RunError

if TYPE_CHECKING:
    import pandas as pd

    from leukodash.inference.decision import Rule
    from leukodash.runs.run_folder import Run

COLUMNS = ("run accuracy low high correct n sensitivity specificity f1_weighted roc_auc area_auc split marks").split()


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RunType(finished=True, imported=True), metavar="RUN...")
@click.option("--json", "json_file", type=PATH, metavar="FILE", help="Write the table as JSON too.")
@click.option("--report", type=PATH, metavar="FILE", help="Write an HTML report that works offline.")
def compare(runs: tuple[Run, ...], json_file: Path | None, report: Path | None) -> None:
    """Compare finished runs."""
    from leukodash.runs.leaderboard import leaderboard

    table = leaderboard(runs)
    shown = table[COLUMNS]
    rows = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row] for row in shown.to_numpy()]
    print_table(COLUMNS, rows, shown.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    for line in _people_lines(runs):
        click.echo(line)
    if table["test_set"].nunique() > 1:
        click.echo("These runs were not tested on the same cells, so their numbers give no ranking.")
    if json_file:
        json_file.write_text(json.dumps(json.loads(table.to_json(orient="records")), indent=1) + "\n")
    if report:
        from leukodash.runs.run_report import comparison_report

        report.write_text(comparison_report(runs), encoding="utf-8")


def _people_lines(runs: tuple[Run, ...]) -> Iterator[str]:
    """Yield for how many people each run is right, where people are known."""
    from leukodash.evaluation.person_verdicts import verdict_words
    from leukodash.runs.run_verdicts import run_verdicts

    for run in runs:
        if verdicts := run_verdicts(run):
            yield f"{run.id}: {verdict_words(verdicts)}"


@click.command()
@click.argument("run", type=RunType(finished=True, imported=True), metavar="RUN")
def card(run: Run) -> None:
    """Print a finished run's model card in Markdown."""
    from leukodash.runs.run_report import run_card

    click.echo(run_card(run))


@click.command("import")
@click.argument("file", type=PATH, metavar="FILE")
@click.option("--title", default="", metavar="TEXT", help="A name for them.")
@click.option("--owner", default="", metavar="NAME", help="Whose they are.")
def import_file(file: Path, title: str, owner: str) -> None:
    """Import another tool's predictions, to compare them.

    FILE is a CSV file with the columns file, label, p_<class> for each class, and optionally subject.
    """
    from leukodash.runs.access import OPERATOR
    from leukodash.runs.imported_predictions import import_predictions
    from leukodash.runs.run_folder import all_runs, finished

    try:
        content = file.read_bytes()
    except OSError as error:
        raise RunError(f"'{file}' cannot be read ({error.strerror}). Give a CSV file of predictions.") from error
    like = finished(all_runs())
    click.echo(import_predictions(content, file.name, like=like, title=title, owner=owner, actor=OPERATOR).path)


@click.command()
@click.argument("images", nargs=-1, required=True, type=PATH, metavar="IMAGE...")
@click.option("--run", "runs", multiple=True, required=True, type=RunType(), metavar="RUN", help="One or more.")
@click.option("--csv", type=PATH, metavar="FILE", help="Write the table to this file.")
@click.option("--overlays", type=PATH, metavar="DIR", help="Write heat maps as PNG files into this folder or ZIP file.")
@click.option("--method", type=Names("leukodash.cam.methods:METHODS"), default="gradcam", show_default=True)
@click.option("--target", metavar="CLASS", help="Class that heat maps explain; by default the likeliest.")
@click.option("--layer", metavar="NAME", help="Layer whose feature maps are used; by default the last one.")
@click.option(
    "--rule", type=click.Choice(["likeliest", "validation"]), default="likeliest", show_default=True,
    help="Whether a cell gets the likeliest class, or one by the best threshold on validation cells.",
)  # fmt: skip
def classify(images: tuple[Path, ...], runs: tuple[Run, ...], csv: Path | None, **options: Any) -> int:
    """Give class, probabilities and heat map of images.

    IMAGE is an image file, a folder or ZIP file of them, or a whole smear.
    """
    from leukodash.csv_text import csv_text
    from leukodash.inference.classify_files import classify_paths

    with progress_bar("classifying") as bar:
        table = classify_paths(images, runs, progress=bar, **options)
    if csv:
        csv.write_text(csv_text(table), encoding="utf-8")
    else:
        sys.stdout.write(csv_text(table))
    failed = table[table["error"] != ""].drop_duplicates("file")
    for sentence in failed["error"]:
        click.echo(sentence, err=True)
    for words in _person_words(table, images, runs, options["rule"]):
        click.echo(words, err=True)
    return 2 if len(failed) else 0


def _person_words(table: pd.DataFrame, paths: tuple[Path, ...], runs: tuple[Run, ...], rule: Rule) -> Iterator[str]:
    """Yield what the cells of each folder, ZIP or smear say if they are of one person."""
    from leukodash.inference.person_summary import CAUTION, person_groups, person_words, verdicts_of

    table = table.assign(position=table.groupby("file", sort=False).ngroup())
    verdicts, titles = verdicts_of(runs, rule), {run.id: run.title for run in runs}
    groups = person_groups(table, list(dict.fromkeys(map(str, paths))))
    said = [words for name, own in groups.items() for words in person_words(own, verdicts, titles, name)]
    yield from [*said, CAUTION] if said else []


@click.command()
@FINISHED_RUN
@click.option("--format", type=Names("leukodash.export.export_formats:FORMATS"), default="keras", show_default=True)
@click.option("--output", type=PATH, default=Path(), metavar="DIR", help="Folder; by default the current one.")
def export(run: Run, format: str, output: Path) -> None:
    """Write a finished run's network as a file for other programs.

    The file is kept only if it gives the same probabilities as the run.
    """
    from leukodash.export import model_export

    with progress_bar("exporting") as bar:
        exported = model_export.export(run, format, output, bar)
    click.echo(f"{exported.words}\n{exported.path}")
