"""The table of all runs in which those to compare are ticked; it can be searched and sorted."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from leukodash.runs.leaderboard import leaderboard, test_groups
from leukodash.runs.run_folder import Run

MAX_RUNS = 12  # more lines in one chart are unreadable
COLUMNS = ("title", "network", "recipe", "how_split", "repeat", "accuracy", "interval", "n", "subjects", "owner")
COLUMN_CONFIG: dict[str, Any] = {
    "network": "Network", "recipe": st.column_config.TextColumn("Recipe", width=320), "how_split": "Split",
    "repeat": "Repeat", "accuracy": st.column_config.NumberColumn("Accuracy", format="%.1f%%"),
    "interval": "95% interval", "n": st.column_config.NumberColumn("Test cells", format="localized"),
    "subjects": "Subjects", "owner": "Owner", "title": "Name",
}  # fmt: skip


def open_picker(runs: Sequence[Run], before: Sequence[str], compare: Callable[..., None]) -> None:
    """Open the table with these runs ticked; `compare` gets the ids of the ticked ones, as ``runs``."""
    st.session_state["ticked"], st.session_state["unticked"] = list(before), 0
    _picker(runs, before, compare)


@st.dialog("Choose runs", width="large")
def _picker(runs: Sequence[Run], before: Sequence[str], compare: Callable[..., None]) -> None:
    """Let the user tick runs in a table that can be searched and sorted; the last click compares them."""
    board = board_of(runs)
    board = pd.concat([board[board["run"].isin(before)], board[~board["run"].isin(before)]])
    words = st.text_input(
        "Search", key="search", placeholder="mobilenet fold 1", max_chars=200, icon=":material/search:"
    )
    found = search(board, words).reset_index(drop=True)
    ticked = st.session_state["ticked"]
    picked = st.dataframe(
        found, height=380, hide_index=True, row_height=32, column_config=COLUMN_CONFIG,
        column_order=[name for name in COLUMNS if (board[name] != "").any()],
        on_select="rerun", key=f"table-{words}-{st.session_state['unticked']}", placeholder="",
        selection_default={"selection": {"rows": found.index[found["run"].isin(ticked)].tolist()}},
        alt="Finished runs. Tick those to compare; a click on a column's head sorts.",
    )  # fmt: skip
    ticked = st.session_state["ticked"] = ticked_now(ticked, list(found["run"]), picked.selection.rows)
    chosen = [run for run in runs if run.id in ticked]
    if note := cells_words(chosen):
        st.info(note, icon=":material/call_split:")
    if len(chosen) > MAX_RUNS:
        st.info(f"{len(chosen)} runs are ticked. At most {MAX_RUNS} fit in a chart: untick some.")
    with st.container(horizontal=True):
        words = f"Compare {len(chosen)} run{'s' if len(chosen) != 1 else ''}"
        if st.button(words, type="primary", key="compare", disabled=not 0 < len(chosen) <= MAX_RUNS):
            compare(runs=",".join(run.id for run in chosen))
            st.rerun()
        st.button("Untick all", key="untick", on_click=_untick)


def _untick() -> None:
    st.session_state["ticked"] = []
    st.session_state["unticked"] += 1  # a new table, since the ticks of a shown one cannot be changed


def ticked_now(before: Sequence[str], shown: Sequence[str], rows: Sequence[int]) -> list[str]:
    """Return the ticked runs: of those shown, the selected rows; of the others, those that were ticked before."""
    return [name for name in before if name not in shown] + [shown[row] for row in rows]


def board_of(runs: Sequence[Run]) -> pd.DataFrame:
    """Return a row for each run with run (its id) and `COLUMNS`, in the order of the runs."""
    board = leaderboard(runs).set_index("run").loc[[run.id for run in runs]].reset_index()
    ends = zip(board["accuracy_low"], board["accuracy_high"], board["low"], board["high"], strict=True)
    board["interval"] = [f"{low:.1%}–{high:.1%}" if pd.notna(low) else f"{a:.1%}–{b:.1%}" for low, high, a, b in ends]
    board["title"] = [run.about["title"] for run in runs]
    board["owner"] = ["published" if run.published else run.about["owner"] for run in runs]
    board["repeat"] += [f" {run.started}" for run in runs]
    board["accuracy"] *= 100
    return board[["run", *COLUMNS]]


def search(board: pd.DataFrame, words: str) -> pd.DataFrame:
    """Return the rows that contain all these words, in any column and in any case."""
    text = board.astype(str).agg(" ".join, axis=1).str.lower()
    for word in words.lower().split():
        board = board[text.loc[board.index].str.contains(word, regex=False)]
    return board


def cells_words(runs: Sequence[Run]) -> str:
    """Return a sentence if these runs were tested on different cells, else ""."""
    groups = test_groups(runs)
    if len(groups) < 2:
        return ""
    sizes = " and ".join(f"{len(group.runs)} on {group.runs[0].metrics['n']:,} cells" for group in groups[:3])
    return (
        f"These runs were tested on different cells ({sizes}{' …' if len(groups) > 3 else ''}), so they cannot be "
        "compared cell by cell. Each is shown with its own interval, without a test."
    )
