"""The lesson's parts about runs: does a split by image flatter, train one yourself, and what holds for people."""

from typing import Any

import pandas as pd
import streamlit as st

from leukodash.app.common import demo_folder
from leukodash.app.compare.chart import chart
from leukodash.app.navigation import page
from leukodash.data.dataset import label_title
from leukodash.evaluation.person_verdicts import clopper_pearson
from leukodash.figures.accuracy_charts import forest_figure, subject_figure
from leukodash.figures.svg_charts import Line
from leukodash.models.backbones import BACKBONES
from leukodash.runs.run_folder import file_stamp
from leukodash.studies.catalogue import FinishedStudyRun
from leukodash.studies.results_page import recipe_rows, study_answer, together

BY_IMAGE, BY_SUBJECT = "by image", "five folds of subjects"  # rows of the study "honest"
NETWORK = "mobilenet"
MISSING = "The published runs that this part shows are not on this machine: they come with LeukoDash."


def recipe_lines(runs: list[FinishedStudyRun]) -> list[Line]:
    """Return a line for each recipe of these runs, cached until a run changes."""
    return _recipe_lines(_stamp(runs), runs)


@st.cache_data(max_entries=16, show_spinner=False)
def _recipe_lines(stamp: tuple, _runs: list[FinishedStudyRun]) -> list[Line]:
    return [row.line for row in recipe_rows(_runs)]


def study_words(name: str, runs: list[FinishedStudyRun]) -> str:
    """Return the answer of a study, cached until a run changes."""
    return _study_words(_stamp(runs), name, runs)


@st.cache_data(max_entries=4, show_spinner=False)
def _study_words(stamp: tuple, name: str, _runs: list[FinishedStudyRun]) -> str:
    return study_answer(name, _runs)


def _cells(runs: list[FinishedStudyRun]) -> pd.DataFrame:
    return _cells_together(_stamp(runs), runs)


@st.cache_data(max_entries=16, show_spinner=False)
def _cells_together(stamp: tuple, _runs: list[FinishedStudyRun]) -> pd.DataFrame:
    return together([one.run for one in _runs])


def _stamp(runs: list[FinishedStudyRun]) -> tuple:
    return tuple((str(one.run.path), file_stamp(one.run.path / "metrics.json")) for one in runs)


def line_rows(lines: list[Line], n: int | list[int]) -> pd.DataFrame:
    """Return the rows of a forest chart, named by recipe alone; `n` is the number of test cells of each."""
    rows = [(line.name.partition(", ")[2], line.backbone, line.value, line.low, line.high) for line in lines]
    table = pd.DataFrame(rows, columns=["name", "backbone", "accuracy", "low", "high"])
    return table.assign(n=n, published=False).astype({"low": float, "high": float})


def split_runs_part(runs: list[FinishedStudyRun]) -> None:
    """Show one network's accuracy by image and by subject, on real cells."""
    runs = [one for one in runs if one.run.config.backbone == NETWORK and one.label in (BY_IMAGE, BY_SUBJECT)]
    lines = {line.name.partition(", ")[2]: line for line in recipe_lines(runs)}
    if set(lines) != {BY_IMAGE, BY_SUBJECT}:
        st.info(MISSING, icon=":material/inventory_2:")
        return
    image, subject = lines[BY_IMAGE], lines[BY_SUBJECT]
    st.markdown(
        f"The same network, {BACKBONES[NETWORK].title}, on real cells (C-NMC): **{image.value:.1%}** by image, "
        f"**{subject.value:.1%}** by subject. Which number would you print? Which interval is wider, and why?"
    )
    tested = [len(_cells([one for one in runs if one.label == label])) for label in (BY_IMAGE, BY_SUBJECT)]
    chart(forest_figure(line_rows([image, subject], tested)), "splits")


def train_part() -> None:
    """Show links that fill the form of the train page."""
    st.markdown(
        "Each link fills the form of the Train page; press *Start* there. The cells are generated, so that everybody "
        "has them. The first two take seconds and need no network. Before you start: which of the two will be better?"
    )
    title, data = BACKBONES[NETWORK].title, demo_folder().name
    link(f"{title}, split by image", data=data, preset="quick", backbones=NETWORK, **{"split.kind": "image"})
    link(f"{title}, split by subject", data=data, preset="quick", backbones=NETWORK)
    st.markdown(
        "Then try the second suspect. ResNet50's weights are downloaded at first use (95 MB); without a connection, "
        "the run starts from random weights, says so, and shows something else."
    )
    link("ResNet50, pixels as in pretraining", data=data, preset="quick", backbones="resnet50")
    link(
        "ResNet50, pixels divided by 255",
        data=data, preset="quick", backbones="resnet50", preprocessing="divide_by_255",
    )  # fmt: skip
    st.page_link(page("compare"), label="Compare your runs", icon=":material/leaderboard:")


def link(label: str, **query: Any) -> None:
    """Show a link to the train page that fills its form."""
    st.page_link(page("train"), label=label, icon=":material/model_training:", query_params=query)


def people_part(runs: list[FinishedStudyRun]) -> None:
    """Show the accuracy on each person's cells, and what a majority of the cells says about people."""
    runs = [one for one in runs if one.run.config.backbone == NETWORK and one.label == BY_SUBJECT]
    if not runs:
        st.info(MISSING, icon=":material/inventory_2:")
        return
    cells = _cells(runs).merge(runs[0].run.split[["file", "label"]], on="file")
    people = cells.groupby("subject").agg(n=("right", "size"), accuracy=("right", "mean"), label=("label", "first"))
    people = people.reset_index().assign(name=BACKBONES[NETWORK].title)
    people["label"] = people["label"].map(label_title)
    right, n = int((people["accuracy"] > 0.5).sum()), len(people)
    low, high = clopper_pearson(right, n)
    worst = people.nsmallest(1, "accuracy").iloc[0]
    st.markdown(
        f"The network was right on {cells['right'].mean():.1%} of {len(cells):,} real cells of people whom it had "
        f"never seen. But each dot here is a **person**: on subject {worst['subject']} it was right on "
        f"{worst['accuracy']:.0%} of the cells."
    )
    chart(subject_figure(people, {BACKBONES[NETWORK].title: NETWORK}), "people")
    st.caption("Split by subject: every person is tested once, by a run that was trained on others.")
    st.markdown(
        f"Let the majority of a person's cells decide: **{right} of {n} people** are right, and the interval, "
        f"{low:.0%} to {high:.0%}, is wide, since people are few. Thousands of cells do not change that. And all these "
        "cells were stained in one laboratory: nothing here says how the network does in another."
    )
    st.markdown(
        "**To take home.** A number without its count, its interval and its split is not a result. Cells of one person "
        "belong together. None of this is a diagnosis."
    )
