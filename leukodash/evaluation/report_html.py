"""What leaves the app on paper: a self-contained HTML report of a comparison, and a model card in Markdown."""

from collections.abc import Mapping
from datetime import date
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from leukodash.data.dataset import label_title
from leukodash.evaluation.comparison import (
    AREAS,
    RATES,
    Comparison,
    Summary,
    Thresholds,
    by_subject,
    few_subjects_words,
    forest_rows,
    reliability_tables,
)
from leukodash.evaluation.published import published_table
from leukodash.figures.accuracy_charts import (
    confusion_figure,
    forest_figure,
    pairs_figure,
    subject_figure,
)
from leukodash.figures.probability_curves import pr_figure, reliability_figure, roc_figure
from leukodash.figures.theme import alt_text
from leukodash.figures.training_curves import history_figure

NO_DEVICE = "For teaching and research. Not a medical device; makes no diagnosis."
INK = "#1C1E26"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1C1E26; background: #fff; max-width: 70rem; margin: auto;
       padding: 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: 0.9rem; white-space: nowrap }
th, td { padding: 0.25rem 0.75rem; border-bottom: 1px solid #d5d8de; text-align: right }
th:first-child, td:first-child { text-align: left }
.warning { background: #fff8e0; padding: 0.75rem 1rem; border-radius: 0.5rem }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)) }
.quiet { color: #5a5f6b; font-size: 0.9rem }
"""
RATE_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "f1_weighted": "F1, weighted",
    "f1_macro": "F1, macro",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "brier": "Brier score (lower is better)",
    "calibration_error": "calibration error (lower is better)",
}


def html_report(
    comparison: Comparison,
    found: Summary,
    at: Thresholds,
    about: pd.DataFrame,
    histories: Mapping[str, pd.DataFrame],
    title: str = "Comparison of networks",
) -> str:
    """Write a comparison as one HTML file that needs no network: plotly.js is in it (4.5 MB).

    Args:
        comparison: the answers.
        found: what `comparison.summary` gives at these thresholds.
        at: the threshold of each answer; None is the likeliest class.
        about: a row an answer where more is known: name, split, marks, parameters, seconds.
        histories: by name the table of history.csv.
        title: of the report. All names are escaped.

    Returns:
        The text of the file.
    """
    two = len(comparison.classes) == 2 and 0 < comparison.is_positive.sum() < comparison.n
    subjects = f" of {comparison.subject_count} subjects" if comparison.subject_count else ""
    parts = [f"<h1>{escape(title)}</h1>", f"<p><strong>{escape(found.verdict)}</strong></p>"]
    if warning := few_subjects_words(comparison):
        parts.append(f'<p class="warning">{escape(warning)}</p>')
    parts += [
        f"<p>{comparison.n:,} test cells{subjects}: {escape(_counts(comparison))}.</p>",
        _figure(forest_figure(forest_rows(found.table))),
        f'<p class="quiet">{escape(found.interval)} Grey: printed in papers, on other cells than these.</p>',
        "<h2>Numbers</h2>",
        _numbers(found.table),
        "<h2>Runs</h2>",
        _html(about),
        "<h2>What is mistaken for what</h2>",
        f'<p class="quiet">{escape(_threshold_words(at))}</p>',
        '<div class="small">',
    ]
    titles = [label_title(label) for label in comparison.classes]
    for _, row in found.table.iterrows():
        matrix = _figure(confusion_figure(np.array(row["confusion"]), titles))
        parts.append(f"<div><h3>{escape(row['name'])}</h3>{matrix}</div>")
    parts.append("</div>")
    if found.tests is not None:
        parts += ["<h2>Paired tests</h2>", _figure(pairs_figure(found.tests)), _tests(found.tests)]
    figures: dict[str, list[go.Figure]] = {}
    if two:
        runs = {name: (comparison.is_positive, comparison.scores(name)) for name in comparison.answers}
        figures["ROC and precision–recall"] = [roc_figure(runs, comparison.backbones)]
        figures["ROC and precision–recall"].append(pr_figure(runs, comparison.backbones))
    figures["Calibration"] = [reliability_figure(reliability_tables(comparison), comparison.backbones)]
    if comparison.subjects is not None:
        rows = by_subject(comparison, at)
        figures["By subject"] = [
            subject_figure(rows.assign(label=rows["label"].map(label_title)), comparison.backbones)
        ]
    curves = {name: history for name, history in histories.items() if len(history)}
    if curves:
        figures["Training"] = [history_figure(curves, metric, comparison.backbones) for metric in ("accuracy", "loss")]
    for heading, drawn in figures.items():
        parts += [f"<h2>{heading}</h2>", *(_figure(figure) for figure in drawn)]
    parts += ["<h2>Published, on other cells</h2>", _published()]
    parts.append(f'<p class="quiet">LeukoDash, {date.today():%Y-%m-%d}. {NO_DEVICE}</p>')
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style>'
        f"<script>{get_plotlyjs()}</script></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def model_card(
    title: str, facts: Mapping[str, Any], metrics: Mapping[str, Any], cells: pd.DataFrame, config: Mapping[str, Any]
) -> str:
    """Write what a reader must know of one trained model, in Markdown (after Mitchell et al. 2019).

    Args:
        title: name of the run.
        facts: what was built, by words: shown as a list as they are.
        metrics: metrics.json.
        cells: split.csv: columns label, subject, part.
        config: the run's settings, shown as they are.
    """
    n, subjects = metrics["n"], metrics.get("subjects")
    of = f"{n:,} {metrics.get('part', 'test')} cells" + (f" of {subjects} subjects" if subjects else "")
    caveats = [
        "The cells come from one laboratory's microscope and stain; cells from elsewhere may be judged otherwise.",
        "Probabilities are those of a network, not of a diagnosis.",
    ]
    if metrics.get("generated"):
        caveats.insert(0, "Trained and tested on generated cells: it has never seen a real one.")
    if metrics.get("random_start"):
        caveats.insert(0, "Started from random weights, since no pretrained ones could be had.")
    if metrics.get("leaks"):
        caveats.insert(0, f"{metrics['leaks']} leaks between the parts: the numbers flatter it.")
    if metrics.get("area_auc") is not None and metrics.get("roc_auc") is not None:
        than = "better than" if metrics["roc_auc"] > metrics["area_auc"] else "no better than"
        caveats.append(
            f"Cell area alone has an ROC AUC of {metrics['area_auc']:.3f}: this model ranks cells {than} size does."
        )
    lines = [
        f"# {_line(title)}",
        "",
        f"{NO_DEVICE}",
        "",
        "## Model",
        "",
        *(f"- {key}: {_line(str(value))}" for key, value in facts.items() if value not in (None, "")),
        "",
        "## Data",
        "",
        f"- {metrics.get('split', 'split unknown')}",
        *_parts(cells),
        "",
        f"## Results on {of}",
        "",
        f"{metrics['correct']:,} of {n:,} right. Intervals (95 %) "
        + ("leave out one subject at a time." if metrics.get("interval_by") == "subject" else "are Wilson's."),
        "",
        "| measure | value | 95 % interval |",
        "|:--|--:|:-:|",
        *(_measure(metrics, name) for name in (*RATES, *AREAS) if metrics.get(name) is not None),
        "",
        "## Mind",
        "",
        *(f"- {caveat}" for caveat in caveats),
        "",
        "## Settings",
        "",
        *(f"- {key}: `{value}`" for key, value in config.items() if value is not None),
        "",
    ]
    return "\n".join(lines)


def _figure(figure: go.Figure) -> str:
    """A figure for a page with plotly.js in its head, and its words for who cannot see it."""
    figure.update_layout(font_color=INK)
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
    return f'<div role="img" aria-label="{escape(alt_text(figure))}">{drawn}</div>'


def _numbers(table: pd.DataFrame) -> str:
    shown = pd.DataFrame({"run": table["name"], "rank": table["rank"]})
    shown["right"] = [f"{k:,} of {n:,}" for k, n in zip(table["correct"], table["n"], strict=True)]
    for name in (*RATES, *AREAS):
        shown[RATE_TITLES[name]] = [
            _value(value, low, high) for value, low, high in table[[name, f"{name}_low", f"{name}_high"]].to_numpy()
        ]
    shown["Wilson (accuracy)"] = [
        f"{low:.3f}–{high:.3f}" for low, high in table[["wilson_low", "wilson_high"]].to_numpy()
    ]
    return _html(shown.set_index("run").T.reset_index(names=""))


def _tests(tests: pd.DataFrame) -> str:
    shown = tests[["a", "b", "both_right", "only_a", "only_b", "both_wrong"]].copy()
    shown["difference, points (95 %)"] = [
        f"{100 * d:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        for d, low, high in tests[["difference", "low", "high"]].to_numpy()
    ]
    for key, words in (("p", "p"), ("p_holm", "p, Holm"), ("mcnemar", "p, exact McNemar")):
        shown[words] = [f"{p:.3g}" for p in tests[key]]
    return _html(shown)


def _published() -> str:
    rows = published_table()
    rows["interval"] = [
        f"{100 * low:.1f}–{100 * high:.1f} %" if pd.notna(low) else "" for low, high in rows[["low", "high"]].to_numpy()
    ]
    rows["value"] = (100 * rows["value"]).map("{:.1f} %".format)
    return _html(rows[["paper", "year", "network", "metric", "value", "n", "interval", "split", "note"]])


def _html(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, escape=True, na_rep="", float_format="{:.3g}".format)


def _counts(comparison: Comparison) -> str:
    counts = pd.Series(comparison.labels).value_counts()
    return ", ".join(f"{counts.get(label, 0):,} {label_title(label)}" for label in comparison.classes)


def _threshold_words(at: Thresholds) -> str:
    chosen = {name: value for name, value in at.items() if value is not None}
    if not chosen:
        return "At the likeliest class."
    return "Called positive from: " + ", ".join(f"{name} {value:.3f}" for name, value in chosen.items()) + "."


def _value(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.3f}" + (f" ({low:.3f}–{high:.3f})" if pd.notna(low) else "")


def _measure(metrics: Mapping[str, Any], name: str) -> str:
    low, high = metrics.get(f"{name}_interval") or (None, None)
    return f"| {RATE_TITLES[name]} | {metrics[name]:.3f} | {'' if low is None else f'{low:.3f}–{high:.3f}'} |"


def _parts(cells: pd.DataFrame) -> list[str]:
    lines = []
    for part in ("train", "validation", "test"):
        rows = cells[cells["part"] == part]
        if len(rows):
            counts = ", ".join(f"{len(some):,} {label_title(label)}" for label, some in rows.groupby("label"))
            who = f" of {rows['subject'].nunique()} subjects" if rows["subject"].notna().any() else ""
            lines.append(f"- {part}: {counts}{who}")
    return lines


def _line(text: str) -> str:
    """Text of other people on one line, without the signs that Markdown or HTML would read."""
    return " ".join(text.translate(str.maketrans("", "", "<>[]`|#*\\")).split())
