"""What stands beside the compared runs: their average, simple baselines, and predictions of other tools."""

from pathlib import Path

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from leukodash.app.common import plain
from leukodash.errors import LeukoDashError
from leukodash.evaluation.comparison import Answers, Comparison, average
from leukodash.models.backbones import BACKBONES
from leukodash.runs.baseline_predictions import baseline_answers
from leukodash.runs.imported_predictions import NEEDED, import_predictions, is_import
from leukodash.runs.leaderboard import TestGroup, test_groups
from leukodash.runs.run_folder import Run
from leukodash.runs.trash import discard

AVERAGE = "Average of the runs"


def add_part(group: TestGroup) -> set[str]:
    """Offer the additions; returns the switches that are on: "average", "baselines"."""
    wanted = set()
    if st.toggle("The runs' average", key="average", bind="query-params", help="An ensemble: mean probabilities."):
        wanted.add("average")
    if st.toggle(
        "Simple baselines", key="baselines", bind="query-params",
        help="Cell area alone, a color histogram, and SVM and k-NN on the frozen features where a run left them in "
        "the cache; fitted on the same training cells. A network that does not beat the area has learnt nothing else.",
    ):  # fmt: skip
        wanted.add("baselines")
    st.divider()
    _import(group)
    if problem := st.session_state.pop("import-problem", ""):
        st.error(plain(problem), icon=":material/error:")
    _remove([run for run in group.runs if is_import(run)])
    return wanted


def _import(group: TestGroup) -> None:
    """Take another tool's predictions as a run."""
    file = st.file_uploader("Predictions of another tool (CSV)", "csv", key="import", help=f"Columns {NEEDED}.")
    if file is None:
        return
    st.text_input("Name", Path(file.name).stem, max_chars=60, key=f"import-title-{file.file_id}")
    st.selectbox(
        "Network", list(BACKBONES), index=None, format_func=lambda name: BACKBONES[name].title, key="import-backbone",
        placeholder="Another one",
    )  # fmt: skip
    st.button("Import", type="primary", key="import-go", on_click=_take, args=(group, file))


def _take(group: TestGroup, file: UploadedFile) -> None:
    """Import the file and choose it, in its own group where its cells are others."""
    title, backbone = st.session_state[f"import-title-{file.file_id}"], st.session_state["import-backbone"]
    try:
        run = import_predictions(file.getvalue(), file.name, title=title, backbone=backbone, like=group.runs)
    except LeukoDashError as error:
        st.session_state["import-problem"] = str(error)
        return
    own = test_groups([run])[0].key
    st.session_state["group"] = own
    if own == group.key:
        st.session_state[f"runs-{own}"] = [*st.session_state[f"runs-{own}"], run.id]
    st.toast(f"{plain(run.title)} can be compared.", icon=":material/check_circle:")


def _remove(imports: list[Run]) -> None:
    """Let the user delete an imported run."""
    if not imports:
        return
    st.divider()
    run = st.selectbox("Imported runs", imports, format_func=lambda run: run.title, key="import-old")
    st.button("Delete it", icon=":material/delete:", key="import-delete", on_click=_discard, args=(run,))


def _discard(run: Run) -> None:
    try:
        discard(run)
    except LeukoDashError as error:
        st.session_state["import-problem"] = str(error)


def extended(comparison: Comparison, chosen: list[Run], wanted: set[str], key: tuple) -> Comparison:
    """Return the comparison with the rows that are wanted; says why where one cannot be had."""
    more: dict[str, Answers] = {}
    if "average" in wanted and len(chosen) > 1:
        more[AVERAGE] = average(comparison, list(comparison.answers))
    if "baselines" in wanted:
        run = next((run for run in chosen if not is_import(run)), None)
        try:
            more |= _baselines(str(run.path), key, comparison) if run else {}
        except LeukoDashError as error:
            st.warning(f"No baselines: {plain(str(error))}", icon=":material/warning:")
    return _with(tuple(more), key, comparison, more) if more else comparison


@st.cache_resource(max_entries=4, show_spinner="Fitting the baselines (some seconds) …")
def _baselines(path: str, key: tuple, _comparison: Comparison) -> dict[str, Answers]:
    return baseline_answers(Run(Path(path)), _comparison.cells["file"])


@st.cache_resource(max_entries=8, show_spinner=False)
def _with(names: tuple[str, ...], key: tuple, _comparison: Comparison, _more: dict[str, Answers]) -> Comparison:
    for name in names:
        _comparison = _comparison.with_answers(name, _more[name])
    return _comparison
