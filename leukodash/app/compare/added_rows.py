"""Additional rows of a comparison: the average of the runs, simple baselines, and imported predictions."""

from pathlib import Path

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from leukodash.app.common import plain
from leukodash.app.compare.choice import ask
from leukodash.app.compare.run_picker import MAX_RUNS
from leukodash.app.sign_in import current_actor
from leukodash.app.sign_in_form import refused
from leukodash.errors import LeukoDashError
from leukodash.evaluation.comparison import Comparison, Predictions, average
from leukodash.models.backbones import BACKBONES
from leukodash.runs.access import may, refusal
from leukodash.runs.baseline_predictions import predict_baselines
from leukodash.runs.imported_predictions import NEEDED, import_predictions, is_import, template
from leukodash.runs.leaderboard import TestGroup, default_runs, test_groups
from leukodash.runs.run_folder import Run
from leukodash.runs.trash import discard

AVERAGE = "Average of the runs"


def add_part(group: TestGroup, groups: list[TestGroup], chosen: list[Run]) -> set[str]:
    """Let the user choose additional rows; returns the enabled ones: "average", "baselines".

    Args:
        group: the test group on screen.
        groups: all test groups: imported predictions are matched with the cells of each.
        chosen: the runs on screen.
    """
    wanted = set()
    if st.toggle(
        "Average of the runs", key="average", bind="query-params", help="An ensemble: the mean of the probabilities."
    ):
        wanted.add("average")
    if st.toggle(
        "Simple baselines", key="baselines", bind="query-params",
        help="Cell area alone, a color histogram, and, for runs whose features are cached, SVM and k-NN on the frozen "
        "features; fitted on the same training cells. A network should be better than all of them.",
    ):  # fmt: skip
        wanted.add("baselines")
    st.divider()
    if words := refusal(current_actor(), "import"):
        refused(words, "import")
    else:
        _import(group, groups, chosen)
    if problem := st.session_state.pop("import-problem", ""):
        st.error(plain(problem), icon=":material/error:")
    _remove([run for run in group.runs if is_import(run) and may(current_actor(), "delete", run)])
    return wanted


def _import(group: TestGroup, groups: list[TestGroup], chosen: list[Run]) -> None:
    """Let the user import the predictions of another tool as a run."""
    file = st.file_uploader("Import predictions of another tool (CSV)", "csv", key="import", help=f"Columns {NEEDED}.")
    st.download_button(
        "Template", lambda: template(group.runs), "predictions.csv", "text/csv", icon=":material/download:",
        on_click="ignore", key="template", help="The test cells on this page, with an empty column for your answers.",
    )  # fmt: skip
    if file is None:
        return
    st.text_input("Name", Path(file.name).stem, max_chars=60, key=f"import-title-{file.file_id}")
    st.selectbox(
        "Network", list(BACKBONES), index=None, format_func=lambda name: BACKBONES[name].title, key="import-backbone",
        placeholder="Other",
    )  # fmt: skip
    st.button("Import", type="primary", key="import-go", on_click=_import_file, args=(groups, chosen, file))


def _import_file(groups: list[TestGroup], chosen: list[Run], file: UploadedFile) -> None:
    """Import the file and compare it with the runs on screen, or else with runs that were tested on its cells."""
    title, backbone = st.session_state[f"import-title-{file.file_id}"], st.session_state["import-backbone"]
    trained = [next((run for run in group.runs if not is_import(run)), None) for group in groups]
    like = [run for run in trained if run]
    try:
        run = import_predictions(
            file.getvalue(), file.name, title=title, backbone=backbone, like=like, actor=current_actor()
        )
    except LeukoDashError as error:
        st.session_state["import-problem"] = str(error)
        return
    same = next((group.runs for group in groups if group.key == test_groups([run])[0].key), ())
    beside = chosen if chosen[0] in same else default_runs(same)
    ask(runs=",".join(run.id for run in [run, *beside][:MAX_RUNS]))
    st.toast(f"{plain(run.title)} was imported.", icon=":material/check_circle:")


def _remove(imports: list[Run]) -> None:
    """Let the user delete an imported run."""
    if not imports:
        return
    st.divider()
    run = st.selectbox("Imported runs", imports, format_func=lambda run: run.title, key="import-old")
    st.button("Delete", icon=":material/delete:", key="import-delete", on_click=_discard, args=(run,))


def _discard(run: Run) -> None:
    try:
        discard(run, current_actor())
        compared = st.query_params.get("runs", "").split(",")
        if run.id in compared:
            ask(runs=",".join(name for name in compared if name != run.id))
    except LeukoDashError as error:
        st.session_state["import-problem"] = str(error)


def extended(comparison: Comparison, chosen: list[Run], wanted: set[str], key: tuple) -> Comparison:
    """Return the comparison with the additional rows; warns if one cannot be computed."""
    more: dict[str, Predictions] = {}
    if "average" in wanted and len(chosen) > 1:
        more[AVERAGE] = average(comparison, list(comparison.predictions))
    if "baselines" in wanted:
        run = next((run for run in chosen if not is_import(run)), None)
        try:
            more |= _baselines(str(run.path), key, comparison) if run else {}
        except LeukoDashError as error:
            st.warning(f"No baselines: {plain(str(error))}", icon=":material/warning:")
    return _with(tuple(more), key, comparison, more) if more else comparison


@st.cache_resource(max_entries=4, show_spinner="Fitting the baselines (a few seconds) …")
def _baselines(path: str, key: tuple, _comparison: Comparison) -> dict[str, Predictions]:
    return predict_baselines(Run(Path(path)), _comparison.cells["file"])


@st.cache_resource(max_entries=4, show_spinner=False)
def _with(names: tuple[str, ...], key: tuple, _comparison: Comparison, _more: dict[str, Predictions]) -> Comparison:
    for name in names:
        _comparison = _comparison.with_predictions(name, _more[name])
    return _comparison
