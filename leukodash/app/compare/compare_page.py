"""Compare: "which is better, and do we know?" A verdict, a figure, then the details."""

from pathlib import Path

import streamlit as st

from leukodash.app.common import badges, finished_runs, libraries_loaded, plain, unique_labels
from leukodash.app.compare.added_rows import add_part, extended
from leukodash.app.compare.chart import chart
from leukodash.app.compare.confusion_part import choose_thresholds, confusion_part
from leukodash.app.compare.downloads import report_part
from leukodash.app.compare.gallery import gallery_part
from leukodash.app.compare.result_tables import table_part
from leukodash.app.compare.statistics_tabs import tabs_part
from leukodash.app.navigation import page
from leukodash.errors import LeukoDashError
from leukodash.evaluation.comparison import Comparison, Summary, Thresholds, few_subjects_warning, forest_rows, summary
from leukodash.figures.accuracy_charts import forest_figure
from leukodash.jobs.live_status import readable
from leukodash.runs.imported_predictions import imported_runs
from leukodash.runs.leaderboard import (
    TestGroup,
    area_words,
    compare_runs,
    default_runs,
    first_group,
    run_names,
    test_groups,
)
from leukodash.runs.run_folder import Run

MAX_RUNS = 12  # more lines in one chart are unreadable
CHOSEN = "compared"  # session key: the chosen runs survive a visit to another page


@st.cache_resource(max_entries=16, show_spinner="Reading the predictions …")
def _comparison(paths: tuple[str, ...], stamp: tuple) -> Comparison:
    return compare_runs([Run(Path(path)) for path in paths])


@st.cache_resource(max_entries=64, show_spinner=False)
def _summary(_comparison: Comparison, at: Thresholds, key: tuple) -> Summary:
    return summary(_comparison, at)


def stamp(runs: list[Run]) -> tuple:
    """Return a cache key that changes with the results or the title of a run."""
    files = [run.path / name for run in runs for name in ("metrics.json", "about.json")]
    return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)


def requested_runs(runs: list[Run]) -> list[Run]:
    """Return the runs in the URL, else those chosen before, as far as they still exist."""
    requested = st.query_params.get("runs", "").split(",")
    ids = requested if any(requested) else st.session_state.get(CHOSEN, [])
    return [run for run in runs if run.id in ids]


def choose(groups: list[TestGroup], requested: list[Run]) -> tuple[TestGroup, list[Run], set[str]]:
    """Let the user choose the test group, the runs (stored in the URL), and additional rows."""
    left, right, add = st.columns([5, 7, 2], vertical_alignment="bottom")
    by_key = {group.key: group for group in groups}
    if st.session_state.get("group") not in by_key:  # first visit, or the group no longer exists
        match = next((group for group in groups if requested and requested[0] in group.runs), None)
        st.session_state["group"] = (match or first_group(groups)).key
    labels = unique_labels({key: group.words for key, group in by_key.items()}, lambda key: f"test set {key[:6]}")
    group = by_key[left.selectbox(
        "Tested on", list(by_key), format_func=labels.__getitem__, key="group",
        help="Only runs that were tested on exactly the same cells can be compared. Other runs are in other groups.",
    )]  # fmt: skip
    by_id = {run.id: name for name, run in run_names(group.runs).items()}
    first = [run for run in requested if run in group.runs] or default_runs(group.runs)
    previous = st.session_state.get(f"runs-{group.key}", [run.id for run in first][:MAX_RUNS])
    st.session_state[f"runs-{group.key}"] = [run_id for run_id in previous if run_id in by_id]
    chosen = right.multiselect(
        "Runs", list(by_id), format_func=by_id.__getitem__, max_selections=MAX_RUNS, key=f"runs-{group.key}",
        placeholder="Choose one or more runs",
    )  # fmt: skip
    st.query_params["runs"] = ",".join(chosen)
    st.session_state[CHOSEN] = chosen
    chosen_runs = [run for run in group.runs if run.id in chosen]
    with add.popover("Add", icon=":material/add:", width="stretch"):
        wanted = add_part(group)
    return group, chosen_runs, wanted


def badge_lines(chosen: list[Run]) -> str:
    """Return the runs' badges, without names if all runs have the same."""
    marked: dict[str, list[str]] = {}
    for name, run in run_names(chosen).items():
        marked.setdefault(badges(run), []).append(plain(name))
    if len(marked) == 1:
        return next(iter(marked))
    return "  \n".join(f":small[{', '.join(names)}] {marks}" for marks, names in marked.items())


def empty() -> None:
    """Show a hint, a link to the train page, and published results."""
    st.info("No finished run yet. Train one to compare its results here.", icon=":material/leaderboard:")
    st.page_link(page("train"), label="Start a run", icon=":material/model_training:")
    st.markdown("Until then, the results of two papers, with intervals from their counts:")
    chart(forest_figure(forest_rows()), "forest")


def show() -> None:
    """Show the page."""
    libraries_loaded("compare")
    runs = sorted([*readable(finished_runs())[0], *imported_runs()], key=lambda run: run.id, reverse=True)
    groups = test_groups(runs)
    if not groups:
        empty()
        st.stop()
    group, chosen, wanted = choose(groups, requested_runs(runs))
    if not chosen:
        st.info("Choose a run above.", icon=":material/touch_app:")
        st.stop()
    try:
        key = tuple(str(run.path) for run in chosen), stamp(chosen)
        runs_alone = _comparison(*key)
        comparison = extended(runs_alone, chosen, wanted, key)
    except LeukoDashError as error:
        st.error(plain(str(error)), icon=":material/error:")
        st.stop()

    head = st.container()
    st.subheader("Confusion matrices")
    at = choose_thresholds(comparison)
    result = _summary(comparison, at, (*key, *comparison.predictions))
    alone = result if comparison is runs_alone else _summary(runs_alone, at, key)
    with head:
        st.markdown(f"### {plain(alone.verdict)}")
        for warning in (few_subjects_warning(comparison), area_words(chosen)):
            if warning:
                st.warning(plain(warning), icon=":material/warning:")
        st.markdown(badge_lines(chosen))
        chart(forest_figure(forest_rows(result.table)), "forest")
        st.caption(f"{result.interval} Grey: published results, measured on other cells.")
        table_part(result.table, chosen, group)
        report_part(comparison, at, result, chosen)
    confusion_part(comparison, at, result.table)
    gallery_part(comparison, at, chosen)
    tabs_part(comparison, at, result, chosen)
