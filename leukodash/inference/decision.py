"""From probabilities to a class: a run's temperature, its threshold, and what several runs say together.

Light: no Keras. Both numbers are chosen on a run's own validation cells, from its predictions.csv.
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

AVERAGE = "average"  # stands for a run id where all runs speak together
RULES = {"likeliest": "Likeliest class", "validation": "Best on validation"}

Rule = Literal["likeliest", "validation"]


@dataclass(frozen=True, eq=False)
class Decision:
    """How a run, or several together, put a cell into a class.

    Attributes:
        classes: labels, in the order of the columns of probabilities.
        positive: the class that the threshold is about.
        temperature: for calibrated probabilities; of an average, which is of calibrated ones already, 1.
        threshold: the positive class is taken from this probability on; None takes the likeliest class.
        note: why there is no threshold though one was asked for, else "".
        validation: float (m, K), the probabilities that a threshold is chosen on, for the validation cells.
        cells: the validation cells that these rows are of: columns file, label.
    """

    classes: tuple[str, ...]
    positive: str
    temperature: Temperature
    threshold: float | None
    note: str
    validation: np.ndarray
    cells: pd.DataFrame

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the class of each row of (not yet calibrated) probabilities, str (n,)."""
        return predicted(probabilities, self.classes, self.positive, self.threshold)

    @property
    def shown_threshold(self) -> float | None:
        """The threshold for calibrated probabilities: which cells lie above it is the same."""
        if self.threshold is None:
            return None
        return float(self.temperature.scale(np.array([self.threshold, 1 - self.threshold]))[0])


def decision(run: Run, rule: Rule = "likeliest") -> Decision:
    """Choose a run's temperature, and by the rule "validation" its threshold, the one with the highest Youden index.

    A run whose predictions are gone, or without validation cells of both classes, takes the likeliest class.
    """
    classes, positive = tuple(run.model["classes"]), run.model["positive"]
    table = run.predictions
    columns = [f"p_{label}" for label in classes]
    if not set(columns) <= set(table.columns):
        table = pd.DataFrame(columns=["file", "label", "part", *columns])
    known = table[(table["part"] == "validation") & table["label"].isin(classes)].sort_values("file")
    validation = known[columns].to_numpy(dtype=np.float64)
    codes = np.array([classes.index(label) for label in known["label"]], dtype=int)
    threshold, note = _threshold(validation, codes, classes, positive, rule)
    temperature = fit_temperature(validation, codes)
    return Decision(classes, positive, temperature, threshold, note, validation, known[["file", "label"]])


def together(decisions: Sequence[Decision], rule: Rule = "likeliest") -> Decision | None:
    """Return how the mean of these runs' calibrated probabilities decides; None where their classes differ.

    Its own threshold can be chosen where all runs have the same validation cells.
    """
    first = decisions[0]
    if any(other.classes != first.classes for other in decisions):
        return None
    same = all(other.cells.reset_index(drop=True).equals(first.cells.reset_index(drop=True)) for other in decisions)
    if not same:
        note = "the runs have different validation cells" if rule == "validation" else ""
        return Decision(first.classes, first.positive, Temperature(), None, note, np.zeros((0, 2)), first.cells[:0])
    validation = np.mean([one.temperature.scale(one.validation) for one in decisions], axis=0)
    codes = np.array([first.classes.index(label) for label in first.cells["label"]], dtype=int)
    threshold, note = _threshold(validation, codes, first.classes, first.positive, rule)
    return Decision(first.classes, first.positive, Temperature(), threshold, note, validation, first.cells)


def decided(table: pd.DataFrame, decisions: Mapping[str, Decision], rule: Rule = "likeliest") -> pd.DataFrame:
    """Put every answer into a class, and add what the runs say together where there are several.

    Args:
        table: a row a file and run: position, file, run, ``p_<class>``, novelty, novel, error; as `classify_files`
            makes it.
        decisions: by run id.
        rule: as for `decision`; the average chooses by the same one.

    Returns:
        The table with the columns ``class`` and ``calibrated_<class>``, and behind the rows of each file one with
        the run `AVERAGE`, whose calibrated probabilities are the mean of the others'. It is novel where at least half
        of the runs that can say so find it novel.
    """
    labels = list(dict.fromkeys(label for one in decisions.values() for label in one.classes))
    shares = [f"calibrated_{label}" for label in labels]
    table = table.assign(**{"class": "", **dict.fromkeys(shares, np.nan)})
    for run, one in decisions.items():
        mine = table["run"] == run
        p = table.loc[mine, [f"p_{label}" for label in one.classes]].to_numpy(dtype=np.float64)
        if len(p):
            table.loc[mine, "class"] = one.labels(p)
            table.loc[mine, [f"calibrated_{label}" for label in one.classes]] = one.temperature.scale(p)
    all_ = together(list(decisions.values()), rule) if len(decisions) > 1 else None
    fine = table[table["error"] == ""]
    if all_ is not None and len(fine):
        groups = fine.groupby("position", sort=False)
        mean = groups[shares].mean()
        rows = groups[["file"]].first().assign(run=AVERAGE, error="", novelty=np.nan, **mean)
        rows = rows.assign(novel=rows.index.isin(novel(fine)), **{"class": all_.labels(mean.to_numpy())})
        table = pd.concat([table, rows.reset_index()], ignore_index=True)
        table = table.sort_values("position", kind="stable", ignore_index=True)
    odds = [f"p_{label}" for label in labels]
    return table[["position", "file", "run", "class", *odds, *shares, "novelty", "novel", "error"]]


def novel(table: pd.DataFrame) -> set[int]:
    """Return the positions of the images that at least half of the runs, of those that can say, find novel."""
    said = table[(table["run"] != AVERAGE) & table["novelty"].notna()]
    share = said.groupby("position")["novel"].mean()
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
        return None, "no validation cells of both classes, so the likeliest class is taken"
