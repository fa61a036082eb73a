"""Compare: "which is better, and do we know?" A verdict, a picture of it, then the numbers behind it."""

from pathlib import Path

import streamlit as st

from leukodash.errors import LeukoDashError
from leukodash.evaluation.comparison import (
    Comparison,
    few_subjects_words,
    forest_rows,
    interval_words,
    results,
    verdict_words,
)
from leukodash.figures.comparison import forest_figure
from leukodash.runs.folder import Run
from leukodash.runs.progress import readable
from leukodash.runs.results import TestGroup, compare_runs, default_runs, run_names, test_groups
from pages.compare_cells import choose_thresholds, confusion_part
from pages.compare_chart import chart
from pages.compare_gallery import gallery_part
from pages.compare_table import table_part
from pages.compare_tabs import tabs_part
from pages.shared import badges, finished_runs, plain

MOST = 12  # more lines than that in one chart and none can be followed
KEPT = "compared"  # chosen runs outlive a visit to another page


@st.cache_resource(max_entries=16, show_spinner="Reading the predictions …")
def _comparison(paths: tuple[str, ...], stamp: tuple) -> Comparison:
    return compare_runs([Run(Path(path)) for path in paths])


def stamp(runs: list[Run]) -> tuple:
    """What changes when a run's results or its title do."""
    files = [run.path / name for run in runs for name in ("metrics.json", "about.json")]
    return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)


def asked_runs(runs: list[Run]) -> list[Run]:
    """The runs named in the address, else those chosen before, as far as they still are there."""
    asked = st.query_params.get("runs", "").split(",")
    ids = asked if any(asked) else st.session_state.get(KEPT, [])
    return [run for run in runs if run.id in ids]


def choose(groups: list[TestGroup], asked: list[Run]) -> tuple[TestGroup, list[Run]]:
    """Let the user choose what was tested on, and the runs; both are kept in the address."""
    start = next((place for place, group in enumerate(groups) if asked and asked[0] in group.runs), 0)
    left, right = st.columns([2, 3])
    words = [group.words for group in groups]
    place = left.selectbox(
        "Tested on", range(len(groups)), index=start, format_func=lambda place: words[place], key="group",
        help="Only runs tested on the same cells, to the byte, can be compared. The others are in other groups.",
    )  # fmt: skip
    group = groups[place]
    by_id = {run.id: name for name, run in run_names(group.runs).items()}
    first = [run for run in asked if run in group.runs] or default_runs(group.runs)
    chosen = right.multiselect(
        "Runs", list(by_id), default=[run.id for run in first][:MOST], format_func=by_id.get, max_selections=MOST,
        key=f"runs-{group.key}", placeholder="Choose one run or more",
    )  # fmt: skip
    st.query_params["runs"] = ",".join(chosen)
    st.session_state[KEPT] = chosen
    return group, [run for run in group.runs if run.id in chosen]


def empty() -> None:
    """What is here once a run has finished, the way there, and what the papers printed."""
    st.info("No finished run yet. Train one, and its results are compared here.", icon=":material/leaderboard:")
    st.page_link("pages/train.py", label="Start a run", icon=":material/model_training:")
    st.markdown("Until then, what two papers printed, with the intervals that their counts allow:")
    chart(forest_figure(forest_rows()), "forest")


runs, _ = readable(finished_runs())
groups = test_groups(runs)
if not groups:
    empty()
    st.stop()
group, chosen = choose(groups, asked_runs(runs))
if not chosen:
    st.info("Choose a run above.", icon=":material/touch_app:")
    st.stop()
try:
    comparison = _comparison(tuple(str(run.path) for run in chosen), stamp(chosen))
except LeukoDashError as error:
    st.error(plain(str(error)), icon=":material/error:")
    st.stop()

head = st.container()
st.subheader("What is mistaken for what")
at = choose_thresholds(comparison)
table = results(comparison, at)
with head:
    st.markdown(f"### {plain(verdict_words(comparison, at))}")
    if warning := few_subjects_words(comparison):
        st.warning(warning, icon=":material/groups:")
    st.markdown(badges(chosen[0]))
    chart(forest_figure(forest_rows(table)), "forest")
    st.caption(f"{interval_words(comparison, at)} Grey: printed in papers, on other cells than these.")
    table_part(table, chosen, group)
confusion_part(comparison, at, table)
gallery_part(comparison, at, chosen)
tabs_part(comparison, at, chosen)
