"""Can a data set and its split be trusted? Identical images, subjects joined by them, and leaks, in words."""

from collections import Counter
from pathlib import Path

import pandas as pd

from leukodash.data.dataset import EXTENSIONS, find_datasets, load_dataset, printable
from leukodash.data.split import Leak
from leukodash.errors import DataError

PART_WORDS = {"train": "training", "validation": "validation", "test": "test", "unused": "no part"}


def part_words(part: str) -> str:
    """Words for a part: "training" for ``train``."""
    return PART_WORDS.get(part, part)


def duplicates(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells whose file is byte-identical to another one's, twins beside each other.

    Args:
        cells: ``Dataset.cells``.

    Returns:
        The rows concerned, with their index, sorted by ``sha256`` and ``file``.
    """
    return cells[cells["sha256"].duplicated(keep=False)].sort_values(["sha256", "file"])


def duplicate_words(cells: pd.DataFrame) -> list[str]:
    """Sentences on identical images: how many, which subjects share them, and any that carry two labels."""
    twins = duplicates(cells)
    if twins.empty:
        return []
    images = twins["sha256"].nunique()
    said = [f"{len(twins):,} files hold only {images:,} different images: each of these is there more than once."]
    for subjects, number in joined_subjects(cells).items():
        noun = "image" if number == 1 else "images"
        said.append(
            f"Subjects {' and '.join(subjects)} share {number} identical {noun}: a split by subject treats them as "
            "one person."
        )
    labels = twins.groupby("sha256")["label"].nunique()
    if both := int((labels > 1).sum()):
        said.append(f"{both:,} images carry two different labels: one of the two must be wrong.")
    return said


def joined_subjects(cells: pd.DataFrame) -> dict[tuple[str, ...], int]:
    """Return by the subjects that share byte-identical images how many images they share, most first."""
    twins = duplicates(cells).dropna(subset=["subject"])
    counts = Counter(
        tuple(sorted(group["subject"].unique(), key=_natural))
        for _, group in twins.groupby("sha256")
        if group["subject"].nunique() > 1
    )
    return dict(counts.most_common())


def leak_words(leaks: list[Leak]) -> list[str]:
    """Sentences on what `find_leaks` found; none where nothing leaks."""
    said = []
    subjects = [leak for leak in leaks if leak.kind == "subject"]
    images = [leak for leak in leaks if leak.kind == "image"]
    if subjects:
        noun = "subject is" if len(subjects) == 1 else "subjects are"
        said.append(
            f"{len(subjects):,} {noun} in more than one part: a network can learn to know a person's "
            "stain instead of the disease, and the test does not notice."
        )
    if images:
        noun = "image is" if len(images) == 1 else "images are"
        said.append(f"{len(images):,} identical {noun} in more than one part: the test asks what was learnt by heart.")
    return said


def leak_sentence(leak: Leak) -> str:
    """One leak in a sentence."""
    parts = " and ".join(part_words(part) for part in leak.parts)
    if leak.kind == "subject":
        return f"Subject {leak.subject} is in {parts} ({len(leak.files):,} cells)."
    whose = f" of subject {leak.subject}" if leak.subject else ""
    return f"The same image{whose} is in {parts} under {len(leak.files)} names."


def problem_folders(root: Path) -> list[str]:
    """A sentence on each folder of a data root that cannot be chosen, since it is no data set."""
    good = find_datasets(root)
    if root in good or not root.is_dir():
        return []
    others = sorted(path for path in root.iterdir() if path.is_dir() and path not in good and path.name[0] not in "._")
    if len(others) == 1 and any(path.suffix.lower() in EXTENSIONS for path in others[0].iterdir()):
        others = [root]  # meant as a data set of its own, with one class only
    said = []
    for folder in others:
        try:
            load_dataset(folder)
        except DataError as error:
            said.append(str(error))
        except OSError as error:
            said.append(f"'{printable(folder.name)}' cannot be read ({error.strerror}): check its permissions.")
    return said


def _natural(subject: str) -> tuple:
    return (not subject.isdigit(), int(subject) if subject.isdigit() else 0, subject)
