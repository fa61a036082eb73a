"""What the cells of an upload say if all are of one person: their share that is called blast, beside the threshold.

Does not import Keras. Tables are those of `classify_files.classify_files`.
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from leukodash.data.dataset import printable
from leukodash.evaluation.person_verdicts import PersonVerdicts, clopper_pearson, is_called
from leukodash.inference.decision import AVERAGE, Rule, decision, novel_positions
from leukodash.inference.smear_summary import CELL
from leukodash.runs.run_folder import Run
from leukodash.runs.run_verdicts import run_verdicts

MIN_CELLS = 10  # fewer cells than this say too little of a person
CAUTION = "This is no diagnosis, and LeukoDash is not a medical device."


def verdicts_of(runs: Iterable[Run], rule: Rule = "likeliest") -> dict[str, PersonVerdicts]:
    """Return the verdicts by person of those runs that have any, by run id; `rule` as in `decision.decision`."""
    found = {run.id: run_verdicts(run, decision(run, rule).threshold) for run in runs}
    return {name: own for name, own in found.items() if own}


def person_groups(table: pd.DataFrame, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the answers that may be of one person each: those of each smear, folder or ZIP, if there are several.

    Args:
        table: the answers.
        names: of smears, folders and ZIPs.

    Returns:
        Answers by name; those to other files, or all if there are no names or one, under "".
    """
    files = table["file"].astype(str)
    own = {name: files.str.startswith((f"{name}{CELL}", f"{name}/")) for name in names}
    rest = ~pd.DataFrame(own, index=table.index).any(axis=1)
    if len(own) + rest.any() < 2:
        return {"": table}
    return {name: table[those] for name, those in {**own, "": rest}.items() if those.any()}


def person_words(
    table: pd.DataFrame, verdicts: Mapping[str, PersonVerdicts], titles: Mapping[str, str], name: str = ""
) -> list[str]:
    """Return what these cells say if all are of one person, in sentences; none for fewer than `MIN_CELLS` cells.

    Args:
        table: the answers.
        verdicts: from `verdicts_of`; runs without are left out.
        titles: name of each run, by its id.
        name: of the smear, folder or ZIP.
    """
    fine = table[(table["error"] == "") & (table["run"] != AVERAGE)]
    images, odd = fine["position"].nunique(), novel_positions(fine)
    fine = fine[~fine["position"].isin(odd)]
    which = f"in {printable(name)}" if name else ""
    if images >= MIN_CELLS and 2 * len(odd) >= images:
        words = f"{len(odd):,} of {images:,} images {which}".strip()
        return [f"{words} are unlike the training cells, so nothing is said of a person."]
    told = [run for run in fine["run"].unique() if run in verdicts]
    if fine["position"].nunique() < MIN_CELLS or not told:
        return []
    lines = [
        (f"{titles[run]}: " if len(told) > 1 else "") + _run_words(fine[fine["run"] == run], verdicts[run])
        for run in told
    ]
    return [f"If all these cells {which}".strip() + " are of one person:", *lines]


def _run_words(answers: pd.DataFrame, verdicts: PersonVerdicts) -> str:
    called, cells = int((answers["class"] == verdicts.positive).sum()), len(answers)
    low, high = clopper_pearson(called, cells)
    above = "reached" if is_called(called, cells, verdicts.threshold) else "not reached"
    chosen = f"chosen on {sum(verdicts.held_out)} held-out people" if verdicts.chosen else "too few people to choose it"
    needed, people = verdicts.cells_needed, f"the {len(verdicts.people)} people of the test part"
    if needed is None:
        enough = "How many cells make a verdict stable is unknown"
    elif cells < needed:
        enough = f"These are too few cells for a stable verdict: {people} needed {needed}"
    else:
        enough = f"That is enough cells for a stable verdict: {people} needed {needed}"
    return (
        f"{called:,} of {cells:,} cells are called {verdicts.title} ({called / cells:.0%}, 95% interval {low:.0%} to "
        f"{high:.0%}; too narrow if the cells were not drawn at random, as those of one slide are alike). The run's "
        f"threshold for a person, {verdicts.threshold:.0%} ({chosen}), is {above}. {enough}."
    )
