"""Several answers to the same test cells side by side: what tables, figures and tests of a comparison start from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from leukodash.errors import DataError
from leukodash.evaluation.metrics import confusions, evaluate, predicted, rates, reliability, threshold_for
from leukodash.evaluation.published import published_table
from leukodash.evaluation.statistics import FEW_SUBJECTS, all_pairs, design_effect, groups, ranks, standings, verdict

Thresholds = Mapping[str, float | None]
ThresholdRule = Literal["likeliest", "fixed", "youden", "sensitivity"]
RATES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1", "f1_weighted", "f1_macro")
AREAS = ("roc_auc", "average_precision", "brier", "calibration_error")  # no threshold changes these


@dataclass(frozen=True, eq=False)
class Answers:
    """What one run, ensemble or baseline says.

    Attributes:
        test: float array of shape (n, K), 0..1: probabilities for the test cells, in the comparison's order.
        backbone: key in `BACKBONES`, or None.
        validation: probabilities for its own validation cells, (m, K); perhaps no rows.
        validation_labels: their true classes, (m,).
        metrics: numbers about the test cells that no threshold changes: `AREAS` and their intervals.
    """

    test: np.ndarray
    backbone: str | None = None
    validation: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    validation_labels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=object))
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Answers to the same test cells, by the name that is shown.

    Attributes:
        cells: one row a test cell: file, label, subject (str or None).
        classes: class labels in the order of the columns of probabilities.
        positive: the class whose sensitivity is reported.
        answers: by name.
    """

    cells: pd.DataFrame
    classes: tuple[str, ...]
    positive: str
    answers: dict[str, Answers]

    @property
    def n(self) -> int:
        """How many test cells there are."""
        return len(self.cells)

    @property
    def backbones(self) -> dict[str, str | None]:
        """Backbone key by name, as figures take it."""
        return {name: answers.backbone for name, answers in self.answers.items()}

    @cached_property
    def labels(self) -> np.ndarray:
        """The true classes, str array (n,)."""
        return self.cells["label"].to_numpy(dtype=object)

    @property
    def is_positive(self) -> np.ndarray:
        """Which cells are of the positive class, bool array (n,)."""
        return self.labels == self.positive

    @cached_property
    def subjects(self) -> np.ndarray | None:
        """Who each cell is from, (n,), or None where nobody knows."""
        known = self.cells["subject"].notna()
        return self.cells["subject"].astype(object).where(known, None).to_numpy() if known.any() else None

    @property
    def subject_count(self) -> int:
        """How many subjects the test cells are of; 0 where unknown."""
        return 0 if self.subjects is None else int(self.cells["subject"].nunique())

    @cached_property
    def by_group(self) -> tuple[np.ndarray, bool]:
        """What `statistics.groups` says of the test cells."""
        return groups(self.subjects, self.n)

    def scores(self, name: str) -> np.ndarray:
        """The positive class's probabilities, (n,)."""
        return self.answers[name].test[:, self.classes.index(self.positive)]

    def called(self, name: str, threshold: float | None) -> np.ndarray:
        """The class that each test cell is given, str array (n,)."""
        return predicted(self.answers[name].test, self.classes, self.positive, threshold)

    def right(self, thresholds: Thresholds) -> pd.DataFrame:
        """Who is right about which cell: bool (n, R), a column a name."""
        return pd.DataFrame({name: self.called(name, thresholds[name]) == self.labels for name in self.answers})

    def with_answers(self, name: str, answers: Answers) -> "Comparison":
        """Return the comparison with a further row, whose areas are computed where it has none."""
        if not answers.metrics:
            known = evaluate(self.labels, answers.test, self.classes, self.positive, subjects=self.subjects)
            answers = replace(answers, metrics=known)
        return replace(self, answers={**self.answers, name: answers})


