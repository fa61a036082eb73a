"""From probabilities to a class: a run's temperature, its threshold, and the average of several runs.

Does not import Keras. Temperature and threshold are chosen on the run's own validation cells, from its predictions.csv.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from leukodash.errors import DataError
from leukodash.evaluation.calibration import Temperature, fit_temperature
from leukodash.evaluation.metrics import predicted, threshold_for
from leukodash.runs.run_folder import Run

AVERAGE = "average"  # in place of a run id: the average of all runs
Rule = Literal["likeliest", "validation"]
RULES: dict[Rule, str] = {"likeliest": "Likeliest class", "validation": "Best on validation"}


@dataclass(frozen=True, eq=False)
class Decision:
    """How a run, or the average of several, assigns a class to a cell.

    Attributes:
        classes: labels, in the order of the columns of probabilities.
        positive: the class that the threshold is for.
        temperature: for calibrated probabilities; 1 where it would not help new subjects, and for an average, whose
            inputs are calibrated already.
        threshold: the positive class is predicted from this probability; None predicts the likeliest class.
        note: why there is no threshold although one was requested, else "".
        validation: float (m, K), probabilities of the validation cells, on which the threshold is chosen.
        cells: the validation cells of these rows: columns file, label.
    """

    classes: tuple[str, ...]
    positive: str
    temperature: Temperature
    threshold: float | None
    note: str
    validation: np.ndarray
    cells: pd.DataFrame

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the class of each row of uncalibrated probabilities, str (n,)."""
        return predicted(probabilities, self.classes, self.positive, self.threshold)

    @property
    def shown_threshold(self) -> float | None:
        """The equivalent threshold for calibrated probabilities."""
        if self.threshold is None:
            return None
        return float(self.temperature.scale(np.array([self.threshold, 1 - self.threshold]))[0])


def decision(run: Run, rule: Rule = "likeliest") -> Decision:
    """Return a run's temperature and, by the rule "validation", the threshold with the highest Youden index.

    A run without predictions, or without validation cells of both classes, predicts the likeliest class.
    """
    classes, positive = tuple(run.model["classes"]), run.model["positive"]
    table = run.predictions
    columns = [f"p_{label}" for label in classes]
    if not set(columns) <= set(table.columns):
        table = pd.DataFrame(columns=["file", "label", "subject", "part", *columns])
    known = table[(table["part"] == "validation") & table["label"].isin(classes)].sort_values("file")
    validation = known[columns].to_numpy(dtype=np.float64)
    codes = np.array([classes.index(label) for label in known["label"]], dtype=int)
    threshold, note = _threshold(validation, codes, classes, positive, rule)
    subjects = known["subject"].astype(object).where(known["subject"].notna(), None).to_numpy()
    temperature = fit_temperature(validation, codes, subjects)
    return Decision(classes, positive, temperature, threshold, note, validation, known[["file", "label"]])


def average_decision(decisions: Sequence[Decision], rule: Rule = "likeliest") -> Decision | None:
    """Return the decision for the mean of these runs' calibrated probabilities; None if their classes differ.

    It has a threshold only if all runs have the same validation cells.
    """
    first = decisions[0]
    if any(other.classes != first.classes for other in decisions):
        return None
    same = all(other.cells.reset_index(drop=True).equals(first.cells.reset_index(drop=True)) for other in decisions)
    if not same:
        note = "the runs have different validation cells" if rule == "validation" else ""
        return Decision(first.classes, first.positive, Temperature(), None, note, np.zeros((0, 2)), first.cells[:0])
    validation = np.mean([own.temperature.scale(own.validation) for own in decisions], axis=0)
    codes = np.array([first.classes.index(label) for label in first.cells["label"]], dtype=int)
    threshold, note = _threshold(validation, codes, first.classes, first.positive, rule)
    return Decision(first.classes, first.positive, Temperature(), threshold, note, validation, first.cells)


def apply_decisions(table: pd.DataFrame, decisions: Mapping[str, Decision], rule: Rule = "likeliest") -> pd.DataFrame:
    """Assign a class to every answer, and add the average of the runs if there are several.

    Args:
        table: one row per file and run: position, file, run, ``p_<class>``, novelty, novel, error; as in
            `classify_files`.
        decisions: by run id.
        rule: as for `decision`; also used for the average.

    Returns:
        The table with the columns ``class`` and ``calibrated_<class>``, and after the rows of each file one with the
        run `AVERAGE`, whose calibrated probabilities are the mean of the others'. It is novel if at least half of the
        runs that have a novelty score find it novel.
    """
    labels = list(dict.fromkeys(label for own in decisions.values() for label in own.classes))
    shares = [f"calibrated_{label}" for label in labels]
    table = table.assign(**dict.fromkeys(shares, np.nan))
    table["class"] = ""
    for run, own in decisions.items():
        mine = table["run"] == run
        p = table.loc[mine, [f"p_{label}" for label in own.classes]].to_numpy(dtype=np.float64)
        if len(p):
            table.loc[mine, "class"] = own.labels(p)
            table.loc[mine, [f"calibrated_{label}" for label in own.classes]] = own.temperature.scale(p)
    average = average_decision(list(decisions.values()), rule) if len(decisions) > 1 else None
    fine = table[table["error"] == ""]
    if average is not None and len(fine):
        groups = fine.groupby("position", sort=False)
        mean = groups[shares].mean()
        rows = groups[["file"]].first().assign(run=AVERAGE, error="", novelty=np.nan, **mean)
        rows = rows.assign(novel=rows.index.isin(novel_positions(fine)), **{"class": average.labels(mean.to_numpy())})
        table = pd.concat([table, rows.reset_index()], ignore_index=True)
        table = table.sort_values("position", kind="stable", ignore_index=True)
    odds = [f"p_{label}" for label in labels]
    ends = [name for name in ("score", "score_shown", "error") if name in table]
    return table[["position", "file", "run", "class", *odds, *shares, "novelty", "novel", *ends]]


def novel_positions(table: pd.DataFrame) -> set[int]:
    """Return the positions of the images that at least half of the runs with a novelty score find novel."""
    scored = table[(table["run"] != AVERAGE) & table["novelty"].notna()]
    share = scored.groupby("position")["novel"].mean()
    return {int(position) for position in share.index[share >= 0.5]}


def _threshold(
    p: np.ndarray, codes: np.ndarray, classes: Sequence[str], positive: str, rule: Rule
) -> tuple[float | None, str]:
    if rule == "likeliest" or len(classes) != 2:
        return None, ""
    place = list(classes).index(positive)
    try:
        return threshold_for(codes == place, p[:, place]), ""
    except DataError:
        return None, "no validation cells of both classes, so the likeliest class is used"
