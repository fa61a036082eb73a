"""The lesson's parts about cells: guess, use their size alone, and see which people both sides of a split share."""

import numpy as np
import pandas as pd
import streamlit as st

from leukodash import settings
from leukodash.app.common import CNMC_CREDIT, dataset, demo_folder
from leukodash.app.compare.chart import chart
from leukodash.data.dataset import label_title
from leukodash.data.images import read_image, square
from leukodash.data.split import Split, make_split
from leukodash.evaluation.cell_area import area_auc, cell_area
from leukodash.evaluation.statistics import wilson
from leukodash.figures.cell_pictures import brighten
from leukodash.figures.lesson_pictures import areas_figure

GUESSES, SHARED_CELLS = 12, 6  # cells to guess, and cells that both splits test
SIDE, THUMBNAIL = 82, 300  # pixels a side: on the page, twelve in a row, and of the picture
TITLES = {"all": label_title("all"), "hem": label_title("hem")}


@st.cache_resource(show_spinner="Measuring the 48 sample cells …")  # 13 MB, once
def sample_cells() -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Return the sample cells in a fixed random order, with their area as a share of the picture, and thumbnails."""
    cells = dataset(settings.asset("cells")).cells.sample(frac=1, random_state=11, ignore_index=True)
    images = [read_image(settings.asset("cells") / file) for file in cells["file"]]
    share = [cell_area(image[None])[0] / image[..., 0].size for image in images]
    return cells.assign(share=share), [brighten(square(image, THUMBNAIL)) for image in images]


def share_words(right: int, n: int) -> str:
    """Return, for example, ``"8 of 12 (66.7%; 39.1% to 86.2%)"``, with Wilson's interval."""
    low, high = wilson(right, n)
    return f"{right} of {n} ({right / n:.1%}; {low:.1%} to {high:.1%})"


def guess_part() -> None:
    """Show cells without their class; after the guess, the class of each and the number right."""
    st.markdown(
        "In leukemia, immature white cells, *blasts*, crowd out the others. A blast is often larger, its nucleus fills "
        "almost the whole cell, and the texture of the nucleus is finer. Which of these are blasts?"
    )
    cells, images = sample_cells()
    cells = cells.head(GUESSES)
    shown = st.session_state.get("lesson-answers", False)
    with st.container(horizontal=True, gap="xsmall"):
        for number, label in enumerate(cells["label"], 1):
            words = f"{number}: {TITLES[label]}" if shown else f"{number}"
            st.image(images[number - 1], width=SIDE, caption=words, alt=f"Cell {words}")
    st.caption(f"Brightened. {CNMC_CREDIT}")
    guess = st.pills("The blasts are", range(1, GUESSES + 1), selection_mode="multi", key="lesson-guess")
    st.toggle("Show the answers", key="lesson-answers")
    if shown:
        right = sum((number in guess) == (label == "all") for number, label in enumerate(cells["label"], 1))
        st.markdown(
            f"You have **{share_words(right, GUESSES)}** right. The interval in brackets is what {GUESSES} cells "
            "can say: if it holds 50%, you may have guessed."
        )


def size_part() -> None:
    """Let the user separate the sample cells by size."""
    st.markdown("Forget texture: call a cell a blast if it is large enough. Find the best limit.")
    cells, _ = sample_cells()
    limit = st.slider("Blast if the cell fills at least (% of the picture)", 6, 26, 20, key="lesson-limit")
    blast = cells["label"] == "all"
    right = int(((100 * cells["share"] >= limit) == blast).sum())
    chart(areas_figure(cells["share"], cells["label"], limit / 100, TITLES), "areas")
    auc = area_auc(cells["share"].to_numpy(), blast.to_numpy())
    st.markdown(
        f"Right: **{share_words(right, len(cells))}**. A random blast is larger than a random normal cell in {auc:.0%} "
        "of all pairs. So a network can be right by size alone. LeukoDash also asks how well each network orders cells "
        "of equal size. And you chose the limit on the cells that you counted: a fair test needs others."
    )


@st.cache_data(max_entries=4, show_spinner="Dividing the generated cells …")
def shared_test_cells(folder: str, fingerprint: str) -> pd.DataFrame:
    """Return cells that a split by image and one by subject both test, one a subject, with the number of training
    cells of the same subject in each: columns file, subject, image, person. `fingerprint` is for the cache.
    """
    cells = dataset(folder).cells
    parts = {name: make_split(cells, Split(kind=kind)) for name, kind in (("image", "image"), ("person", "subject"))}
    both = cells[(parts["image"] == "test") & (parts["person"] == "test")].drop_duplicates("subject").head(SHARED_CELLS)
    trained = {
        name: both["subject"].map(cells["subject"][part == "train"].value_counts()) for name, part in parts.items()
    }
    return both.assign(**trained).fillna(0).astype({"image": int, "person": int})


def split_part() -> None:
    """Show cells that two splits test, and how much of the same person each of them trains on."""
    st.markdown(
        "A network is tested on cells that it was not trained on. But cells of **one person** resemble each other in "
        "stain and light. A split **by image** draws test cells at random, whoever they are from; a split **by "
        "subject** keeps all cells of a person on one side. Both splits test these cells:"
    )
    data = dataset(demo_folder())
    with st.container(horizontal=True, gap="medium"):
        for row in shared_test_cells(str(data.root), data.fingerprint).itertuples():
            with st.container(width=160, gap="xsmall"):
                image = brighten(read_image(data.root / str(row.file)))
                st.image(image, width=SIDE, alt=f"Test cell of subject {row.subject}")
                st.markdown(
                    f"Subject {row.subject}  \nby image: **{row.image}** trained  \nby subject: **{row.person}**"
                )
    st.caption("Generated cells. *Trained*: cells of the same subject that the network was trained on.")
