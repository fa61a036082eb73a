"""Checks of a data set and its split: identical images, subjects that share them, and leaks, as sentences."""

from collections import Counter
from pathlib import Path

import pandas as pd

from leukodash.data.dataset import EXTENSIONS, find_datasets, is_folder, load_dataset, printable
from leukodash.data.split import PART_TITLES, Leak
from leukodash.errors import DataError


def duplicates(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``Dataset.cells`` with byte-identical files, sorted by ``sha256`` and ``file``."""
    return cells[cells["sha256"].duplicated(keep=False)].sort_values(["sha256", "file"])


def describe_duplicates(cells: pd.DataFrame) -> list[str]:
    """Return sentences on identical images: how many, which subjects share them, and which have different labels."""
    copies = duplicates(cells)
    if copies.empty:
        return []
    images = copies["sha256"].nunique()
    sentences = [f"{len(copies):,} files contain only {images:,} different images."]
    for subjects, number in joined_subjects(cells).items():
        noun = "image" if number == 1 else "images"
        sentences.append(
            f"Subjects {' and '.join(subjects)} share {number} identical {noun}: a split by subject treats them as "
            "one person."
        )
    labels = copies.groupby("sha256")["label"].nunique()
    if conflicts := int((labels > 1).sum()):
        noun = "image has" if conflicts == 1 else "images have"
        sentences.append(f"{conflicts:,} {noun} two different labels, one of which must be wrong.")
    return sentences


def joined_subjects(cells: pd.DataFrame) -> dict[tuple[str, ...], int]:
    """Return the number of shared images by group of subjects that share byte-identical images, most first."""
    copies = duplicates(cells).dropna(subset=["subject"])
    counts = Counter(
        tuple(sorted(group["subject"].unique(), key=_natural))
        for _, group in copies.groupby("sha256")
        if group["subject"].nunique() > 1
    )
    return dict(counts.most_common())


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
        noun = "image is" if len(images) == 1 else "images are"
        sentences.append(f"{len(images):,} identical {noun} in more than one part: the test rewards memorizing them.")
    return sentences


def describe_leak(leak: Leak) -> str:
    """Return one leak as a sentence."""
    parts = " and ".join(PART_TITLES[part] for part in leak.parts)
    if leak.kind == "subject":
        return f"Subject {leak.subject} is in {parts} ({len(leak.files):,} cells)."
    whose = f" of subject {leak.subject}" if leak.subject else ""
    return f"The same image{whose} is in {parts} under {len(leak.files)} file names."


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


def _natural(subject: str) -> tuple:
    number = int(subject) if subject.isdecimal() and len(subject) < 20 else None
    return (number is None, number or 0, subject)
