"""Tabs of the compare page: curves, paired tests, and published results. Only the open tab is computed."""

from typing import Literal

import streamlit as st

from leukodash.app.common import plain
from leukodash.app.compare.chart import chart
from leukodash.app.compare.confusion_part import confusion_part
from leukodash.app.compare.gallery import gallery_part
from leukodash.app.compare.paired_tests import tests_part
from leukodash.app.compare.paper_checker import paper_part
from leukodash.data.dataset import label_title
from leukodash.evaluation.comparison import Comparison, Summary, Thresholds, by_subject, reliability_tables
from leukodash.evaluation.metrics import net_benefit
from leukodash.figures.accuracy_charts import subject_figure
from leukodash.figures.learning_curve import learning_figure
from leukodash.figures.probability_curves import decision_figure, pr_figure, reliability_figure, roc_figure
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
        "Calibration": lambda: _calibration(comparison),
        "Decision curve": lambda: _decision(comparison),
        "Published": paper_part,
    }
    for tab, part in zip(st.tabs(list(parts), key="tab", bind="query-params"), parts.values(), strict=True):
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


def _calibration(comparison: Comparison) -> None:
    chart(reliability_figure(reliability_tables(comparison), comparison.backbones), "reliability")
    st.caption("Below the diagonal, a run is overconfident. Bars are Wilson intervals of each bin.")


def _decision(comparison: Comparison) -> None:
    if not _two_classes(comparison):
        return
    tables = {name: net_benefit(comparison.is_positive, comparison.scores(name)) for name in comparison.predictions}
    chart(decision_figure(tables, comparison.backbones), "decision")
    st.caption(
        "The net benefit of acting on a run's prediction from a given probability: blasts found, minus false alarms "
        "weighted by the odds of that probability. The share of blasts is that of this test set, not of a clinic."
    )


def subjects_part(comparison: Comparison, at: Thresholds) -> None:
    """Show the accuracy on each subject, and on which it is lowest."""
    st.subheader("By subject", anchor=False)
    if comparison.subjects is None:
        st.info("The subjects of these cells are unknown.", icon=":material/person_off:")
        return
    rows = by_subject(comparison, at)
    chart(subject_figure(rows.assign(label=rows["label"].map(label_title)), comparison.backbones), "subjects")
    worst = rows.groupby(["subject", "label"])["accuracy"].mean().sort_values()
    (subject, label), share = worst.index[0], worst.iloc[0]
    st.caption(
        f"Accuracy is lowest for subject {plain(subject)} ({plain(label_title(label))}): {share:.1%} on average."
    )


def _two_classes(comparison: Comparison) -> bool:
    usable = len(comparison.classes) == 2 and 0 < comparison.is_positive.sum() < comparison.n
    if not usable:
        st.info("This needs test cells of exactly two classes.", icon=":material/info:")
    return usable
