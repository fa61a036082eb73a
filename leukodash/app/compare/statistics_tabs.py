"""Tabs of the compare page: curves, paired tests, and published results. Only the open tab is computed."""

from typing import Literal

import pandas as pd
import streamlit as st

from leukodash.app.common import plain
from leukodash.app.compare.calibration_part import calibration_part
from leukodash.app.compare.chart import chart
from leukodash.app.compare.confusion_part import confusion_part
from leukodash.app.compare.gallery import gallery_part
from leukodash.app.compare.paired_tests import measure_part, tests_part
from leukodash.app.compare.paper_checker import paper_part
from leukodash.data.dataset import label_title
from leukodash.evaluation.comparison import Comparison, Summary, Thresholds
from leukodash.evaluation.metrics import net_benefit, predictive_values
from leukodash.figures.learning_curve import learning_figure
from leukodash.figures.probability_curves import decision_figure, pr_figure, roc_figure
from leukodash.figures.training_curves import history_figure
from leukodash.models.backbones import BACKBONES
from leukodash.runs.leaderboard import backbone_of, run_names
from leukodash.runs.run_folder import Run


def tabs_part(comparison: Comparison, at: Thresholds, summary: Summary, chosen: list[Run]) -> None:
    """Show the tabs."""
    parts = {
        "Paired tests": lambda: tests_part(comparison, at, summary.tests),
        "Mistakes": lambda: _mistakes(comparison, at, summary, chosen),
        "Training": lambda: _training(chosen),
        "Learning curve": lambda: _learning(summary, chosen),
        "ROC and PR": lambda: _ranking(comparison, at),
        "Calibration": lambda: calibration_part(comparison),
        "Decision curve": lambda: _decision(comparison, summary),
        "Published": paper_part,
    }
    tabs = st.tabs(list(parts), key="tab", bind="query-params")
    if summary.tests is not None:
        with tabs[0]:
            measure_part(comparison)  # also while the tab is closed, so that its choice stays
    for tab, part in zip(tabs, parts.values(), strict=True):
        if tab.open:
            with tab:
                part()


def _mistakes(comparison: Comparison, at: Thresholds, summary: Summary, chosen: list[Run]) -> None:
    confusion_part(comparison, at, summary.table)
    gallery_part(comparison, at, chosen)


def _training(chosen: list[Run]) -> None:
    histories = {name: run.history for name, run in run_names(chosen).items()}
    histories = {name: history for name, history in histories.items() if len(history)}
    backbones = {name: backbone_of(run) for name, run in run_names(chosen).items()}
    metrics: tuple[Literal["accuracy", "loss"], ...] = ("accuracy", "loss")
    for column, metric in zip(st.columns(2), metrics, strict=True):
        with column:
            chart(history_figure(histories, metric, backbones), f"history-{metric}")


def _learning(summary: Summary, chosen: list[Run]) -> None:
    sizes = {name: int((run.split["part"] == "train").sum()) for name, run in run_names(chosen).items()}
    titles = {key: spec.title for key, spec in BACKBONES.items()}
    rows = summary.table.rename(columns={"accuracy_low": "low", "accuracy_high": "high"})
    rows = rows.assign(train=rows["name"].map(sizes), title=rows["backbone"].map(titles).fillna("Other"))
    rows = rows[rows["train"] > 0].astype({"train": int})
    if rows["train"].nunique() < 2:
        st.info(
            "All these runs were trained on the same number of cells. To see the effect of more cells, train again "
            "with the same seed and test part but a larger validation part, and select both runs.",
            icon=":material/show_chart:",
        )
        return
    chart(learning_figure(rows), "learning")
    st.caption("Runs may differ in other settings too: see the table.")


def _ranking(comparison: Comparison, at: Thresholds) -> None:
    if not _two_classes(comparison):
        return
    runs = {name: (comparison.is_positive, comparison.scores(name)) for name in comparison.predictions}
    marked = {name: threshold for name, threshold in at.items() if threshold is not None} or dict.fromkeys(runs, 0.5)
    left, right = st.columns(2)
    with left:
        chart(roc_figure(runs, comparison.backbones, marked), "roc")
    with right:
        chart(pr_figure(runs, comparison.backbones, marked), "pr")
    st.caption(
        "Each point of a curve is a threshold; the ring marks the current one. Chance level is the diagonal (left) and "
        "the share of blasts (right)."
    )


def _decision(comparison: Comparison, summary: Summary) -> None:
    if not _two_classes(comparison):
        return
    share = comparison.is_positive.mean()
    here = min(99.9, max(0.1, round(100 * share, 1)))
    positive, negative = (label_title(label) for label in sorted(comparison.classes, key=comparison.positive.__ne__))
    percent = st.slider(
        f"Share of cells that are {plain(positive)}", 0.1, 99.9, here, 0.1, "%.1f%%", key=f"prevalence-{here}",
        help="In this test set at first. Where you work it will be another: set it.",
    )  # fmt: skip
    prevalence = share if percent == here else percent / 100
    scores = {name: comparison.scores(name) for name in comparison.predictions}
    tables = {name: net_benefit(comparison.is_positive, p, prevalence) for name, p in scores.items()}
    chart(decision_figure(tables, comparison.backbones), "decision")
    st.caption(
        f"The net benefit of acting on a run's prediction from a given probability, where {percent:.1f}% of the cells "
        f"are {plain(positive)}: those found, minus false alarms weighted by the odds of that probability."
    )
    found = [predictive_values(row, prevalence) for _, row in summary.table.iterrows()]
    table = pd.DataFrame({"name": summary.table["name"]})
    for key in ("ppv", "npv"):
        table[key] = [_with_interval(*values[key]) for values in found]
    text = st.column_config.TextColumn
    st.dataframe(
        table,
        column_config={
            "name": text("Run", pinned=True),
            "ppv": text(f"Right if called {positive} (PPV)", help="Positive predictive value, with its 95% interval."),
            "npv": text(f"Right if called {negative} (NPV)", help="Negative predictive value, with its 95% interval."),
        },
        hide_index=True,
        key="predictive",
    )
    of = f" of {comparison.subject_count} subjects" if comparison.subject_count else ""
    st.caption(
        f"Predictive values at {percent:.1f}% {plain(positive)}, from sensitivity and specificity at the threshold "
        f"above, on {comparison.n:,} cells{of}, and from their intervals."
    )


def _with_interval(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.1%}" + (f" ({low:.1%}–{high:.1%})" if pd.notna(low + high) else "")


def _two_classes(comparison: Comparison) -> bool:
    usable = len(comparison.classes) == 2 and 0 < comparison.is_positive.sum() < comparison.n
    if not usable:
        st.info("This needs test cells of exactly two classes.", icon=":material/info:")
    return usable
