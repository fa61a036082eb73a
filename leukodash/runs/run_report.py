"""Reports of finished runs, made from their folders: the HTML comparison and the model card."""

from collections.abc import Sequence
from pathlib import Path

from leukodash.config.presets import preset_title
from leukodash.evaluation.comparison import Comparison, Summary, Thresholds, summary
from leukodash.evaluation.report_html import html_report, model_card
from leukodash.runs.imported_predictions import is_import
from leukodash.runs.leaderboard import compare_runs, leaderboard, run_names
from leukodash.runs.run_folder import Run
from leukodash.runs.run_verdicts import run_verdicts

ABOUT = {
    "run": "run", "network": "network", "recipe": "recipe", "owner": "owner", "data": "data set",
    "parameters": "parameters", "seconds": "training, seconds", "split": "split", "marks": "limitations",
}  # fmt: skip


def comparison_report(
    runs: Sequence[Run],
    comparison: Comparison | None = None,
    at: Thresholds | None = None,
    found: Summary | None = None,
) -> str:
    """Return the HTML report of runs of one `leaderboard.TestGroup`; see `report_html.html_report`.

    `comparison`, by default from `leaderboard.compare_runs`, may have further answers. `found` is the summary at these
    thresholds, by default of the likeliest class. Raises RunError if the runs cannot be compared.
    """
    comparison = comparison or compare_runs(runs)
    at = at or dict.fromkeys(comparison.predictions)
    named = run_names(runs)
    names = {run.id: name for name, run in named.items()}
    board = leaderboard(runs)
    about = board.assign(
        run=board["run"].map(names), parameters=board["parameters"].map("{:,.0f}".format, na_action="ignore")
    )
    about = about[list(ABOUT)].rename(columns=ABOUT)
    histories = {name: run.history for name, run in named.items()}
    return html_report(comparison, found or summary(comparison, at), at, about, histories)


def run_card(run: Run) -> str:
    """Return the model card of a finished run in Markdown; see `report_html.model_card`."""
    metrics, made = run.metrics, run.model
    if is_import(run):
        known = run.source
        facts = {"predictions of another tool": known["source"], "network": known.get("backbone") or "not named"}
        return model_card(run.title, facts, metrics, run.split, {}, run_verdicts(run))
    config, size, environment = run.trained, run.trained.input_size, made.get("environment") or {}
    facts = {
        "network": f"{config.spec.title} ({config.spec.year}), {config.spec.paper}",
        "trained from": "random weights" if config.weights == "random" else f"ImageNet weights, {config.train_from}",
        "weight file": config.weights_file,
        "SHA-256 of it": config.weights_sha256,
        "parameters": f"{metrics['parameters']:,}, of which {metrics['trained_parameters']:,} trained",
        "input": f"{size}×{size} RGB, padded to a square, preprocessing {config.preprocessing}",
        "precision": made.get("precision"),
        "recipe": preset_title(config.preset),
        "epochs": f"{metrics['epochs']}, weights of epoch {metrics['best_epoch']}",
        "classes": ", ".join(metrics["classes"]),
        "trained with": f"LeukoDash {environment['leukodash']}" if environment else "",
        "trained on": environment.get("gpu") or environment.get("cpu"),
        "run": run.id,
        "owner": run.about["owner"],
    }
    settings = config.model_dump(mode="json") | {"data": Path(config.data).name}  # not where it is on this machine
    return model_card(run.title, facts, metrics, run.split, settings, run_verdicts(run))
