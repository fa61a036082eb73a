"""Split a table of cells into training, validation and test parts, and check the parts for leaks.

``cells`` is ``Dataset.cells`` (or a run's ``split.csv``): columns file, label, subject, fold, sha256 and picture. Where
there is no column picture, byte-identical files alone count as images of the same cell.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import pandas as pd
import scipy
from pydantic import BaseModel, ConfigDict, Field, model_validator

from leukodash.errors import DataError

PARTS = ("train", "validation", "test")
PART_TITLES = {"train": "training", "validation": "validation", "test": "test", "unused": "not used"}
Kind = Literal["subject", "fold", "image", "counts"]
MOST_CELLS = 10**9
TOLERANCE = {"validation": 0.08, "test": 0.04}  # by which a part drawn by subject may miss its share of a class
DRAWS = 200  # random draws of subjects, for each tolerance


class Split(BaseModel):
    """Settings of a split. The same settings split the same cells into the same parts.

    Attributes:
        kind: ``subject``: every subject is in one part only. ``fold``: a fold of the data set is the test part.
            ``image``: random over images, stratified by class, as in both papers, so that cells of one subject are in
            several parts. ``counts``: as ``image``, but with balanced classes and given numbers of cells.
        seed: random seed.
        validation: fraction of all cells (for ``fold``: of the cells outside the test fold).
        test: fraction of all cells; 0 for no test part (as in Mamaev 2023). Not used by ``fold``.
        test_fold: for ``fold``: number of the test fold, by default the highest. With ``folds``: the index of the test
            part, by default 0.
        folds: for ``subject``: number of test parts that the subjects are divided into, for cross-validation. Replaces
            ``test``.
        counts: for ``counts``: numbers of training, validation and test cells of all classes together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Kind = "subject"
    seed: int = Field(0, ge=0, lt=2**32)
    validation: float = Field(0.15, gt=0, le=0.5)
    test: float = Field(0.2, ge=0, le=0.5)
    test_fold: int | None = Field(None, ge=0)
    folds: int | None = Field(None, ge=2, le=20)
    counts: tuple[int, int, int] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.kind == "counts") != (self.counts is not None):
            raise ValueError("counts (training, validation, test) belong to the split by counts, which requires them")
        if self.counts and (min(self.counts[:2]) < 1 or self.counts[2] < 0):
            raise ValueError("counts need at least one training and one validation cell, and no negative number")
        if self.counts and max(self.counts) > MOST_CELLS:
            raise ValueError(f"counts are of at most {MOST_CELLS:,} cells")
        if self.folds and self.kind != "subject":
            raise ValueError("folds are allowed only in a split by subject")
        if self.test_fold is not None and not (self.kind == "fold" or self.folds):
            raise ValueError("test_fold is allowed only in a split by fold or with folds")
        if self.folds and (self.test_fold or 0) >= self.folds:
            last = self.folds - 1
            raise ValueError(f"{self.folds} folds are numbered 0 to {last}: there is no fold {self.test_fold}")
        if self.validation > (1 - self.test_share) / 2 + 1e-9:
            raise ValueError("training needs at least as many cells as validation: reduce validation or test")
        return self

    @property
    def test_share(self) -> float:
        """Fraction of the cells in the test part; not for ``fold`` and ``counts``."""
        return 1 / self.folds if self.folds else self.test


@dataclass(frozen=True)
class Leak:
    """A subject, or images of the same cell, in more than one part.

    Attributes:
        kind: ``subject`` or ``image``.
        subject: the subject, "20 = 21" if images of one cell have two subjects, or None if unknown.
        parts: the affected parts, in the order training, validation, test.
        files: the affected files, sorted by part.
    """

    kind: Literal["subject", "image"]
    subject: str | None
    parts: tuple[str, ...]
    files: tuple[str, ...]


