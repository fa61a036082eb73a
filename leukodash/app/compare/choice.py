"""Which runs are compared: by a question, by a link, or by ticking them in a table of all runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from leukodash.app.common import plain
from leukodash.app.compare.run_picker import MAX_RUNS, open_picker
from leukodash.data.dataset import printable
from leukodash.runs.run_folder import Run, damaged_runs
from leukodash.studies.questions import Question

ASKED, START = "compared", "compared-first"  # what is compared; what the page's address without a choice stands for
BY_HAND = "Chosen runs"
NAMES = ("runs", "question")  # in the address


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
            open_picker(runs, [run.id for run in chosen[:MAX_RUNS]], ask)
    known = [run.id for run in (*runs, *damaged_runs())]
    if problem := link_problem(ids, known, now.get("question"), asked):
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
