"""Compare: "which is better, and do we know?" A question, its answer in a sentence and a figure, then the details."""

from pathlib import Path

import streamlit as st

from leukodash.app.common import badge_list, finished_runs, libraries_loaded, page_head, plain, without_damaged
from leukodash.app.compare.added_rows import add_part, extended
from leukodash.app.compare.chart import chart
from leukodash.app.compare.choice import choose
from leukodash.app.compare.confusion_part import choose_thresholds
from leukodash.app.compare.different_cells import GREY, chosen_part, split_part
from leukodash.app.compare.downloads import report_part
from leukodash.app.compare.paired_tests import chosen_measure
from leukodash.app.compare.paper_checker import paper_part
from leukodash.app.compare.people_part import people_part
from leukodash.app.compare.result_tables import table_part
from leukodash.app.compare.run_picker import cells_words
from leukodash.app.compare.statistics_tabs import tabs_part
from leukodash.app.navigation import page
from leukodash.app.sign_in import current_actor
from leukodash.byte_cache import ByteCache
from leukodash.errors import LeukoDashError
from leukodash.evaluation.comparison import Comparison, Summary, Thresholds, few_subjects_warning, forest_rows, summary
from leukodash.evaluation.statistics import wilson
from leukodash.figures.accuracy_charts import forest_figure
from leukodash.runs.access import visible
from leukodash.runs.imported_predictions import imported_runs
from leukodash.runs.leaderboard import (
    TestGroup,
    area_words,
    compare_runs,
    run_names,
    shared_words,
    test_groups,
)
from leukodash.runs.run_folder import Run
from leukodash.studies.questions import answer, best_recipe, questions

COMPARISON_BYTES = 2**27  # of comparisons in memory: an imported run of 200,000 rows can take 80 MB
NAMED = 3  # runs whose names stand beside a badge; of more, their number does


@st.cache_resource(show_spinner=False)
def _comparisons() -> ByteCache:
    return ByteCache(COMPARISON_BYTES, lambda comparison: comparison.size_bytes)


def _comparison(paths: tuple[str, ...], stamp: tuple) -> Comparison:
    def compute() -> Comparison:
        with st.spinner("Reading the predictions …"):
            return compare_runs([Run(Path(path)) for path in paths])

    return _comparisons().remember((paths, stamp), compute)


@st.cache_resource(max_entries=64, show_spinner=False)
def _summary(_comparison: Comparison, at: Thresholds, measure: str, key: tuple) -> Summary:
    return summary(_comparison, at, measure)


@st.cache_data(max_entries=4, show_spinner=False)
def _answer(question: str, key: tuple) -> str:
    return answer(question)


def stamp(runs: list[Run]) -> tuple:
    """Return a cache key that changes with the results or the title of a run."""
    files = [run.path / name for run in runs for name in ("metrics.json", "about.json")]
    return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)


def badge_lines(chosen: list[Run]) -> str:
    """Return what all runs share, in words and badges, and the other badges with the names, or the number, of runs."""
    marked: dict[str, list[str]] = {}
    for name, run in run_names(chosen).items():
        for badge in badge_list(run):
            marked.setdefault(badge, []).append(plain(name))
    shared = [badge for badge, names in marked.items() if len(names) == len(chosen)]
    lines = [" ".join([f":small[{plain(shared_words(chosen))}]", *shared])]
    for badge, names in marked.items():
        if badge not in shared:
            few = ", ".join(names) if len(names) <= NAMED else f"{len(names)} of {len(chosen)} runs"
            lines.append(f":small[{few}] {badge}")
    return "  \n".join(lines)


def empty() -> None:
    """Show a hint, a link to the train page, and the check of a published result."""
    st.info("No finished run yet. Train one to compare its results here.", icon=":material/leaderboard:")
    st.page_link(page("train"), label="Start a run", icon=":material/model_training:")
    paper_part()


def show() -> None:
    """Show the page."""
    libraries_loaded("compare")
    page_head("Compare", "Which network is better, and do we know? Choose a question, or runs.")
    imported = visible(current_actor(), imported_runs())
    runs = sorted([*finished_runs(), *imported], key=lambda run: run.id, reverse=True)
    groups = test_groups(runs)
    key, chosen = choose(runs, questions(runs)) if groups else ("", [])
    chosen = without_damaged(chosen, st.query_params.get("runs", ""))
    if not groups:
        empty()
    if not chosen:
        st.stop()
    if key == "split":
        split_part(stamp(chosen))
    elif note := cells_words(chosen):
        chosen_part(chosen, note)
        st.markdown(badge_lines(chosen))
    else:
        group = next(group for group in groups if chosen[0] in group.runs)
        same_cells(chosen, group, groups, key)


def same_cells(chosen: list[Run], group: TestGroup, groups: list[TestGroup], question: str) -> None:
    """Show runs that were tested on the same cells: verdict, figure, table, people, and the details in tabs."""
    head, controls = st.container(), st.container(horizontal=True, vertical_alignment="bottom")
    try:
        key = tuple(str(run.path) for run in chosen), stamp(chosen)
        runs_alone = _comparison(*key)
        with controls.popover("Add", icon=":material/add:"):
            wanted = add_part(group, groups, chosen)
        comparison = extended(runs_alone, chosen, wanted, key)
    except LeukoDashError as error:
        st.error(plain(str(error)), icon=":material/error:")
        st.stop()
    with controls.popover("Threshold", icon=":material/tune:"):
        at, words = choose_thresholds(comparison)
    measure = chosen_measure(comparison)
    result = _summary(comparison, at, measure, (*key, *comparison.predictions))
    alone = result if comparison is runs_alone else _summary(runs_alone, at, measure, key)
    with head:
        st.markdown(f"### {plain(alone.verdict)}")
        if question == "network":
            _better_recipe(chosen)
        if said := _answer(question, key):
            st.markdown(plain(said))
        if warning := few_subjects_warning(comparison):
            st.warning(plain(warning), icon=":material/warning:")
        chart(forest_figure(forest_rows(result.table)), "forest")
        st.markdown(badge_lines(chosen))
        st.caption(plain(" ".join(filter(None, (words, area_words(chosen), result.interval, GREY)))))
    with controls:
        report_part(comparison, at, result, chosen)
    table_part(result.table, chosen, group, stamp(list(group.runs)))
    people_part(comparison, at, chosen, (*key, *comparison.predictions))
    tabs_part(comparison, at, result, chosen)


def _better_recipe(chosen: list[Run]) -> None:
    """Say how good the best recipe is on the same cells: the networks are compared with one recipe that all have."""
    if run := best_recipe(chosen):
        metrics = run.metrics
        low, high = metrics["accuracy_interval"] or wilson(metrics["correct"], metrics["n"])
        st.markdown(
            f"All were trained alike. With a better recipe, chosen on other people, {run.config.spec.title} reaches "
            f"{metrics['accuracy']:.1%} on these cells (95% interval: {low:.1%} to {high:.1%})."
        )
