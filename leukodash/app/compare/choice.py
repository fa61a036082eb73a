"""Which runs are compared: by a question, by a link, or by ticking them in a table of all runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from leukodash.app.common import plain
from leukodash.data.dataset import printable
from leukodash.runs.leaderboard import leaderboard, test_groups
from leukodash.runs.run_folder import Run
from leukodash.studies.questions import Question

MAX_RUNS = 12  # more lines in one chart are unreadable
ASKED, START = "compared", "compared-first"  # what is compared; what the page's address without a choice stands for
BY_HAND = "Chosen runs"
NAMES = ("runs", "question")  # in the address
COLUMNS = ("title", "network", "recipe", "how_split", "repeat", "accuracy", "interval", "n", "subjects", "owner")
COLUMN_CONFIG: dict[str, Any] = {
    "network": "Network", "recipe": st.column_config.TextColumn("Recipe", width=320), "how_split": "Split",
    "repeat": "Repeat", "accuracy": st.column_config.NumberColumn("Accuracy", format="%.1f%%"),
    "interval": "95% interval", "n": st.column_config.NumberColumn("Test cells", format="localized"),
    "subjects": "Subjects", "owner": "Owner", "title": "Name",
}  # fmt: skip


def choose(runs: Sequence[Run], asked: Mapping[str, Question]) -> tuple[str, list[Run]]:
    """Let the user choose a question or runs; returns the key of the question ("" for chosen runs) and the runs.

    A choice is written to the address, so that it can be shared. Without one in the address, it is the last one of the
    session, or else the first question; the address then stays as it is, so that Back leaves the page.
    """
    if "question" not in st.session_state:  # a visit begins
        st.session_state[START] = st.session_state.get(ASKED, {})
    link = {name: st.query_params[name] for name in NAMES if st.query_params.get(name)}
    now = st.session_state[ASKED] = link or st.session_state[START]
    ids = [name for name in now.get("runs", "").split(",") if name]
    chosen = [run for run in runs if run.id in ids][:MAX_RUNS]
    key = "" if chosen else now.get("question", "")
    if not chosen and key not in asked:
        key = next(iter(asked), "")
    chosen = chosen or list(asked[key].runs)
    with st.container(horizontal=True, vertical_alignment="center"):
        titles = {name: question.title for name, question in asked.items()} | ({} if key else {"": BY_HAND})
        st.session_state["question"] = key
        st.pills(
            "Question", list(titles), required=True, format_func=titles.__getitem__, key="question", on_change=_ask,
            label_visibility="collapsed", wrap=True,
        )  # fmt: skip
        if st.button("Choose runs", icon=":material/checklist:", key="choose"):
            _open_picker(runs, [run.id for run in chosen[:MAX_RUNS]])
    if problem := link_problem(ids, [run.id for run in runs], now.get("question"), asked):
        st.warning(plain(problem), icon=":material/link_off:")
    return key, chosen


def link_problem(ids: Sequence[str], known: Sequence[str], question: str | None, asked: Mapping[str, Any]) -> str:
    """Return a sentence on runs, or a question, of a link that are not here; "" if all are."""
    missing = [printable(name) for name in ids if name not in known]
    if missing:
        shown = "The others are shown." if len(missing) < len(ids) else "A question is shown in their place."
        named = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        return f"{len(missing)} of the {len(ids)} runs of this link are not here, perhaps deleted: {named}. {shown}"
    if len(ids) > MAX_RUNS:
        return f"This link names {len(ids)} runs. At most {MAX_RUNS} fit in a chart: the newest are shown."
    if question and question not in asked and not ids:
        return f"There is no question '{printable(question)}', or no run that answers it. Choose one of these."
    return ""


def ask(**choice: str) -> None:
    """Write a choice, of a question or of runs, to the address: one step back in the browser's history undoes it."""
    others = {name: value for name, value in st.query_params.to_dict().items() if name not in NAMES}
    st.query_params.from_dict({**others, **choice})


def _ask() -> None:
    if st.session_state["question"]:
        ask(question=st.session_state["question"])


def _open_picker(runs: Sequence[Run], before: Sequence[str]) -> None:
    st.session_state["ticked"], st.session_state["unticked"] = list(before), 0
    _picker(runs, before)


@st.dialog("Choose runs", width="large")
def _picker(runs: Sequence[Run], before: Sequence[str]) -> None:
    """Let the user tick runs in a table that can be searched and sorted; the last click compares them."""
    board = board_of(runs)
    board = pd.concat([board[board["run"].isin(before)], board[~board["run"].isin(before)]])
    words = st.text_input("Search", key="search", placeholder="mobilenet fold 1", icon=":material/search:")
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
            ask(runs=",".join(run.id for run in chosen))
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