def thresholds(comparison: Comparison, rule: ThresholdRule, value: float = 0.5) -> tuple[dict[str, float | None], str]:
    """The threshold of each answer, and a sentence on those that the rule cannot be followed for (or "").

    Args:
        comparison: the answers.
        rule: "likeliest" takes the likeliest class, "fixed" one threshold for all. The others choose one for each
            on its own validation cells, never on the test cells: see `metrics.threshold_for`.
        value: the threshold for "fixed", the sensitivity for "sensitivity".
    """
    if rule == "likeliest" or len(comparison.classes) != 2:
        return dict.fromkeys(comparison.answers), ""
    if rule == "fixed":
        return dict.fromkeys(comparison.answers, value), ""
    chosen: dict[str, float | None] = {}
    positive = comparison.classes.index(comparison.positive)
    for name, answers in comparison.answers.items():
        try:
            is_positive = answers.validation_labels == comparison.positive
            scores = answers.validation[:, positive] if len(is_positive) else np.zeros(0)
            chosen[name] = threshold_for(is_positive, scores, rule, value)
        except DataError:
            chosen[name] = None
    without = [name for name, threshold in chosen.items() if threshold is None]
    sentence = f"{', '.join(without)}: no validation cells of both classes, so the likeliest class is taken."
    return chosen, sentence if without else ""


def average(comparison: Comparison, names: Sequence[str]) -> Answers:
    """An ensemble: the mean of the probabilities of these answers.

    Its threshold can be chosen on validation where all of them share the same validation cells.
    """
    members = [comparison.answers[name] for name in names]
    test = np.mean([member.test for member in members], axis=0)
    labels = members[0].validation_labels
    if not all(np.array_equal(member.validation_labels, labels) for member in members):
        return Answers(test)
    return Answers(test, validation=np.mean([m.validation for m in members], axis=0), validation_labels=labels)


def results(comparison: Comparison, at: Thresholds, tests: pd.DataFrame | None = None) -> pd.DataFrame:
    """A row an answer, most accurate first; `tests` is what `pairs` gives, where it is known already.

    Columns: name, backbone, threshold, n, correct, rank (shared where no test separates), confusion (K×K list, rows =
    truth), and for each of `RATES` and `AREAS` its value and its 95 % interval, ``<name>_low`` and ``<name>_high``
    (NaN where there is none); for accuracy also Wilson's, ``wilson_low`` and ``wilson_high``.
    """
    group, by_subject = comparison.by_group
    rows: list[dict[str, Any]] = []
    for name, answers in comparison.answers.items():
        called = comparison.called(name, at[name])
        counted = confusions(comparison.labels, called, comparison.classes, group)
        found = rates(counted, comparison.classes, comparison.positive, by_subject)
        found |= {key: answers.metrics.get(key) for area in AREAS for key in (area, f"{area}_interval")}
        row = {"name": name, "backbone": answers.backbone, "threshold": at[name], "n": found["n"]}
        row |= {"correct": found["correct"], "confusion": found["confusion"]}
        row["wilson_low"], row["wilson_high"] = found["accuracy_wilson"]
        for key in (*RATES, *AREAS):
            row[key] = found[key]
            row[f"{key}_low"], row[f"{key}_high"] = found.get(f"{key}_interval") or (np.nan, np.nan)
        rows.append(row)
    table = pd.DataFrame(rows).astype(dict.fromkeys(("threshold", *AREAS), float))
    if len(table) > 1:
        tests = pairs(comparison, at) if tests is None else tests
        table.insert(0, "rank", ranks(table.set_index("name")["accuracy"], tests).to_numpy())
    else:
        table.insert(0, "rank", 1)
    return table.sort_values(["accuracy", "name"], ascending=[False, True], ignore_index=True)


def pairs(comparison: Comparison, at: Thresholds) -> pd.DataFrame:
    """`statistics.all_pairs` of the answers. Raises DataError for fewer than two."""
    return all_pairs(comparison.right(at), comparison.subjects)


@dataclass(frozen=True, eq=False)
class Summary:
    """What a comparison comes to at some thresholds: all that the head of a page shows, computed once.

    Attributes:
        table: what `results` gives.
        tests: what `pairs` gives; None for a single answer.
        verdict: the comparison in a sentence.
        interval: why the intervals are what they are, in a sentence.
    """

    table: pd.DataFrame
    tests: pd.DataFrame | None
    verdict: str
    interval: str


def summary(comparison: Comparison, at: Thresholds) -> Summary:
    """Compute everything that the head of a page shows."""
    tests = pairs(comparison, at) if len(comparison.answers) > 1 else None
    table = results(comparison, at, tests)
    return Summary(table, tests, _verdict(comparison, table, tests), _interval_words(comparison, at))


