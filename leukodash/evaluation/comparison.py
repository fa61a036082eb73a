"""A comparison of predictions for the same test cells: the data behind its tables, figures and tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from leukodash.errors import DataError
from leukodash.evaluation.differences import MEASURES, Measured, all_pairs, ranks
from leukodash.evaluation.metrics import (
    confusions,
    evaluate,
    leave_one_out,
    predicted,
    rates,
    reliability,
    threshold_for,
)
from leukodash.evaluation.published import published_table
from leukodash.evaluation.statistics import FEW_SUBJECTS, design_effect, groups, mean_over_subjects
from leukodash.evaluation.verdicts import quoted, standings, verdict

Thresholds = Mapping[str, float | None]
ThresholdRule = Literal["likeliest", "fixed", "youden", "sensitivity"]
RATES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1", "f1_weighted", "f1_macro")
AREAS = ("roc_auc", "average_precision", "brier", "calibration_error")  # do not depend on a threshold
PEOPLE = ("subject_accuracy", "subject_balanced_accuracy")  # means over subjects


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of one run, ensemble or baseline.

    Attributes:
        test: float array of shape (n, K), 0..1: probabilities for the test cells, in the comparison's order.
        backbone: key in `BACKBONES`, or None.
        validation: float array of shape (m, K), 0..1: probabilities for its own validation cells; may be empty.
        validation_labels: true classes of the validation cells, (m,).
        validation_people: subject of each validation cell, None if training had cells of the subject, (m,); may be
            empty.
        metrics: the metrics that do not depend on a threshold: `AREAS` and their intervals.
        validation_subjects: the subject of each validation cell, (m,), None where unknown; None if all are.
    """

    test: np.ndarray
    backbone: str | None = None
    validation: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    validation_labels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=object))
    validation_people: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=object))
    metrics: Mapping[str, Any] = field(default_factory=dict)
    validation_subjects: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Predictions for the same test cells.

    Attributes:
        cells: one row per test cell: file, label, subject (str or None).
        classes: class labels in the order of the probability columns.
        positive: the class whose sensitivity is reported.
        predictions: predictions by displayed name.
    """

    cells: pd.DataFrame
    classes: tuple[str, ...]
    positive: str
    predictions: dict[str, Predictions]

    @property
    def n(self) -> int:
        """Number of test cells."""
        return len(self.cells)

    @property
    def backbones(self) -> dict[str, str | None]:
        """Backbone key by name, as figures expect it."""
        return {name: predictions.backbone for name, predictions in self.predictions.items()}

    @cached_property
    def size_bytes(self) -> int:
        """The memory that it takes."""
        arrays = sum(each.test.nbytes + each.validation.nbytes for each in self.predictions.values())
        return arrays + int(self.cells.memory_usage(deep=True).sum())

    @cached_property
    def labels(self) -> np.ndarray:
        """The true classes, str array (n,)."""
        return self.cells["label"].to_numpy(dtype=object)

    @property
    def is_positive(self) -> np.ndarray:
        """Whether each cell is of the positive class, bool array (n,)."""
        return self.labels == self.positive

    @cached_property
    def subjects(self) -> np.ndarray | None:
        """The subject of each cell, (n,), or None if no subject is known."""
        known = self.cells["subject"].notna()
        return self.cells["subject"].astype(object).where(known, None).to_numpy() if known.any() else None

    @property
    def subject_count(self) -> int:
        """Number of test subjects; 0 if unknown."""
        return 0 if self.subjects is None else int(self.cells["subject"].nunique())

    @cached_property
    def by_group(self) -> tuple[np.ndarray, bool]:
        """The test cells' jackknife groups, from `statistics.groups`."""
        return groups(self.subjects, self.n)

    @cached_property
    def measures(self) -> dict[str, str]:
        """The measures that runs can be tested by, with their titles: their classes are in two groups or more."""
        group, _ = self.by_group
        held = {label: len(np.unique(group[self.labels == label])) > 1 for label in self.classes}
        others = len(np.unique(group[~self.is_positive])) > 1
        possible = {"sensitivity": held[self.positive], "specificity": others, "f1_weighted": group.max() > 0}
        possible |= dict.fromkeys(("roc_auc", "balanced_accuracy"), all(held.values()))
        return {name: title for name, title in MEASURES.items() if possible.get(name, True)}

    def scores(self, name: str) -> np.ndarray:
        """The positive class's probabilities, (n,)."""
        return self.predictions[name].test[:, self.classes.index(self.positive)]

    def predicted(self, name: str, threshold: float | None) -> np.ndarray:
        """Return the predicted class of each test cell, str array (n,)."""
        return predicted(self.predictions[name].test, self.classes, self.positive, threshold)

    def correct(self, thresholds: Thresholds) -> pd.DataFrame:
        """Return whether each prediction is correct: bool (n, R), one column per name."""
        return pd.DataFrame({name: self.predicted(name, thresholds[name]) == self.labels for name in self.predictions})

    def with_predictions(self, name: str, predictions: Predictions) -> "Comparison":
        """Return the comparison with further predictions, whose metrics are computed if they have none."""
        if not predictions.metrics:
            metrics = evaluate(self.labels, predictions.test, self.classes, self.positive, subjects=self.subjects)
            predictions = replace(predictions, metrics=metrics)
        return replace(self, predictions={**self.predictions, name: predictions})


