"""Checks of a data set and its split: images of the same cell, subjects that share them, and leaks, as sentences."""

from collections import Counter
from pathlib import Path

import pandas as pd

from leukodash.data.dataset import EXTENSIONS, Dataset, find_datasets, is_folder, load_dataset, printable
from leukodash.data.near_duplicates import natural
from leukodash.data.split import PART_TITLES, Leak
from leukodash.errors import DataError


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
            f"Subjects {' and '.join(subjects)} share {number} {noun}: surely one person, so they count as one subject."
        )
    labels = cells.groupby("picture")["label"].nunique()
    if conflicts := int((labels > 1).sum()):
        noun = "cell has" if conflicts == 1 else "cells have"
        sentences.append(f"{conflicts:,} {noun} two different labels, one of which must be wrong.")
    return sentences


def joined_subjects(cells: pd.DataFrame) -> dict[tuple[str, ...], int]:
    """Return the number of shared cells by group of subjects that have images of the same cells, most first."""
    shared = cells[cells["picture"].duplicated(keep=False)].dropna(subset=["named"])
    counts = Counter(
        tuple(sorted(group["named"].unique(), key=natural))
        for _, group in shared.groupby("picture")
        if group["named"].nunique() > 1
    )
    return dict(counts.most_common())


def pairs_to_show(dataset: Dataset, most: int) -> list[tuple[str, str]]:
    """Return some pairs of files that show the same cell: of different subjects first, then the least alike."""
    copies = duplicates(dataset.cells).groupby("sha256")["file"].agg(list)
    pairs = [(files[0], files[-1], 2.0) for files in copies]
    pairs += list(dataset.near_duplicates.itertuples(index=False, name=None))
    subject = dataset.cells.set_index("file")["named"]
    pairs.sort(key=lambda pair: (subject[pair[0]] == subject[pair[1]], pair[2]))
    return [(first, second) for first, second, _ in pairs[:most]]


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