def _verdict(comparison: Comparison, table: pd.DataFrame, tests: pd.DataFrame | None) -> str:
    if tests is None:
        row = table.iloc[0]
        known = pd.notna(row["accuracy_low"])
        between = f" (95 %: {_percent(row['accuracy_low'])} to {_percent(row['accuracy_high'])})" if known else ""
        return (
            f"{row['name']} is right about {row['correct']:,} of {row['n']:,} test cells: "
            f"{_percent(row['accuracy'])}{between}."
        )
    if len(table) == 2:
        return verdict(tests.iloc[0])
    return standings(table.set_index("name")["rank"], comparison.n, comparison.subject_count or None)


def _interval_words(comparison: Comparison, at: Thresholds) -> str:
    """Why the leading interval is what it is, in a sentence, with how many independent cells these are worth."""
    _, by_subject = comparison.by_group
    if not by_subject:
        who = "All test cells are of one subject" if comparison.subject_count == 1 else "Nobody knows the subjects"
        return f"{who}, so the intervals are Wilson's: they take every cell for independent, and are too narrow."
    right = comparison.right(at)
    effects = [effect for name in right if (effect := design_effect(right[name].to_numpy(), comparison.subjects))]
    worth = ""
    if effects and np.median(effects) > 1:
        worth = f": these {comparison.n:,} are worth about {comparison.n / np.median(effects):,.0f} independent ones"
    return (
        f"Intervals leave out one subject at a time, since the cells of one subject resemble each other{worth}. "
        "Wilson's, in the table, takes every cell for independent."
    )


def few_subjects_words(comparison: Comparison) -> str:
    """A warning where few subjects carry the test, else ""."""
    count = comparison.subject_count
    if not 0 < count < FEW_SUBJECTS:
        return ""
    return (
        f"Only {count} subject{'s' if count > 1 else ''} in the test: intervals lean on each of them, and the next "
        f"subject may differ from all of these. Test on {FEW_SUBJECTS} or more."
    )


def reliability_tables(comparison: Comparison) -> dict[str, pd.DataFrame]:
    """By name the table of `metrics.reliability`."""
    tables = {}
    for name, answers in comparison.answers.items():
        likeliest = np.asarray(comparison.classes, dtype=object)[answers.test.argmax(axis=1)]
        tables[name] = reliability(answers.test.max(axis=1), likeliest == comparison.labels)
    return tables


def by_subject(comparison: Comparison, at: Thresholds) -> pd.DataFrame:
    """Accuracy on each subject: a row an answer and subject: name, subject, label (commonest), n, accuracy."""
    frame = pd.concat([comparison.cells[["label", "subject"]], comparison.right(at)], axis=1)
    frame = frame[frame["subject"].notna()]
    by = frame.groupby("subject")
    common = by["label"].agg(lambda labels: labels.mode().iloc[0])
    parts = [
        pd.DataFrame({"name": name, "label": common, "n": by.size(), "accuracy": by[name].mean()}).reset_index()
        for name in comparison.answers
    ]
    return pd.concat(parts, ignore_index=True)


def forest_rows(table: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows of `figures.comparison.forest_figure`: answers, and below them what papers printed about these networks.

    Args:
        table: what `results` gives; None gives all that the two papers printed.
    """
    printed = published_table()
    printed = printed[(printed["metric"] == "accuracy") & printed["year"].isin([2020, 2023])]
    printed = printed[~printed["network"].str.contains("best epoch")]
    columns = ["name", "backbone", "accuracy", "low", "high", "n", "published"]
    printed = printed.assign(
        name=printed["network"] + ", " + printed["paper"] + " " + printed["year"].astype(str),
        accuracy=printed["value"],
        published=True,
    )[columns]
    if table is None:
        return printed
    own = table.assign(
        low=table["accuracy_low"].fillna(table["wilson_low"]),
        high=table["accuracy_high"].fillna(table["wilson_high"]),
        published=False,
    )[columns]
    return pd.concat([own, printed[printed["backbone"].isin(own["backbone"])]], ignore_index=True)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
