"""Index a folder of single-cell images as a table of cells with a fingerprint.

Two layouts are supported, with names in upper or lower case:

* C-NMC 2019: ``fold_<k>/<all|hem>/UID_<subject>_<image>_<cell>_<all|hem>.<ext>``, with the folds in the root or one
  folder below (``C-NMC_training_data/fold_0/…``);
* class folders: ``<class>/<file>``, two or more classes.

Subjects come from ``subjects.csv`` (columns ``file,subject``) in the root, or else from C-NMC's file names.
"""

import contextlib
import csv
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from leukodash import settings
from leukodash.atomic_write import write_atomic
from leukodash.errors import DataError
from leukodash.progress import Progress

LABEL_TITLES = {"all": "ALL blast", "hem": "normal"}
EXTENSIONS = {".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"}
PAIR_COLUMNS = ("first", "second", "similarity")
LAYOUTS = "fold_0/all/UID_11_10_1_all.bmp as in C-NMC, or one folder per class (blast/1.png, normal/2.png)"

_FOLD = re.compile(r"fold[ _-]?(\d{1,9})", re.IGNORECASE)
_UID = re.compile(r"UID_(H?\d+)_\d+_\d+_(all|hem)", re.IGNORECASE)
_DISEASE = re.compile(r"\b(all|blasts?|leuka?emi[ac]|malignant|cancer(ous)?|positive|abnormal|diseased?)\b")
_HEALTHY = re.compile(r"\b(hem|normal|healthy|benign|negative|controls?|non|not|no)\b")


def label_title(label: str) -> str:
    """Return the displayed name of a label: "ALL blast" for ``all``, "normal" for ``hem``, else the label itself."""
    return LABEL_TITLES.get(label, label)


def printable(name: str) -> str:
    """Return an untrusted file or folder name for messages: its last 80 characters, with "?" for non-printable ones."""
    end = name if len(name) <= 80 else f"…{name[-79:]}"
    return "".join(c if c.isprintable() else "?" for c in end)


@dataclass(frozen=True)
class Dataset:
    """An indexed folder of cells.

    Attributes:
        root: the folder, resolved.
        name: the folder's name.
        cells: one row per image, sorted by ``file``, RangeIndex. Columns: ``file`` (str, posix path relative to
            ``root``), ``label`` (str), ``subject`` (str in every row, or None in every row; subjects who share a cell
            are one person, "20 = 21"), ``fold`` (Int64, NA in class folders), ``sha256`` (str, 64 hex digits, of the
            file's bytes), ``picture`` (int, equal for identical files and for near-duplicates), ``named`` (the subject
            as the data set names it).
        fingerprint: SHA-256 of what the files say (``file`` to ``sha256``, with ``named`` as subject), 64 hex digits.
        generated: whether the cells were drawn by `demo_cells` rather than photographed.
        near_duplicates: pairs of different files that show the same cell (see `near_duplicates.py`). Columns ``first``
            and ``second`` (files), ``similarity`` (-1 to 1).
    """

    root: Path
    name: str
    cells: pd.DataFrame
    fingerprint: str
    generated: bool
    near_duplicates: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(PAIR_COLUMNS)))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Labels in sorted order: the order of the network's outputs. ``("all", "hem")`` for C-NMC."""
        return tuple(sorted(self.cells["label"].unique()))

    @cached_property
    def positive(self) -> str:
        """The class whose sensitivity is reported: the first named like a disease, else the first not named healthy."""
        words = {label: re.sub("[^a-z]+", " ", label.lower()) for label in self.classes}
        unhealthy = [label for label in self.classes if not _HEALTHY.search(words[label])] or self.classes
        return next((label for label in unhealthy if _DISEASE.search(words[label])), unhealthy[0])

    @cached_property
    def has_subjects(self) -> bool:
        """Whether the subjects are known (for all cells or for none)."""
        return bool(self.cells["subject"].notna().all())

    @cached_property
    def has_folds(self) -> bool:
        """Whether the cells are in fold folders."""
        return bool(self.cells["fold"].notna().all())