def thresholds_by_rule(
    comparison: Comparison, rule: ThresholdRule, value: float = 0.5
) -> tuple[dict[str, float | None], str]:
    """Return the threshold of each run, and a sentence naming the runs that the rule cannot be applied to (or "").

    Args:
        comparison: the predictions.
        rule: "likeliest" predicts the class of highest probability, "fixed" uses one threshold for all. The others
            choose a threshold per run on its own validation cells, never on the test cells: see
            `metrics.threshold_for`.
        value: the threshold for "fixed", the sensitivity for "sensitivity".
    """
    if rule == "likeliest" or len(comparison.classes) != 2:
        return dict.fromkeys(comparison.predictions), ""
    if rule == "fixed":
        return dict.fromkeys(comparison.predictions, value), ""
    chosen: dict[str, float | None] = {}
    positive = comparison.classes.index(comparison.positive)
    for name, predictions in comparison.predictions.items():
        try:
            is_positive = predictions.validation_labels == comparison.positive
            scores = predictions.validation[:, positive] if len(is_positive) else np.zeros(0)
            chosen[name] = threshold_for(is_positive, scores, rule, value)
        except DataError:
            chosen[name] = None
    without = [name for name, threshold in chosen.items() if threshold is None]
    sentence = (
        f"{', '.join(without)}: no validation cells of both classes, so the class of highest probability is used."
    )
    return chosen, sentence if without else ""


def average(comparison: Comparison, names: Sequence[str]) -> Predictions:
    """Return the predictions of an ensemble: the mean of its members' probabilities.

    Its threshold can be chosen on validation cells if all members have the same ones.
    """
    members = [comparison.predictions[name] for name in names]
    test = np.mean([member.test for member in members], axis=0)
    first = members[0]
    if not all(np.array_equal(member.validation_labels, first.validation_labels) for member in members):
        return Predictions(test)
    validation = np.mean([member.validation for member in members], axis=0)
    same = all(np.array_equal(member.validation_people, first.validation_people) for member in members)
    people = first.validation_people if same else first.validation_people[:0]
    return Predictions(
        test, None, validation, first.validation_labels, people, validation_subjects=first.validation_subjects
    )


