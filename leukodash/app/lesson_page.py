"""Lesson: "why did the paper's ResNet50 fail?" Three suspects, something to try for each, and the runs that tell."""

import numpy as np
import pandas as pd
import streamlit as st

from leukodash.app.common import demo_folder
from leukodash.app.compare.chart import chart
from leukodash.app.navigation import page
from leukodash.data.dataset import load_dataset
from leukodash.data.images import read_image, square
from leukodash.evaluation.comparison import forest_rows
from leukodash.evaluation.published import PUBLISHED
from leukodash.figures.accuracy_charts import forest_figure
from leukodash.figures.cell_pictures import lift
from leukodash.figures.lesson_pictures import ranges_figure
from leukodash.figures.training_curves import history_figure
from leukodash.models.backbones import BACKBONES, SCALING
from leukodash.studies.catalogue import FinishedStudyRun, done
from leukodash.studies.results_page import recipe_rows, taken_back

CHANCE = 0.5  # both classes have as many test cells
KEPT = 0.99  # of a running average at each batch: Keras' ResNet50
ROW = BACKBONES["resnet50"]


@st.cache_data(show_spinner=False)
def demo_cell() -> np.ndarray:
    """Return one blast of the demo cells, (224, 224, 3) uint8."""
    folder = demo_folder()
    cells = load_dataset(folder).cells
    return square(read_image(folder / cells.loc[cells["label"] == "all", "file"].iloc[0]), 224)


def question() -> None:
    """What the paper printed, and why that is no result."""
    row = next(row for row in PUBLISHED if row.backbone == "resnet50" and row.paper.startswith("Dhuri"))
    low, high = row.interval
    st.header("Why did the paper's ResNet50 fail?")
    st.markdown(
        f"Dhuri & Guinde (2020) taught three networks to tell blasts from normal cells. ResNet50 was right on "
        f"**{row.k} of {row.n} cells, {row.value:.1%}**. Its interval, {low:.1%} to {high:.1%}, holds the 50% that "
        "guessing gives. Of the three, ResNet50 is the best on photographs, so something kept it from learning. "
        "There are three suspects."
    )
    rows = forest_rows()
    chart(forest_figure(rows[rows["name"].str.contains("Dhuri")]), "printed")


def softmax_part() -> None:
    """The first suspect: a softmax over one unit."""
    st.subheader("Suspect 1: one output unit", anchor="one-unit")
    st.markdown(
        "The paper's table ends ResNet50 in **one** unit, its text in a **softmax**, which turns outputs into shares "
        "of one whole. Move the output and see what each ending makes of it."
    )
    output = st.slider("What the last layer says of a cell", -5.0, 5.0, 1.5, 0.5, key="output")
    two = float(1 / (1 + np.exp(-output)))
    columns = st.columns(3)
    columns[0].metric("softmax over one unit", "100%", help="exp(x) / exp(x) is 1, whatever x is")
    columns[1].metric("softmax over two units", f"{two:.0%}", help="the other unit says 0 here")
    columns[2].metric("sigmoid over one unit", f"{two:.0%}", help="1 / (1 + exp(-x)): the same as two units")
    st.markdown(
        "Alone, a unit is always the whole. The network would be certain of one class for every cell, no change of its "
        "weights would change that, and training would teach it nothing: half of a balanced test is right. If the "
        "table is what was run, this alone explains the result. LeukoDash never builds such a network: its output has "
        "a unit for each class, as the paper's text has it."
    )