def make_split(cells: pd.DataFrame, split: Split) -> pd.Series:
    """Assign every cell to a part: "train", "validation", "test" or "unused".

    Subjects that share a picture, byte-identical or nearly so, are the same patient (20 and 21 of C-NMC share 71
    images, H14 and H24 twenty-one), so a split by subject keeps them together. It draws subjects at random: parts miss
    their fractions of every class by `TOLERANCE` at most, if the subjects' numbers of cells allow. A split by fold
    keeps the whole test fold, and cells outside it whose subject occurs in it become "unused", because C-NMC's own
    folds leak. Splits by image and by counts leak on purpose, to demonstrate the effect.

    Returns:
        Series "part" of str, with the index of ``cells``. Every part, except an empty one, contains every class.

    Raises:
        DataError: if there are too few subjects or cells of a class, no subjects, or no such fold.
    """
    part = {"subject": _by_subject, "fold": _by_fold, "image": _by_image, "counts": _by_counts}[split.kind]
    return pd.Series(part(cells, split), index=cells.index, name="part", dtype="str")


def find_leaks(cells: pd.DataFrame, part: pd.Series) -> list[Leak]:
    """Return the subjects and the images of the same cell that are in more than one part, other than "unused".

    Images of one cell under differently named subjects are listed as images.
    """
    cells = cells.assign(picture=_pictures(cells), part=part)
    used = cells[cells["part"] != "unused"]
    order = [*PARTS, *sorted(set(used["part"]) - set(PARTS))]  # of a data set's own folds: their names
    used = used.assign(part=pd.Categorical(used["part"], order)).sort_values(["part", "file"])
    leaks = []
    kinds: tuple[tuple[Literal["subject", "image"], str], ...] = (("subject", "subject"), ("image", "picture"))
    for kind, column in kinds:
        known = used[used[column].notna()]
        parts = known.groupby(column)["part"].nunique()
        leaking = known[known[column].isin(parts.index[parts > 1])]
        for _, group in leaking.groupby(column, sort=True):
            subjects = sorted(group["subject"].dropna().unique())
            affected = tuple(str(name) for name in group["part"].unique())
            leaks.append(Leak(kind, " = ".join(subjects) or None, affected, tuple(group["file"])))
    return leaks


def held_out_in_turn(cells: pd.DataFrame, rows: np.ndarray, folds: int = 5, seed: int = 0) -> np.ndarray:
    """Divide some cells into folds by subject, so that each subject is held out once: grouped cross-validation.

    Subjects that share a picture stay together, wherever in ``cells`` they do. Where subjects are unknown, images of
    the same cell stay together.

    Args:
        cells: ``Dataset.cells``.
        rows: positions of the cells to divide, int (n,).
        folds: how many folds at most; there are fewer, at least 2, if a class has fewer subjects.
        seed: random seed.

    Returns:
        The fold of each of ``rows``, int (n,), 0 to at most ``folds`` - 1. Each fold has cells of every class.

    Raises:
        DataError: if a class has one subject only.
    """
    labels, groups = cells["label"].to_numpy()[rows], _groups(cells)[rows]
    subjects = pd.DataFrame({"label": labels, "group": groups}).drop_duplicates()["label"].value_counts()
    if subjects.min() < 2:
        raise DataError(
            "To hold out every subject in turn, two or more subjects of every class are needed (those that share "
            f"pictures count as one), but '{subjects.idxmin()}' has one: add subjects."
        )
    return _deal_groups(labels, groups, min(folds, int(subjects.min())), seed)


def describe_split(cells: pd.DataFrame, part: pd.Series, kind: Kind) -> str:
    """Return a short description of a split for a badge, such as "split by subject · 7 test subjects".

    A test subject that is also in the training or validation part counts as "also in training".
    """
    title = {"counts": "balanced split by image"}.get(kind, f"split by {kind}")
    test = cells[part == "test"]
    if test.empty:
        return f"{title} · no test part"
    if test["subject"].isna().any():
        return f"{title} · {len(test):,} test cells, subjects unknown"
    subjects = set(test["subject"])
    seen = subjects & set(cells.loc[part.isin(["train", "validation"]), "subject"])
    noun = "subject" if len(subjects) == 1 else "subjects"
    if seen:
        return f"{title} · {len(seen)} of {len(subjects)} test {noun} also in training"
    return f"{title} · {len(subjects)} test {noun}"


