"""The lesson's part on the paper's ResNet50: three suspects, an experiment for each, and the runs that decide."""

import numpy as np
import streamlit as st

from leukodash import settings
from leukodash.app.compare.chart import chart
from leukodash.app.lesson.cells_part import sample_cells
from leukodash.app.lesson.runs_part import line_rows, recipe_lines, study_words
from leukodash.data.images import read_image
from leukodash.evaluation.comparison import forest_rows
from leukodash.evaluation.published import PUBLISHED
from leukodash.figures.accuracy_charts import forest_figure
from leukodash.figures.lesson_pictures import ranges_figure
from leukodash.figures.training_curves import history_figure
from leukodash.models.backbones import BACKBONES, SCALING
from leukodash.studies.catalogue import FinishedStudyRun
from leukodash.studies.results_page import taken_back

MOMENTUM = 0.99  # of the moving averages of Keras' ResNet50
SPEC = BACKBONES["resnet50"]


def question() -> None:
    """Show the printed result, and that it does not differ from guessing."""
    row = next(row for row in PUBLISHED if row.backbone == "resnet50" and row.paper.startswith("Dhuri"))
    assert row.interval is not None  # the paper prints counts
    low, high = row.interval
    st.markdown(
        f"Dhuri & Guinde (2020) trained three networks to tell blasts from normal cells. ResNet50 was right on "
        f"**{row.k} of {row.n} cells, {row.value:.1%}**. Its 95% interval, {low:.1%} to {high:.1%}, contains "
        "the 50% that guessing gives. On photographs, ResNet50 is the best of the three, so something kept it from "
        "learning. There are three suspects."
    )
    rows = forest_rows()
    chart(forest_figure(rows[rows["name"].str.contains("Dhuri")]), "printed")


def softmax_part() -> None:
    """The first suspect: a softmax over one unit."""
    st.subheader("Suspect 1: one output unit", anchor="one-unit")
    st.markdown(
        "In the paper's table, ResNet50 ends in **one** unit; in its text, in a **softmax**, which turns outputs into "
        "shares of a whole. Move the output and compare the results."
    )
    output = st.slider("Output of the last layer for a cell", -5.0, 5.0, 1.5, 0.5, key="output")
    two = float(1 / (1 + np.exp(-output)))
    columns = st.columns(3)
    columns[0].metric("softmax over one unit", "100%", help="exp(x) / exp(x) is 1 for every x")
    columns[1].metric("softmax over two units", f"{two:.0%}", help="the output of the other unit is 0 here")
    columns[2].metric("sigmoid over one unit", f"{two:.0%}", help="1 / (1 + exp(-x)): the same as two units")
    st.markdown(
        "With a single unit, the share is always 100%. The network would be certain of one class for every cell, no "
        "change of its weights would matter, and training could not teach it anything: half of a balanced test is "
        "correct. If the table is what was run, this alone explains the result. LeukoDash never builds such a network: "
        "its output has one unit per class, as in the paper's text."
    )


def pixels_part() -> None:
    """The second suspect: pixels on another scale."""
    st.subheader("Suspect 2: pixels on another scale", anchor="pixels")
    st.markdown(
        "ResNet50 was trained on photographs with their mean color subtracted, so a pixel is a number from about -124 "
        "to 151. The paper names a tool that by default divides by 255 instead. To ResNet50, every cell is then an "
        "almost uniform grey."
    )
    scale, offset = SCALING[SPEC.preprocessing]
    cells, images = sample_cells()
    blast = settings.asset("cells") / cells.loc[cells["label"] == "all", "file"].iloc[0]
    cell = read_image(blast).astype(float)
    values = {"as pretrained": cell[..., ::-1] * scale + offset, "divided by 255": cell * SCALING["divide_by_255"][0]}
    left, right = st.columns([1, 4], vertical_alignment="center")
    left.image(images[cells["label"].eq("all").argmax()], width=150, alt="A blast cell on black, brightened.")
    with right:
        chart(ranges_figure(values), "pixels")
    st.caption("All pixel values of this cell: minimum, quartiles and maximum.")


def batchnorm_part(runs: list[FinishedStudyRun]) -> None:
    """The third suspect: batch normalization that behaves differently in training and testing."""
    st.subheader("Suspect 3: batch normalization in two modes", anchor="batch-normalization")
    st.markdown(
        "Between its layers, ResNet50 subtracts a mean and divides by a standard deviation, 53 times. In **training**, "
        "these come from the 32 cells of the batch. In **testing**, they are moving averages, which start at those of "
        "the ImageNet photographs and move by one hundredth with each batch. According to the paper, they were allowed "
        "to move."
    )
    batches = st.slider("Batches trained so far", 0, 600, 60, 10, key="batches")
    st.markdown(
        f"After {batches} batches, **{MOMENTUM**batches:.0%} of each moving average still comes from ImageNet**. Until "
        "that share is small, training and testing see two different networks."
    )
    if runs:
        reduced = [study_run for study_run in runs if study_run.cpu_overrides]
        by_label = {study_run.label: study_run.run for study_run in reduced or runs}
        labels = [label for label in ("as published", "both") if label in by_label]
        histories = {str(label): by_label[label].history for label in labels}
        chart(history_figure(histories, "accuracy", dict.fromkeys(histories, "resnet50")), "curves")
        st.caption(
            "Dotted: training cells, normalized by batch in the published recipe. Solid: validation cells, normalized "
            "as in testing."
        )


def verdict_part(runs: list[FinishedStudyRun]) -> None:
    """Show the runs that change one thing at a time."""
    st.subheader("One change at a time", anchor="one-change")
    if not runs:
        st.info(
            "The runs of this part are missing. With C-NMC on this machine, this command trains them: "
            "`python -m leukodash study resnet50 --data DIR`",
            icon=":material/model_training:",
        )
        return
    lines = recipe_lines(runs)
    table = line_rows(lines, runs[0].run.metrics["n"])
    best = table.nlargest(1, "accuracy").iloc[0]
    st.markdown(
        f"{study_words('resnet50', runs)} Best: **{best['name']}**, {best['accuracy']:.1%} of {best['n']:,} test cells "
        f"({best['low']:.1%} to {best['high']:.1%}, split by image, as in the paper)."
    )
    chart(forest_figure(table), "one-change")
    if small := taken_back(runs):
        st.markdown(small)


def suspects_part(study: list[FinishedStudyRun]) -> None:
    """Show the question, three suspects, and the runs that decide."""
    question()
    st.fragment(softmax_part)()  # a slider reruns only its own part
    pixels_part()
    st.fragment(batchnorm_part)(study)
    verdict_part(study)