def pixels_part() -> None:
    """The second suspect: pixels of another scale."""
    st.subheader("Suspect 2: pixels on another scale", anchor="pixels")
    st.markdown(
        "ResNet50 learnt from photographs whose mean color was taken away, so that a pixel is a number from about "
        "-124 to 151. The paper names a tool whose usual setting divides by 255 instead. To ResNet50, every cell is "
        "then nearly the same flat grey."
    )
    scale, offset = SCALING[ROW.preprocessing]
    cell = demo_cell().astype(float)
    values = {
        "as it was taught": cell[..., ::-1] * scale + offset,
        "divided by 255": cell * SCALING["divide_by_255"][0],
    }
    left, right = st.columns([1, 4], vertical_alignment="center")
    left.image(lift(demo_cell()), width=150, alt="A generated blast cell on black, brightened.")
    with right:
        chart(ranges_figure(values), "pixels")
    st.caption("All numbers of this generated cell: lowest, quartiles and highest.")


def batchnorm_part(runs: list[FinishedStudyRun]) -> None:
    """The third suspect: batch normalization that is trained in passing."""
    st.subheader("Suspect 3: batch normalization with two faces", anchor="batch-normalization")
    st.markdown(
        "Between its layers ResNet50 subtracts a mean and divides by a spread, 53 times. While it **trains**, these "
        "come from the 32 cells of the batch. When it is **tested**, it takes running averages, which begin with "
        "those of ImageNet's photographs and move by a hundredth with each batch. The paper says that it let them "
        "move."
    )
    batches = st.slider("Batches trained so far", 0, 600, 60, 10, key="batches")
    st.markdown(
        f"After {batches} batches, **{KEPT**batches:.0%} of each running average is still ImageNet's**. As long as it "
        "is, training and testing see two different networks."
    )
    if runs:
        names = {one.label: one.run for one in runs if one.cpu_overrides} or {one.label: one.run for one in runs}
        shown = [label for label in ("as published", "both") if label in names]
        histories = {label: names[label].history for label in shown}
        chart(history_figure(histories, "accuracy", dict.fromkeys(shown, "resnet50")), "curves")
        st.caption(
            "Dotted: training cells, which the published recipe sees through the batch. Solid: validation cells, "
            "seen as in a test."
        )


def verdict_part(runs: list[FinishedStudyRun]) -> None:
    """One change at a time, and what it shows."""
    st.subheader("One change at a time", anchor="one-change")
    if not runs:
        st.info(
            "The runs behind this part are not here. With C-NMC on this machine, this trains them: "
            "`python -m leukodash study resnet50 --data DIR`",
            icon=":material/model_training:",
        )
        return
    lines = [row.line for row in recipe_rows(runs)]
    table = pd.DataFrame(
        {
            "name": line.name.partition(", ")[2],
            "backbone": line.backbone,
            "accuracy": line.value,
            "low": line.low,
            "high": line.high,
            "n": runs[0].run.metrics["n"],
            "published": False,
        }
        for line in lines
    ).astype({"low": float, "high": float})
    guessing = table[(table["low"] <= CHANCE) & (table["high"] >= CHANCE)]
    best = table.loc[table["accuracy"].idxmax()]
    said = f"Not to be told from guessing: **{'**, **'.join(guessing['name'])}**. " if len(guessing) else ""
    st.markdown(
        f"{said}Best: **{best['name']}**, {best['accuracy']:.1%} of {best['n']:,} test cells "
        f"({best['low']:.1%} to {best['high']:.1%}, split by image, as in the paper)."
    )
    chart(forest_figure(table), "one-change")
    if small := taken_back(runs):
        st.markdown(small)


def try_part() -> None:
    """What to do with it."""
    st.subheader("Try it yourself")
    st.markdown(
        "On the Train page, tick ResNet50 and choose *Quick*. Under *All settings*, set *Preprocessing* to *divide "
        "by 255* and start; then again with *as it was trained*. Compare the two: they are tested on the same cells."
    )
    st.page_link(page("train"), label="Start a run", icon=":material/model_training:")


def show() -> None:
    """Show the page."""
    study = done().get("resnet50", [])
    question()
    st.fragment(softmax_part)()  # a slider moves its own part alone
    pixels_part()
    st.fragment(batchnorm_part)(study)
    verdict_part(study)
    try_part()