def results(comparison: Comparison, thresholds: Thresholds, tests: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the results table, one row per name, best first: by the measure of the tests, else by accuracy.

    Args:
        comparison: the predictions.
        thresholds: the threshold of each.
        tests: the table that `pairs` returns; None for a single run.

    Returns:
        Columns: name, backbone, threshold, n, correct, rank (shared if no test separates the runs), confusion (K×K
        list, rows = truth), and for each of `RATES`, `PEOPLE` and `AREAS` its value and its 95% interval,
        ``<name>_low`` and ``<name>_high`` (NaN if there is none); for accuracy also Wilson's, ``wilson_low`` and
        ``wilson_high``.
    """
    group, by_subject = comparison.by_group
    rows: list[dict[str, Any]] = []
    for name, predictions in comparison.predictions.items():
        predicted_classes = comparison.predicted(name, thresholds[name])
        by_group = confusions(comparison.labels, predicted_classes, comparison.classes, group)
        metrics = rates(by_group, comparison.classes, comparison.positive, by_subject)
        metrics |= _over_subjects(comparison, predicted_classes == comparison.labels)
        metrics |= {key: predictions.metrics.get(key) for area in AREAS for key in (area, f"{area}_interval")}
        row = {"name": name, "backbone": predictions.backbone, "threshold": thresholds[name], "n": metrics["n"]}
        row |= {"correct": metrics["correct"], "confusion": metrics["confusion"]}
        row["wilson_low"], row["wilson_high"] = metrics["accuracy_wilson"]
        for key in (*RATES, *PEOPLE, *AREAS):
            row[key] = metrics[key]
            row[f"{key}_low"], row[f"{key}_high"] = metrics.get(f"{key}_interval") or (np.nan, np.nan)
        rows.append(row)
    table = pd.DataFrame(rows).astype(dict.fromkeys(("threshold", *RATES, *PEOPLE, *AREAS), float))
    measure = "accuracy" if tests is None else tests["measure"].iloc[0]
    rank = 1 if tests is None else ranks(table.set_index("name")[measure], tests).to_numpy()
    table.insert(0, "rank", rank)
    return table.sort_values([measure, "name"], ascending=[False, True], ignore_index=True)


def pairs(comparison: Comparison, thresholds: Thresholds, measure: str = "accuracy") -> pd.DataFrame:
    """Return the paired tests of all predictions, as `differences.all_pairs`.

    Args:
        comparison: two predictions or more.
        thresholds: the threshold of each.
        measure: one of `Comparison.measures`.

    Raises:
        DataError: for fewer than two predictions, or another measure.
    """
    correct = comparison.correct(thresholds)
    if measure == "accuracy":
        return all_pairs(correct, comparison.subjects)
    group, _ = comparison.by_group
    counted = {"sensitivity": comparison.is_positive, "specificity": ~comparison.is_positive}.get(measure)
    of = [
        leave_one_out(
            measure, comparison.labels, each.test, comparison.classes, comparison.positive, thresholds[name], group
        )
        for name, each in comparison.predictions.items()
    ]
    whole, *left_out = np.transpose(of)
    measured = Measured(measure, whole, np.array(left_out), np.bincount(group, weights=counted))
    return all_pairs(correct, comparison.subjects, measured)


def _over_subjects(comparison: Comparison, correct: np.ndarray) -> dict[str, Any]:
    """Return the means of `PEOPLE` and their intervals; None if the subjects are unknown."""
    found: dict[str, Any] = dict.fromkeys(PEOPLE)
    if comparison.subjects is not None:
        for name, labels in zip(PEOPLE, (None, comparison.labels), strict=True):
            found[name], found[f"{name}_interval"] = mean_over_subjects(correct, comparison.subjects, labels)
    return found


@dataclass(frozen=True, eq=False)
class Summary:
    """The results of a comparison at some thresholds, computed once for the top of a page.

    Attributes:
        table: from `results`.
        tests: from `pairs`; None for a single run.
        measure: what the runs were tested by, in words.
        verdict: the comparison in a sentence.
        interval: a sentence on how the intervals were computed.
    """

    table: pd.DataFrame
    tests: pd.DataFrame | None
    measure: str
    verdict: str
    interval: str


def summary(comparison: Comparison, thresholds: Thresholds, measure: str = "accuracy") -> Summary:
    """Compute everything that the top of a page shows; runs are tested by one of `Comparison.measures`."""
    tests = pairs(comparison, thresholds, measure) if len(comparison.predictions) > 1 else None
    table = results(comparison, thresholds, tests)
    words = _verdict(comparison, table, tests)
    return Summary(table, tests, MEASURES[measure], words, _interval_sentence(comparison, thresholds))


def _verdict(comparison: Comparison, table: pd.DataFrame, tests: pd.DataFrame | None) -> str:
    if tests is None:
        row = table.iloc[0]
        low, high = row["accuracy_low"], row["accuracy_high"]
        interval = f" (95% interval: {low:.1%} to {high:.1%})" if pd.notna(low) else ""
        return (
            f"{quoted(row['name'])} classifies {row['correct']:,} of {row['n']:,} test cells correctly: "
            f"{row['accuracy']:.1%}{interval}."
        )
    if len(table) == 2:
        return verdict(tests.iloc[0])
    return standings(table.set_index("name")["rank"], tests, comparison.n, comparison.subject_count or None)


def _interval_sentence(comparison: Comparison, thresholds: Thresholds) -> str:
    """Say how the intervals were computed, with the effective sample size."""
    _, by_subject = comparison.by_group
    if not by_subject:
        reason = "All test cells are of one subject" if comparison.subject_count == 1 else "The subjects are unknown"
        return f"{reason}, so the intervals are Wilson's. They assume independent cells and are too narrow."
    correct = comparison.correct(thresholds)
    effects = [effect for name in correct if (effect := design_effect(correct[name].to_numpy(), comparison.subjects))]
    effective = ""
    if effects and np.median(effects) > 1:
        effective = f": these {comparison.n:,} count as about {comparison.n / np.median(effects):,.0f} independent ones"
    return f"The intervals account for subjects, as the cells of one subject resemble each other{effective}."


def few_subjects_warning(comparison: Comparison) -> str:
    """Return a warning if the test part has few subjects, else ""."""
    count = comparison.subject_count
    if not 0 < count < FEW_SUBJECTS:
        return ""
    return (
        f"Only {count} test subject{'s' if count > 1 else ''}: each has a large effect on the intervals, and a new "
        f"subject may differ from all of them. Test on {FEW_SUBJECTS} or more."
    )


def reliability_tables(comparison: Comparison) -> dict[str, pd.DataFrame]:
    """Return by name the table of `metrics.reliability`."""
    return {
        name: reliability(predictions.test.max(axis=1), comparison.predicted(name, None) == comparison.labels)
        for name, predictions in comparison.predictions.items()
    }


def forest_rows(table: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the rows of `accuracy_charts.forest_figure`: the runs, then published results of the same backbones.

    Args:
        table: from `results`, or with the columns that the figure needs; None returns all results of the two papers.
    """
    papers = published_table()
    papers = papers[(papers["metric"] == "accuracy") & papers["year"].isin([2020, 2023])]
    papers = papers[~papers["network"].str.contains("best epoch")]
    columns = ["name", "backbone", "accuracy", "low", "high", "n", "published"]
    papers = papers.assign(
        name=papers["network"] + ", " + papers["paper"] + " " + papers["year"].astype(str),
        accuracy=papers["value"],
        published=True,
    )[columns]
    if table is None:
        return papers
    if "low" not in table:
        ends = {end: table[f"accuracy_{end}"].fillna(table[f"wilson_{end}"]) for end in ("low", "high")}
        table = table.assign(**ends)
    own = table.assign(published=False)[columns]
    return pd.concat([own, papers[papers["backbone"].isin(own["backbone"])]], ignore_index=True)