def _groups(cells: pd.DataFrame) -> np.ndarray:
    """Return group numbers, int (N,): cells with a common subject or picture are in one group."""
    subjects, _ = pd.factorize(cells["subject"].where(cells["subject"].notna(), cells["sha256"]))
    images, _ = pd.factorize(_pictures(cells))
    images = images + subjects.max() + 1
    nodes = images.max() + 1
    graph = scipy.sparse.coo_matrix((np.ones(len(cells)), (subjects, images)), shape=(nodes, nodes))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1][subjects]


def _pictures(cells: pd.DataFrame) -> pd.Series:
    """Return what is equal for images of the same cell."""
    return cells["picture"] if "picture" in cells else cells["sha256"]


def _by_subject(cells: pd.DataFrame, split: Split) -> np.ndarray:
    if cells["subject"].isna().any():
        raise DataError(
            "The subjects of these cells are unknown, so they cannot be split by subject: split by image, or add a "
            "subjects.csv (file,subject) to the data folder."
        )
    labels, groups = cells["label"].to_numpy(), _groups(cells)
    part = np.full(len(cells), "train", dtype=object)
    rest = np.arange(len(cells))
    if split.test_share:
        if split.folds:
            test = _deal_groups(labels, groups, split.folds, split.seed) == (split.test_fold or 0)
        else:
            test = _take_groups(labels, groups, split.test, "test", split.seed)
        part[test] = "test"
        rest = rest[~test]
    share = split.validation / (1 - split.test_share)
    validation = _take_groups(labels[rest], groups[rest], share, "validation", split.seed)
    part[rest[validation]] = "validation"
    return part


def _take_groups(labels: np.ndarray, groups: np.ndarray, share: float, part: str, seed: int) -> np.ndarray:
    """Select whole groups at random with about ``share`` of the cells of every class: a bool array (N,).

    It takes the first of 200 random draws that comes within `TOLERANCE` of ``share`` in every class and leaves every
    class enough groups for the other parts; where none does, the tolerance is doubled, again and again. The nearest of
    all draws would hold out the same few subjects with almost every seed. (scikit-learn's StratifiedGroupKFold assigns
    groups of unequal size almost independently of its seed, too: six seeds gave two test parts on C-NMC.)
    """
    groups_left = {"validation": 1, "test": 2}[part]
    cells = pd.crosstab(groups, labels)  # cells of each group and class
    subjects = (cells > 0).sum()
    if subjects.min() <= groups_left:
        raise DataError(
            f"A split by subject needs {groups_left + 1} or more subjects of every class (those that share "
            f"pictures count as one), but '{subjects.idxmin()}' has {subjects.min()}: split by image, or add subjects."
        )
    table = cells.to_numpy()
    total, main_class = table.sum(axis=0), table.argmax(axis=1)
    members = {label: np.flatnonzero(main_class == label) for label in sorted(set(main_class))}
    random, tolerance = np.random.default_rng(seed), TOLERANCE[part]
    while tolerance < 2:
        for _ in range(DRAWS):
            inside = np.zeros(len(table), dtype=bool)
            for label, rows in members.items():  # of each class, the first subjects of a random order
                drawn = random.permutation(rows)
                errors = np.abs(table[drawn, label].cumsum() / total[label] - share)[: max(1, len(rows) - groups_left)]
                inside[drawn[: errors.argmin() + 1]] = True
            taken = table[inside].sum(axis=0)
            enough = taken.all() and ((table[~inside] > 0).sum(axis=0) >= groups_left).all()
            if enough and np.abs(taken / total - share).max() <= tolerance:
                return np.isin(groups, cells.index[inside])
        tolerance *= 2
    raise DataError(
        "No split by subject has every class in training, validation and test: add subjects, or split by image."
    )