class _ClassFolder(NamedTuple):
    path: Path
    label: str
    fold: int | None = None
    subject: str | None = None


class _File(NamedTuple):
    file: str  # posix path relative to the root
    size: int  # bytes
    mtime_ns: int
    folder: _ClassFolder


def load_dataset(root: Path | str, progress: Progress | None = None) -> Dataset:
    """Index the cells under ``root``.

    Hashes of files are cached and reused while the size and modification time of a file are unchanged. Near-duplicates
    are looked for once for the same files, which takes a minute for 10,000 cells; generated cells have none.

    Args:
        root: the data folder.
        progress: called with the fraction done, 0..1, and a text.

    Raises:
        DataError: if the folder is missing, empty, has one class or no known layout, or if subjects are incomplete.
    """
    # which decodes images, and needs this module
    from leukodash.data.near_duplicates import find_pairs, merged_subjects, picture_numbers

    root = Path(root).expanduser().resolve()
    name = printable(root.name)
    if not root.is_dir():
        raise DataError(f"There is no folder {root}: give the folder with the cell images.")
    if not _is_text(str(root)):
        raise DataError(f"The name of the folder '{name}', or of one above it, is not UTF-8 text: rename it.")
    try:
        files = sorted(_files(root, _class_folders(root)))
    except OSError as error:
        raise DataError(f"'{name}' cannot be read ({error.strerror}): check its folders' permissions.") from error
    if not files:
        raise DataError(f"No cell images were found in '{name}': expected {LAYOUTS}.")
    labels = _labels({file.folder.label for file in files})
    cells = pd.DataFrame(
        {
            "file": [file.file for file in files],
            "label": [labels[file.folder.label] for file in files],
            "subject": _subjects(root, files),
            "fold": pd.array([file.folder.fold for file in files], dtype="Int64"),
        }
    )
    if cells["label"].nunique() < 2:
        only = printable(cells["label"][0])
        raise DataError(f"'{name}' has one class, '{only}', but two or more are needed: expected {LAYOUTS}.")
    cells["sha256"] = hashes = _hashes(root, files, progress)
    fingerprint, generated = _fingerprint(cells), (root / "generated.json").is_file()
    pairs = [] if generated else find_pairs(root, list(cells["file"]), hashes, progress)
    cells["picture"] = picture_numbers(hashes, pairs)
    cells["named"] = cells["subject"]
    if cells["subject"].notna().all():
        cells["subject"] = merged_subjects(list(cells["named"]), cells["picture"].to_numpy())
    rows = [(cells["file"][first], cells["file"][second], similarity) for first, second, similarity in pairs]
    return Dataset(root, root.name, cells, fingerprint, generated, pd.DataFrame(rows, columns=list(PAIR_COLUMNS)))


def find_datasets(root: Path | str) -> list[Path]:
    """Return the data sets in a data root, sorted: the root itself if it is one, and those among its subfolders.

    It only lists folders and opens no file. If the folds are one folder below the root, that folder is the data set.
    """
    root = Path(root).expanduser()
    try:
        subfolders = [path for path in _subfolders(root) if not _FOLD.fullmatch(path.name)]
    except OSError:  # the folder does not exist or cannot be read
        return []
    found: list[Path] = []
    inside: set[Path] = set()  # folders that belong to a data set found before
    for folder in [root, *subfolders]:
        if folder in inside:
            continue
        try:
            folders = _class_folders(folder)
        except OSError:
            continue
        if not all(_is_text(str(path)) for path in [folder, *(each.path for each in folders)]):
            continue
        classes = {each.label.lower() for each in folders}
        below_root = folder == root and any(each.path.parent.parent not in (root, root.parent) for each in folders)
        if len(classes) > 1 and not below_root:
            found.append(folder)
            inside |= {each.path.parent for each in folders}
    return found


def list_cells(root: Path) -> list[str]:
    """Return the images of a data set as posix paths relative to ``root``. Opens none of them. Raises OSError."""
    folders = [folder.path for folder in _class_folders(root)]
    return [f"{folder.relative_to(root).as_posix()}/{entry.name}" for folder in folders for entry in _images(folder)]


