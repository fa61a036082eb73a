"""Home: what LeukoDash is, one real cell with its answer, the headline comparison, and the ways in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from leukodash import settings
from leukodash.app.common import CNMC_CREDIT, classifier, page_head, plain
from leukodash.app.compare.chart import chart
from leukodash.app.navigation import page
from leukodash.cam.localization import HeatPlace, heat_place
from leukodash.data.dataset import label_title
from leukodash.data.images import read_image
from leukodash.errors import LeukoDashError
from leukodash.evaluation.comparison import forest_rows
from leukodash.figures.accuracy_charts import forest_figure
from leukodash.figures.cell_pictures import brighten
from leukodash.figures.heat_overlay import overlay
from leukodash.inference.answer_summary import percent
from leukodash.inference.decision import decision
from leukodash.inference.map_words import heat_words, score_words
from leukodash.inference.sample_cells import draw_samples, unseen_cells
from leukodash.runs.leaderboard import default_runs, first_group, first_run, test_groups
from leukodash.runs.run_folder import Run, finished, published_runs

DOORS = {"classify": "Try a cell", "compare": "See which network is better", "train": "Train one"}


@st.cache_resource(max_entries=2, show_spinner="Opening the published results …")
def headline(folder: Path) -> tuple[Run, list[Run]] | None:
    """Return the run that answers on this page, and those of the headline comparison: all networks of one recipe.

    None if there are no published runs. `folder` is for the cache.
    """
    runs = finished(published_runs())
    usable = [run for run in runs if run.weights.is_file()]
    return (first_run(usable), default_runs(first_group(test_groups(runs)).runs)) if usable else None


@st.cache_data(max_entries=4, show_spinner=False)
def cells_of(path: str) -> pd.DataFrame:
    """Return the sample cells that a run was tested on and not trained on, in a random but fixed order."""
    cells = unseen_cells([Run(Path(path))])
    return draw_samples(cells, len(cells), seed=0)


@st.cache_data(show_spinner="Classifying …", max_entries=24)  # 1.2 MB each
def answer_for(path: str, file: str) -> tuple[str, float, np.ndarray, np.ndarray, HeatPlace, str]:
    """Return the class of a cell, its calibrated probability, the cell, its heat map, and where the heat lies.

    Last, in words, how much of the score the map shows.
    """
    served, image = classifier(path), read_image(Path(file))
    answer = served.answer([image], ("evidence",))["evidence"][0]
    p = decision(served.run).temperature.scale(answer.probabilities)
    best, bright = int(p.argmax()), brighten(image)
    place, shown = heat_place(image, answer.heat), score_words(answer.score, answer.score_shown)
    return served.classes[best], float(p[best]), bright, overlay(bright, answer.heat), place, shown


@st.fragment
def live_cell(run: Run) -> None:
    """Show a real cell, the network's answer and its heat map; a button shows another one."""
    number = st.session_state.setdefault("home-cell", 0)
    try:
        run.check()
        cells = cells_of(str(run.path))
        cell = cells.iloc[number % len(cells)]
        label, probability, picture, heat, place, shown = answer_for(str(run.path), str(cell["path"]))
    except LeukoDashError as error:  # here, as an error leaves no fragment
        st.error(plain(str(error)), icon=":material/error:")
        return
    truth = label_title(cell["label"])
    verdict = "That is right." if label == cell["label"] else f"That is wrong: it is {truth}."
    st.image(
        np.hstack([picture, heat]), width="stretch",
        alt=f"A white blood cell on black, and the same cell, bright where the network sees {label_title(label)}.",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**{run.config.spec.title}: {label_title(label)}, {percent(probability)}.** {verdict}", width="stretch"
        )
        st.button("Another cell", icon=":material/refresh:", on_click=_next)
    on_cell = "" if np.isnan(place.share) else f"{place.share:.0%} of that lies on the cell. {heat_words({'': place})}"
    st.caption(
        "A real cell of a person whom this network has never seen. Bright on the right: what speaks for its answer. "
        f"{on_cell} {f'The map {shown}.' if shown else ''} {CNMC_CREDIT}"
    )


def _next() -> None:
    st.session_state["home-cell"] += 1


def comparison(runs: list[Run]) -> None:
    """Show the papers' results and ours, with their intervals, and what follows from them."""
    rows = pd.DataFrame(
        [
            {
                "name": f"{run.config.spec.title}, here",
                "backbone": run.config.backbone,
                "accuracy": run.metrics["accuracy"],
                "low": run.metrics["accuracy_interval"][0],
                "high": run.metrics["accuracy_interval"][1],
                "n": run.metrics["n"],
                "published": False,
            }
            for run in sorted(runs, key=lambda run: -run.metrics["accuracy"])
        ]
    )
    papers = forest_rows()
    st.markdown(_sentence(runs, papers))
    chart(forest_figure(pd.concat([rows, papers], ignore_index=True)), "headline")


def _sentence(runs: list[Run], papers: pd.DataFrame) -> str:
    metrics, best = runs[0].metrics, max(papers["accuracy"])
    low, high = min(run.metrics["accuracy"] for run in runs), max(run.metrics["accuracy"] for run in runs)
    return (
        f"**Two papers report up to {best:.0%}, on few cells of people who were also in training. "
        f"On {metrics['n']:,} cells of {metrics['subjects']} people never seen, the same kind of network is right "
        f"in {low:.0%} to {high:.0%}.** Lines are 95% intervals; grey: the papers."
    )


def doors() -> None:
    """Show the ways into the app."""
    with st.container(horizontal=True):
        for name, title in DOORS.items():
            if st.button(
                title,
                key=f"door-{name}",
                type="primary" if name == "classify" else "secondary",
                icon=page(name).icon,
            ):
                st.switch_page(page(name))
    st.page_link(page("lesson"), label="For a class: the lesson, 45 minutes")


def show() -> None:
    """Show the page."""
    page_head("LeukoDash", "Can a network tell leukemia cells from healthy ones? Try it, and see how far to trust it.")
    left, right = st.columns([2, 3], gap="large")
    try:
        if found := headline(settings.published()):
            with left:
                live_cell(found[0])
            with right:
                comparison(found[1])
    except LeukoDashError as error:
        right.error(plain(str(error)), icon=":material/error:")
    with left:
        doors()
