"""Reports to keep or send on: the HTML report of a comparison and the model card of a run."""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from leukodash.data.dataset import label_title
from leukodash.evaluation.calibration_tables import (
    calibrated,
    calibration_table,
    calibration_words,
    temperatures,
)
from leukodash.evaluation.comparison import (
    AREAS,
    PEOPLE,
    RATES,
    Comparison,
    Summary,
    Thresholds,
    few_subjects_warning,
    forest_rows,
    reliability_tables,
)
from leukodash.evaluation.person_verdicts import (
    LIKELY,
    PersonVerdicts,
    people_rows,
    person_sentences,
    person_table,
    person_verdicts,
    roc_runs,
)
from leukodash.evaluation.published import published_table
from leukodash.figures.accuracy_charts import confusion_figure, forest_figure, pairs_figure
from leukodash.figures.people_charts import people_figure, people_roc_figure, stability_figure
from leukodash.figures.probability_curves import pr_figure, reliability_figure, roc_figure
from leukodash.figures.theme import alt_text
from leukodash.figures.training_curves import history_figure

DISCLAIMER = "For teaching and research. Not a medical device; makes no diagnosis."
INK = "#1C1E26"
MEASURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "f1_weighted": "F1, weighted",
    "f1_macro": "F1, macro",
    "subject_accuracy": "accuracy, mean over subjects",
    "subject_balanced_accuracy": "balanced accuracy, mean over subjects",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "brier": "Brier score (lower is better)",
    "calibration_error": "calibration error (lower is better)",
}


def html_report(
    comparison: Comparison,
    summary: Summary,
    at: Thresholds,
    about: pd.DataFrame,
    histories: Mapping[str, pd.DataFrame],
    title: str = "Comparison of networks",
) -> str:
    """Return a comparison as one HTML page that needs no network: plotly.js is in it (4.5 MB).

    Args:
        comparison: the answers.
        summary: what `comparison.summary` returns at these thresholds.
        at: the threshold of each answer; None is the likeliest class.
        about: a row for each answer of which more is known: name, split, marks, parameters, seconds.
        histories: history.csv by name.
        title: title of the report.
    """
    backbones, tests = comparison.backbones, summary.tests
    counts = pd.Series(comparison.labels).value_counts()
    titles = [label_title(label) for label in comparison.classes]
    sections: dict[str, list[go.Figure]] = {"ROC and precision–recall": []}
    if len(comparison.classes) == 2 and 0 < comparison.is_positive.sum() < comparison.n:
        scores = {name: (comparison.is_positive, comparison.scores(name)) for name in comparison.predictions}
        sections["ROC and precision–recall"] = [roc_figure(scores, backbones), pr_figure(scores, backbones)]
    chosen = temperatures(comparison)
    both = [comparison, *([calibrated(comparison, chosen)] if any(own.value != 1 for own in chosen.values()) else [])]
    sections["Calibration"] = [reliability_figure(reliability_tables(each), backbones) for each in both]
    if curves := {name: history for name, history in histories.items() if len(history)}:
        sections["Training"] = [history_figure(curves, metric, backbones) for metric in ("accuracy", "loss")]
    verdicts = person_verdicts(comparison, at)
    environment = _environment(autoescape=True)
    environment.filters |= {"figure": _figure, "table": _table}
    return environment.get_template("report.html").render(
        title=title,
        ink=INK,
        plotly=get_plotlyjs(),
        comparison=comparison,
        summary=summary,
        warning=few_subjects_warning(comparison),
        counts=", ".join(f"{counts.get(label, 0):,} {label_title(label)}" for label in comparison.classes),
        forest=forest_figure(forest_rows(summary.table)),
        numbers=_numbers(summary.table),
        about=about,
        thresholds=[f"{name} {value:.3f}" for name, value in at.items() if value is not None],
        matrices={
            row["name"]: confusion_figure(np.array(row["confusion"]), titles) for _, row in summary.table.iterrows()
        },
        pairs=None if tests is None else pairs_figure(tests, summary.measure),
        tests=None if tests is None else _tests(tests),
        people=person_table(verdicts) if verdicts else None,
        people_words={name: " ".join(person_sentences(own)) for name, own in verdicts.items()},
        people_figures=_people_figures(verdicts, backbones),
        sections=sections,
        calibration=calibration_words(calibration_table(comparison, chosen)),
        notes={name: own.note for name, own in chosen.items()},
        published=_published(),
        today=date.today().isoformat(),
        disclaimer=DISCLAIMER,
    )


def model_card(
    title: str,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any],
    cells: pd.DataFrame,
    config: Mapping[str, Any],
    verdicts: PersonVerdicts | None = None,
) -> str:
    """Return what a reader must know of one trained model, in Markdown (after Mitchell et al. 2019).

    Args:
        title: name of the run.
        facts: a list of what was built: values by name.
        metrics: metrics.json.
        cells: split.csv: columns label, subject, part.
        config: the run's settings.
        verdicts: those by person, if people are known.
    """
    environment = _environment(autoescape=False, finalize=_plain)
    environment.filters["code"] = _code
    measures = {name: MEASURES[name] for name in (*RATES, *AREAS)}
    return environment.get_template("model_card.md").render(
        title=title,
        disclaimer=DISCLAIMER,
        facts=facts,
        metrics={**dict.fromkeys(measures), "area_auc": None, "stratified_auc": None, **metrics},
        parts=_parts(cells),
        measures=measures,
        config=config,
        people=person_sentences(verdicts) if verdicts else [],
    )