def layout_stamp(root: Path) -> tuple[tuple[Path, int], ...]:
    """Return a data set's class folders with their times of change, which differ once a cell comes or goes."""
    return tuple((folder.path, folder.path.stat().st_mtime_ns) for folder in _class_folders(root))


@lru_cache(maxsize=2**16)
def cnmc_name(file: str) -> str | None:
    """Return a cell's name in C-NMC's form, in capitals (``UID_H3_1_2_HEM``), whatever its folder and extension.

    None if the file's name has another form. The name holds subject, image, cell number and class.
    """
    stem = Path(file).stem
    return stem.upper() if _UID.fullmatch(stem) else None


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; False if nobody may know, or for a link to itself."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_file(path: Path | os.DirEntry) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_folder(path) and not path.name.startswith((".", "__")))


def _image_folders(folder: Path) -> list[Path]:
    return [path for path in _subfolders(folder) if next(_images(path), None)]


def _fold_folders(folder: Path) -> list[_ClassFolder]:
    """Return the class folders inside the fold folders of ``folder``."""
    folds = [(path, match) for path in _subfolders(folder) if (match := _FOLD.fullmatch(path.name))]
    return [_ClassFolder(path, path.name, int(match[1])) for fold, match in folds for path in _image_folders(fold)]


def _class_folders(root: Path) -> list[_ClassFolder]:
    """Return the class folders: in folds in the root, else in folds in one subfolder, else in the root.

    Folds take precedence because The Cancer Imaging Archive's C-NMC has two folders of unlabeled test images next to
    the folder with the folds. Two subfolders with folds are two data sets; demo cells next to class folders are
    separate.
    """
    if folders := _fold_folders(root):
        return folders
    candidates = [path for path in _subfolders(root) if not _is_file(path / "generated.json")]
    with_folds = []
    for path in candidates:
        with contextlib.suppress(OSError):  # a folder that cannot be read holds no folds
            with_folds += [folders] if (folders := _fold_folders(path)) else []
    if len(with_folds) == 1:
        return with_folds[0]
    return [_ClassFolder(path, path.name) for path in _image_folders(root)]


def _images(folder: Path) -> Iterator[os.DirEntry]:
    with os.scandir(folder) as entries:
        for entry in entries:
            extension = entry.name[entry.name.rfind(".") :].lower()
            if extension in EXTENSIONS and not entry.name.startswith(".") and _is_file(entry):
                yield entry


def _files(root: Path, folders: list[_ClassFolder]) -> Iterator[_File]:
    for folder in folders:
        prefix = folder.path.relative_to(root).as_posix()
        for entry in _images(folder.path):
            file = f"{prefix}/{entry.name}"
            if not _is_text(file):
                raise DataError(f"The name of '{printable(file)}' is not UTF-8 text: rename it.")
            stat = entry.stat()
            yield _File(file, stat.st_size, stat.st_mtime_ns, folder)


def _is_text(name: str) -> bool:
    """Return whether a name is UTF-8 on the disk: Python represents other bytes by surrogates."""
    return not any("\ud800" <= c <= "\udfff" for c in name)


def _labels(folders: set[str]) -> dict[str, str]:
    """Return the label by class folder: its name in one spelling, with ``all`` and ``hem`` in lower case."""
    spelling: dict[str, str] = {}
    for name in sorted(folders):
        spelling.setdefault(name.lower(), name)
    if {"all", "hem"} <= spelling.keys():
        spelling |= {"all": "all", "hem": "hem"}
    return {name: spelling[name.lower()] for name in folders}


