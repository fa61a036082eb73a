"""Checks of a data set and its split: images of the same cell, subjects that share them, and leaks, as sentences."""

from collections import Counter
from pathlib import Path

import pandas as pd

from leukodash.data.dataset import EXTENSIONS, Dataset, find_datasets, is_folder, load_dataset, printable
from leukodash.data.near_duplicates import natural
from leukodash.data.split import PART_TITLES, Leak
from leukodash.errors import DataError
from leukodash.evaluation.verdicts import words_list


def duplicates(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``Dataset.cells`` with byte-identical files, sorted by ``sha256`` and ``file``."""
    return cells[cells["sha256"].duplicated(keep=False)].sort_values(["sha256", "file"])


def describe_duplicates(dataset: Dataset) -> list[str]:
    """Return sentences on images of the same cell: how many, which subjects share them, which have different labels."""
    cells, copies, near = dataset.cells, duplicates(dataset.cells), len(dataset.near_duplicates)
    sentences = []
    if len(copies):
        sentences.append(f"{len(copies):,} files contain only {copies['sha256'].nunique():,} different images.")
    if near:
        pairs = "pairs of files show the same cell" if near > 1 else "pair of files shows the same cell"
        sentences.append(f"{near:,} {pairs} in another light, place, size, turn or focus (near-duplicates).")
    for subjects, number in joined_subjects(cells).items():
        noun = "cell" if number == 1 else "cells"
        sentences.append(
            f"Subjects {words_list(subjects)} share {number} {noun}: surely one person, who counts as one subject, "
            f"{' = '.join(subjects)}."
        )
    labels = cells.groupby("picture")["label"].nunique()
    if conflicts := int((labels > 1).sum()):
        noun = "cell has" if conflicts == 1 else "cells have"
        sentences.append(f"{conflicts:,} {noun} two different labels, one of which must be wrong.")
    return sentences


def joined_subjects(cells: pd.DataFrame) -> dict[tuple[str, ...], int]:
    """Return the number of cells that subjects share, by the names of those who are one person, most cells first."""
    shared = cells[cells["picture"].duplicated(keep=False)].dropna(subset=["named"])
    shared = shared[shared.groupby("picture")["named"].transform("nunique") > 1]
    people = {
        tuple(sorted(group["named"].unique(), key=natural)): group["picture"].nunique()
        for _, group in shared.groupby("subject")
    }
    return dict(Counter(people).most_common())


def describe_left_out(cells: pd.DataFrame, part: pd.Series) -> str:
    """Return a sentence on the unused cells of people in the test part: what a test on strangers costs; "" if none.

    Args:
        cells: ``Dataset.cells``.
        part: the part of each cell, from `make_split`; unused cells of other people are not counted.
    """
    person = cells["subject"].fillna(cells["picture"].astype(str))
    outside, tested = cells[part != "test"], person[part == "test"]
    left_out = cells[(part == "unused") & person.isin(tested)]
    if left_out.empty:
        return ""
    count = f"{len(left_out):,} of {len(outside):,} cells outside the test part"
    if left_out["named"].isna().any():
        return f"{count} are not used, because the test part has images of the same cells."
    names = sorted(left_out["named"].unique(), key=natural)
    subjects = f"subject {names[0]}" if len(names) == 1 else f"{len(names)} subjects ({words_list(names)})"
    return f"{count}, those of {subjects}, are not used, because the test part has cells of the same people."


def pairs_to_show(dataset: Dataset, most: int) -> list[tuple[str, str]]:
    """Return some pairs of files that show the same cell: of different subjects first, of each two subjects in turn.

    Of these, the least alike come first.
    """
    copies = duplicates(dataset.cells).groupby("sha256")["file"].agg(list)
    pairs = [(files[0], files[-1], 2.0) for files in copies]
    pairs += list(dataset.near_duplicates.itertuples(index=False, name=None))
    pairs.sort(key=lambda pair: pair[2])
    subject = dataset.cells.set_index("file")["named"].fillna("")
    shown: Counter[frozenset[str]] = Counter()
    order = []
    for number, (first, second, _) in enumerate(pairs):
        subjects = frozenset((subject[first], subject[second]))
        order.append((len(subjects) == 1, shown[subjects], number))
        shown[subjects] += 1
    return [pairs[number][:2] for *_, number in sorted(order)[:most]]


def describe_leaks(leaks: list[Leak]) -> list[str]:
    """Return sentences on the leaks that `find_leaks` returned."""
    sentences = []
    subjects = [leak for leak in leaks if leak.kind == "subject"]
    images = [leak for leak in leaks if leak.kind == "image"]
    if subjects:
        noun = "subject is" if len(subjects) == 1 else "subjects are"
        sentences.append(
            f"{len(subjects):,} {noun} in more than one part: a network can learn to recognize a person's "
            "stain instead of the disease, and the test does not show it."
        )
    if images:
        noun = "cell is" if len(images) == 1 else "cells are"
        sentences.append(
            f"{len(images):,} {noun} in more than one part, as identical or nearly identical images: the test rewards "
            "memorizing them."
        )
    return sentences


def describe_leak(leak: Leak) -> str:
    """Return one leak as a sentence."""
    parts = " and ".join(PART_TITLES[part] for part in leak.parts)
    if leak.kind == "subject":
        return f"Subject {leak.subject} is in {parts} ({len(leak.files):,} cells)."
    whose = f" of subject {leak.subject}" if leak.subject else ""
    return f"The same cell{whose} is in {parts} under {len(leak.files)} file names."


def problem_folders(root: Path) -> list[str]:
    """Return a sentence on each folder of a data root that is not a valid data set."""
    good = find_datasets(root)
    if root in good or not is_folder(root):
        return []
    try:
        others = sorted(
            path for path in root.iterdir() if is_folder(path) and path not in good and path.name[0] not in "._"
        )
        if len(others) == 1 and any(path.suffix.lower() in EXTENSIONS for path in others[0].iterdir()):
            others = [root]  # the root was meant to be a data set but has only one class
    except OSError as error:
        return [f"The data folder cannot be read ({error.strerror}): check its permissions."]
    sentences = []
    for folder in others:
        try:
            load_dataset(folder)
        except DataError as error:
            sentences.append(str(error))
        except OSError as error:
            sentences.append(f"'{printable(folder.name)}' cannot be read ({error.strerror}): check its permissions.")
    return sentences