def _people_figures(verdicts: Mapping[str, PersonVerdicts], backbones: dict[str, str | None]) -> list[go.Figure]:
    """Return a figure of the people for each run, and, for all runs, the ROC over people and the cells it takes."""
    if not verdicts:
        return []
    figures = [people_figure(people_rows(own), own.threshold, own.title, name) for name, own in verdicts.items()]
    runs = roc_runs(verdicts)
    roc = [people_roc_figure(runs, backbones)] if runs else []
    return [*figures, *roc, stability_figure({name: own.curve for name, own in verdicts.items()}, backbones, LIKELY)]


def _environment(**options: Any) -> Environment:
    loader = PackageLoader("leukodash.evaluation")
    return Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, **options)


def _figure(figure: go.Figure) -> Markup:
    """Return a figure as HTML for a page with plotly.js in its head, with its alt text."""
    figure.update_layout(font_color=INK)
    html = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
    html = re.sub(r"\\u003c(?=\s*a\b)", "‹", html, flags=re.IGNORECASE)  # plotly.js would make it a link
    return Markup('<div role="img" aria-label="{}">{}</div>').format(alt_text(figure), Markup(html))


def _table(table: pd.DataFrame) -> Markup:
    """Return a table as HTML; its texts are escaped."""
    html = table.to_html(index=False, border=0, escape=True, na_rep="", float_format="{:.3g}".format)
    return Markup('<div class="wide">{}</div>').format(Markup(html))


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame({"run": table["name"], "rank": table["rank"]})
    shown["correct"] = [f"{k:,} of {n:,}" for k, n in zip(table["correct"], table["n"], strict=True)]
    for name in (*RATES, *PEOPLE, *AREAS):
        shown[MEASURES[name]] = [
            _value(value, low, high) for value, low, high in table[[name, f"{name}_low", f"{name}_high"]].to_numpy()
        ]
    shown["Wilson (accuracy)"] = [
        f"{low:.3f}–{high:.3f}" for low, high in table[["wilson_low", "wilson_high"]].to_numpy()
    ]
    return shown.set_index("run").T.rename_axis(columns=None).reset_index(names="")


def _tests(tests: pd.DataFrame) -> pd.DataFrame:
    heads = {"a": "first run", "b": "second run", "both_right": "both correct", "only_a": "only the first"}
    heads |= {"only_b": "only the second", "both_wrong": "both wrong"}
    shown = tests[list(heads)].rename(columns=heads)
    shown["smallest detectable, points"] = [
        f"{100 * value:.1f}" if pd.notna(value) else "" for value in tests["detectable"]
    ]
    shown["difference, points (95%)"] = [
        f"{100 * d:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        for d, low, high in tests[["difference", "low", "high"]].to_numpy()
    ]
    for key, words in (("p", "p"), ("p_holm", "p, Holm"), ("mcnemar", "p, exact McNemar")):
        shown[words] = [f"{p:.3g}" for p in tests[key]]
    return shown


def _published() -> pd.DataFrame:
    rows = published_table()
    rows["interval"] = [
        f"{low:.1%}–{high:.1%}" if pd.notna(low) else "" for low, high in rows[["low", "high"]].to_numpy()
    ]
    rows["value"] = rows["value"].map("{:.1%}".format)
    rows["n"] = rows["n"].map("{:,}".format)
    rows["metric"] = rows["metric"].map(MEASURES)
    heads = {"metric": "measure", "n": "test cells", "interval": "Wilson 95%", "note": "limitations"}
    return rows[["paper", "year", "network", "metric", "value", "n", "interval", "split", "note"]].rename(columns=heads)


def _value(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.3f}" + (f" ({low:.3f}–{high:.3f})" if pd.notna(low) else "")


def _parts(cells: pd.DataFrame) -> dict[str, str]:
    """Return the number of cells of each class and of subjects, in words, for each part that has cells."""
    parts = {}
    for part in ("train", "validation", "test"):
        rows = cells[cells["part"] == part]
        if len(rows):
            counts = ", ".join(
                f"{n:,} {label_title(str(label))}"
                for label, n in rows["label"].value_counts(sort=False).sort_index().items()
            )
            subjects = rows["subject"].nunique()
            parts[part] = counts + (f" of {subjects} subjects" if subjects else "")
    return parts


def _plain(value: Any) -> Any:
    """Return text on one line, without what Markdown or HTML would read, and without links; other values unchanged."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = " ".join(value.translate(str.maketrans("", "", "<>[]`|#*\\")).split())
    return re.sub(r"(?i)((?<!\w)_|_(?!\w)|~|&(?=\w+;)|:(?=//)|(?<=www)\.|@)", r"\\\1", text)


def _code(value: Any) -> Markup:
    """Return a value as Markdown code on one line."""
    return Markup("`{}`").format(Markup(" ".join(str(value).replace("`", "'").split())))