def _subjects(root: Path, cells: list[_File]) -> list[str] | list[None]:
    files = [cell.file for cell in cells]
    if (root / "subjects.csv").is_file():
        return _listed_subjects(root / "subjects.csv", files)
    if subjects := [cell.folder.subject for cell in cells if cell.folder.subject]:
        return subjects
    matches = {file: match for file in files if (match := _UID.fullmatch(Path(file).stem))}
    if not matches:
        return [None] * len(files)
    if len(matches) < len(files):  # without subjects, a split by subject would silently become one by image
        unnamed = [file for file in files if file not in matches]
        raise DataError(
            f"{len(unnamed):,} of {len(files):,} file names contain no subject, as UID_11_10_1_all does, for example "
            f"'{printable(unnamed[0])}': rename them, or list every file in a subjects.csv (file,subject)."
        )
    for file, match in matches.items():
        folder = Path(file).parent.name.lower()
        if folder in LABEL_TITLES and folder != match[2].lower():
            raise DataError(f"'{printable(file)}' is in the folder of the other class: move or rename it.")
    return [match[1].upper() for match in matches.values()]


def _listed_subjects(path: Path, files: list[str]) -> list[str]:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # ValueError: pandas' parser, and bytes that are not UTF-8
        raise DataError("subjects.csv cannot be read: expected a UTF-8 table with the columns file,subject.") from error
    if not {"file", "subject"} <= set(table.columns):
        columns = printable(", ".join(map(str, table.columns)))
        raise DataError(f"subjects.csv needs the columns file,subject, but has: {columns}.")
    listed: dict[str, str] = {}
    for file, subject in zip(table["file"], table["subject"].str.strip(), strict=True):
        file_name = file.strip().replace("\\", "/").removeprefix("./")
        if listed.setdefault(file_name, subject) != subject:
            raise DataError(f"subjects.csv has two subjects for '{printable(file_name)}': keep one of them.")
    times = Counter(Path(file).name for file in files)
    # A bare file name refers to the only file of that name, in whatever folder.
    bare = {file: listed.get(Path(file).name, "") for file in files if times[Path(file).name] == 1}
    subjects = [listed.get(file) or bare.get(file, "") for file in files]
    missing = [file for file, subject in zip(files, subjects, strict=True) if not subject]
    if missing:
        raise DataError(
            f"subjects.csv has no subject for {len(missing):,} of {len(files):,} files, for example "
            f"'{printable(missing[0])}': add a line for each, with its path relative to the data folder."
        )
    return subjects


def _hashes(root: Path, files: list[_File], progress: Progress | None) -> list[str]:
    index = settings.cache() / "index" / f"{hashlib.sha256(str(root).encode()).hexdigest()[:32]}.csv"
    known = _read_index(index)
    missing = [file for file in files if file[:3] not in known]

    def sha256(file: _File) -> str:
        try:
            with (root / file.file).open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"'{printable(file.file)}' cannot be read ({error.strerror}).") from error

    with ThreadPoolExecutor(8) as pool:  # reading and hashing both release the GIL
        for done, (file, digest) in enumerate(zip(missing, pool.map(sha256, missing), strict=True), 1):
            known[file[:3]] = digest
            if progress and (done % 100 == 0 or done == len(missing)):
                progress(done / len(missing), f"reading cells, {done:,} of {len(missing):,}")
    if missing:
        _write_index(index, {file[:3]: known[file[:3]] for file in files})
    return [known[file[:3]] for file in files]


def _read_index(index: Path) -> dict[tuple[str, int, int], str]:
    try:
        with index.open(newline="", encoding="utf-8") as stream:
            return {(file, int(size), int(mtime)): digest for file, size, mtime, digest in csv.reader(stream)}
    except (OSError, ValueError, csv.Error):  # missing or damaged: everything is hashed again
        return {}


def _write_index(index: Path, hashes: dict[tuple[str, int, int], str]) -> None:
    table = io.StringIO()
    csv.writer(table).writerows((*key, digest) for key, digest in hashes.items())
    try:
        write_atomic(index, table.getvalue().encode(), durable=False)
    except OSError as error:
        raise DataError(
            f"The cache folder {settings.cache()} is not writable ({error.strerror}): set LEUKODASH_CACHE to "
            "another folder."
        ) from error


def _fingerprint(cells: pd.DataFrame) -> str:
    rows = cells.astype(object).where(cells.notna(), "").itertuples(index=False)
    return hashlib.sha256("\n".join("\t".join(map(str, row)) for row in rows).encode()).hexdigest()
