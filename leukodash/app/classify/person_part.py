"""What the visitor's own cells say if all are of one person, on the classify page."""

from pathlib import Path

import pandas as pd
import streamlit as st

from leukodash.app.common import plain
from leukodash.evaluation.person_verdicts import PersonVerdicts
from leukodash.inference.decision import Rule
from leukodash.inference.person_summary import CAUTION, MIN_CELLS, person_groups, person_words, verdicts_of
from leukodash.runs.run_folder import Run, file_stamp

FEW = 3  # folders whose cells are told of without a click


@st.cache_resource(max_entries=16, show_spinner=False)
def _verdicts(paths: tuple[str, ...], stamps: tuple, rule: Rule) -> dict[str, PersonVerdicts]:
    return verdicts_of([Run(Path(path)) for path in paths], rule)


def person_part(table: pd.DataFrame, runs: list[Run], smears: list[str], names: dict[str, str], rule: Rule) -> None:
    """Show the share of cells that is called blast, and the threshold for a person, if there are enough own cells.

    Args:
        table: the answers to the visitor's own cells.
        runs: the runs that gave them.
        smears: names of the smears that some of the cells are from.
        names: name of each run, by its id.
        rule: see `decision.decision`.
    """
    if table["position"].nunique() < MIN_CELLS:
        return
    stamps = tuple(file_stamp(run.path / "predictions.csv") for run in runs)
    verdicts = _verdicts(tuple(str(run.path) for run in runs), stamps, rule)
    folders = {file.partition("/")[0] for file in table["file"] if "/" in file}
    groups = person_groups(table, [*smears, *sorted(folders)])
    said = [words for name, answers in groups.items() if (words := person_words(answers, verdicts, names, name))]
    with st.expander(f"If each folder is of one person ({len(said)})") if len(said) > FEW else st.container():
        for words in said:
            st.markdown(plain(" ".join(words)))
    if said:
        st.caption(CAUTION)
