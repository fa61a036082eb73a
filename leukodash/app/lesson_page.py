"""Lesson: 45 minutes from a first look at cells to what a network's accuracy says about people, top to bottom."""

from collections.abc import Callable

import streamlit as st

from leukodash.app.common import page_head, plain
from leukodash.app.lesson.cells_part import guess_part, size_part, split_part
from leukodash.app.lesson.runs_part import people_part, split_runs_part, train_part
from leukodash.app.lesson.suspects_part import suspects_part
from leukodash.errors import LeukoDashError
from leukodash.studies.catalogue import FinishedStudyRun, done


def show() -> None:
    """Show the page."""
    page_head(
        "Lesson", "Can you tell leukemia cells from healthy ones? Can a network? What would prove it? 45 minutes."
    )
    st.header("1. Look, and guess :small[:gray[5 minutes]]", anchor="guess")
    st.fragment(guess_part)()  # a control reruns only its own part
    st.header("2. How far does size alone go? :small[:gray[5 minutes]]", anchor="size")
    st.fragment(size_part)()
    st.header("3. Who is in the test set? :small[:gray[8 minutes]]", anchor="split")
    split_part()
    with st.spinner("Reading the published runs …"):
        studies = done()
    _about_runs(split_runs_part, studies.get("honest", []))
    st.header("4. Why did the paper's ResNet50 fail? :small[:gray[12 minutes]]", anchor="resnet50")
    _about_runs(suspects_part, studies.get("resnet50", []))
    st.header("5. Train one yourself :small[:gray[10 minutes]]", anchor="train")
    train_part()
    st.header("6. A cell is not a person :small[:gray[5 minutes]]", anchor="people")
    _about_runs(people_part, studies.get("honest", []))


def _about_runs(part: Callable[[list[FinishedStudyRun]], None], runs: list[FinishedStudyRun]) -> None:
    """Show a part about published runs, or what is wrong with these."""
    try:
        part(runs)
    except LeukoDashError as error:
        st.error(plain(str(error)), icon=":material/error:")