def _deal_groups(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Divide whole groups into folds of similar numbers of cells of every class: fold numbers, int (N,).

    It takes the most balanced of 200 random orders, or the first that is balanced to 0.1 %; in an order, each group
    goes to the fold with the fewest cells of its class.
    """
    cells = pd.crosstab(groups, labels)
    subjects = (cells > 0).sum()
    if subjects.min() < folds:
        raise DataError(
            f"{folds} folds need {folds} or more subjects of every class (those that share pictures count as one), "
            f"but '{subjects.idxmin()}' has {subjects.min()}: use fewer folds."
        )
    table = cells.to_numpy()
    main_class = table.argmax(axis=1)
    random = np.random.default_rng(seed)
    best, smallest_error = np.zeros(len(table), int), np.inf
    for _ in range(DRAWS):
        fold, counts = np.zeros(len(table), int), np.zeros((folds, table.shape[1]))
        for group in random.permutation(len(table)):
            fold[group] = counts[:, main_class[group]].argmin()
            counts[fold[group]] += table[group]
        error = np.abs(counts / table.sum(axis=0) - 1 / folds).max()
        if counts.all() and error < smallest_error:
            best, smallest_error = fold, error
        if smallest_error < 0.001:
            break
    if not np.isfinite(smallest_error):
        raise DataError(f"No division into {folds} folds has every class in each: use fewer folds, or add subjects.")
    return best[cells.index.get_indexer(pd.Index(groups))]


def _by_fold(cells: pd.DataFrame, split: Split) -> np.ndarray:
    folds = sorted(int(fold) for fold in cells["fold"].dropna().unique())
    if len(folds) < 2 or cells["fold"].isna().any():
        raise DataError("A split by fold needs two or more fold folders (fold_0, fold_1): choose another split.")
    test_fold = folds[-1] if split.test_fold is None else split.test_fold
    if test_fold not in folds:
        raise DataError(f"There is no fold {test_fold} to test on: the data set has {', '.join(map(str, folds))}.")
    test = (cells["fold"] == test_fold).to_numpy(dtype=bool)
    missing = set(cells["label"]) - set(cells["label"][test])
    if missing:
        raise DataError(f"Fold {test_fold} has no cell of '{min(missing)}', so it cannot be the test part.")
    groups = _groups(cells)
    rest = ~test & ~np.isin(groups, groups[test])
    if set(cells["label"][rest]) != set(cells["label"]):
        raise DataError(f"Too few cells outside fold {test_fold} have subjects that are not in it: split by subject.")
    part = np.full(len(cells), "unused", dtype=object)
    part[test] = "test"
    inner = split.model_copy(update={"kind": "image", "test": 0.0, "test_fold": None})
    draw = _by_image if cells["subject"].isna().any() else _by_subject
    part[rest] = draw(cells[rest], inner)
    return part


def _by_image(cells: pd.DataFrame, split: Split) -> np.ndarray:
    sizes = {}
    for label, count in cells["label"].value_counts().to_dict().items():
        test = max(1, round(count * split.test)) if split.test else 0
        validation = max(1, round(count * split.validation))
        sizes[str(label)] = (count - validation - test, validation, test)
    return _draw(cells, sizes, split.seed)


def _by_counts(cells: pd.DataFrame, split: Split) -> np.ndarray:
    """Draw balanced classes; with too few cells, keep the proportions of the counts."""
    assert split.counts is not None  # validated
    counts = cells["label"].value_counts()
    train, validation, test = (max(1, count // len(counts)) if count else 0 for count in split.counts)
    available = int(counts.min())
    if train + validation + test > available:
        scale = available / (train + validation + test)
        validation, test = (max(1, round(count * scale)) if count else 0 for count in (validation, test))
        train = available - validation - test
    return _draw(cells, dict.fromkeys(counts.index, (train, validation, test)), split.seed)


def _draw(cells: pd.DataFrame, sizes: dict[str, tuple[int, int, int]], seed: int) -> np.ndarray:
    """Draw (training, validation, test) numbers of cells of each class at random; the others are unused."""
    part = np.full(len(cells), "unused", dtype=object)
    random = np.random.default_rng(seed)
    for label in sorted(sizes):
        if sizes[label][0] < 1:
            raise DataError(f"'{label}' has too few cells for all parts: add cells, or use smaller parts.")
        order = random.permutation(np.flatnonzero(cells["label"] == label))
        names = np.repeat(PARTS, sizes[label])
        part[order[: len(names)]] = names
    return part
