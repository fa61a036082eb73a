"""The run folder: everything that the trainer, the pages and the command line share.

Readers accept that files do not exist yet. Files are written atomically, so none is ever incomplete. The ``split.csv``
of a published run holds only the parts: the table of cells is stored once for all runs on them, beside the run folders.
Tables may be compressed (``predictions.csv.gz``).
"""

import contextlib
import csv
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukodash import settings
from leukodash.atomic_write import write_atomic
from leukodash.config.recipe_words import config_words
from leukodash.config.run_config import RunConfig
from leukodash.errors import RunError
from leukodash.runs.locks import STARTING_SECONDS, is_held
from leukodash.runs.migrations import read_config, stored_config, trained_config
from leukodash.runs.published_runs import is_published, published_folders

HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
SPLIT_COLUMNS = ("file", "label", "subject", "part", "sha256")
STEP_COLUMNS = ("step", "epoch", "loss", "accuracy")
LIVE = ("queued", "running")
MAX_CHARACTERS = {"title": 120, "owner": 60, "notes": 5000}


@dataclass(frozen=True)
class Run:
    """A run folder. It stores only its path: every property reads the current file, cached until the file changes."""

    path: Path

    @property
    def id(self) -> str:
        """The folder's name, ``YYYYmmdd-HHMMSS-<backbone>-<4 hex>``."""
        return self.path.name

    @property
    def published(self) -> bool:
        """Whether the run comes with LeukoDash. Its folder is read-only."""
        return is_published(self.path)

    @property
    def config(self) -> RunConfig:
        """The settings that were asked for. Raises RunError where config.json cannot be read."""
        config = _now(_small_files, _read_config, self.path / "config.json")
        if config is None:
            raise RunError(f"'{self.id}' has no readable config.json. Restore the file or delete the folder.")
        return config

    @property
    def trained(self) -> RunConfig:
        """The settings that were really trained: with random weights, for example, if there were no pretrained ones.

        Equal to `config` until the network has been built. Raises RunError as `config` does.
        """
        return _now(_small_files, _read_trained, self.path / "model.json") or self.config

    @property
    def model(self) -> dict[str, Any]:
        """Facts about the network and the environment (``model.json``); empty until the trainer has built it."""
        return _json(self.path / "model.json")

    @property
    def metrics(self) -> dict[str, Any]:
        """The test results (``metrics.json``); empty until the run has finished."""
        return _json(self.path / "metrics.json")

    @property
    def about(self) -> dict[str, str]:
        """Title, owner and notes (``about.json``)."""
        return {"title": "", "owner": "", "notes": "", **_json(self.path / "about.json")}

    @property
    def by(self) -> str:
        """The id of the person who started the run (see `runs.access`); "" for the machine's operator."""
        return self.about.get("by", "")

    @property
    def status(self) -> dict[str, Any]:
        """The content of ``status.json``; the state is `lost` if the process died without writing its end."""
        status = {"state": "queued", "stage": "", "progress": 0.0, "message": "", **_json(self.path / "status.json")}
        if status["state"] in LIVE and not self.alive():
            age = time.time() - status.get("updated", 0.0)
            if not status.get("starting") or age > STARTING_SECONDS:
                status["state"] = "lost"
        return status

    @property
    def state(self) -> str:
        """One of queued, running, finished, stopped, failed, lost."""
        return self.status["state"]

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch, columns `HISTORY_COLUMNS`; empty until the first epoch has ended."""
        return _table(self.path / "history.csv", HISTORY_COLUMNS)

    @property
    def steps(self) -> pd.DataFrame:
        """Running means of loss and accuracy within epochs, columns `STEP_COLUMNS`."""
        return _table(self.path / "steps.csv", STEP_COLUMNS)

    @property
    def split(self) -> pd.DataFrame:
        """Columns file, label, subject, part, sha256."""
        table = _table(self.path / "split.csv", SPLIT_COLUMNS)
        if "file" in table:
            return table
        cells = _table(self.path.parent / cells_name(self.config.fingerprint), SPLIT_COLUMNS)
        whole = cells.assign(part=table["part"]) if len(cells) == len(table) else cells[:0]
        return whole.reindex(columns=list(SPLIT_COLUMNS))

    @property
    def predictions(self) -> pd.DataFrame:
        """Columns file, label, subject, part, and ``p_<class>`` for each class."""
        return _table(self.path / "predictions.csv", ("file", "label", "subject", "part"))

    @property
    def weights(self) -> Path:
        """Path of the trained layers; published runs include them only if they are small."""
        return self.path / "trained.weights.h5"

    @property
    def test_set(self) -> str:
        """Hash of the tested cells; runs with equal hashes can be compared cell by cell."""
        known = self.metrics.get("test_set")
        known = known or _now(_small_files, _read_test_set, self.path / "split.csv", self.metrics.get("part"))
        return known or cells_hash([])

    @property
    def title(self) -> str:
        """The title that was given, or else network · recipe · split · repeat, and when the user started it."""
        return self.about["title"] or " · ".join(filter(None, (*config_words(self.config), self.started)))

    @property
    def started(self) -> str:
        """When the user started the run, from its id: "28 Nov 14:32"; "" for a published run."""
        if self.published or not (stamp := re.search(r"\d{8}-\d{6}", self.id)):
            return ""
        started = time.strptime(stamp[0], "%Y%m%d-%H%M%S")
        return f"{started.tm_mday} {time.strftime('%b %H:%M', started)}"

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the trainer's output (``log.txt``)."""
        try:
            with (self.path / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
                text = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def alive(self) -> bool:
        """Return whether the run's process is alive, waiting or training."""
        return is_held(self.path / "lock")

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file atomically. Raises RunError for a published run."""
        if self.published:
            raise RunError(f"{self.title} is a published run: it comes with LeukoDash and cannot be changed.")
        write_atomic(self.path / name, json.dumps(content, indent=1, default=_plain).encode())


def create_run(
    config: RunConfig,
    *,
    title: str = "",
    owner: str = "",
    notes: str = "",
    by: str = "",
    turn: int = 0,
    prefix: str = "",
) -> Run:
    """Create a run folder, its name starting with `prefix`, in the checkpoints folder.

    `by` is the id of the person who starts it, `turn` its round of the queue (see `runs.access`). Raises RunError if
    the folder cannot be written, or if a text is too long.
    """
    about = about_texts(title=title, owner=owner, notes=notes)
    with writing_runs():
        run = claim_folder(config.backbone, prefix)
        run.write("config.json", stored_config(config))
        run.write("about.json", about | {"by": by})
        asked, _ = file_stamp(run.path / "config.json")  # the time that `list_runs` sorts by
        request = {"starting": True, "asked": asked, "turn": turn, "updated": time.time()}
        run.write("status.json", {"state": "queued", **request})
    return run


def about_texts(**texts: str) -> dict[str, str]:
    """Return title, owner and notes without spaces around them. Raises RunError for one that is too long."""
    for name, text in texts.items():
        if len(text) > MAX_CHARACTERS[name]:
            limit = MAX_CHARACTERS[name]
            raise RunError(f"The {name} of a run can have {limit:,} characters, not {len(text):,}. Shorten it.")
    return {name: text.strip() for name, text in texts.items()}


def claim_folder(kind: str, prefix: str = "") -> Run:
    """Create a run folder with a unique name, ``<prefix>YYYYmmdd-HHMMSS-<kind>-<4 hex>``: ``mkdir`` is atomic."""
    while True:
        path = settings.checkpoints() / f"{prefix}{time.strftime('%Y%m%d-%H%M%S')}-{kind}-{secrets.token_hex(2)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return Run(path)


@contextlib.contextmanager
def writing_runs() -> Iterator[None]:
    """Raise RunError if the block cannot write to the checkpoints folder."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"Runs are kept in '{settings.checkpoints()}', which cannot be written ({error.strerror}). "
            "Set LEUKODASH_CHECKPOINTS to a folder that you can write."
        ) from error


def list_runs(root: Path | None = None) -> list[Run]:
    """Return the runs in a folder, newest first; within a second, in the order they were requested."""
    root = root or settings.checkpoints()
    if not root.is_dir():
        return []
    names = [entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."]
    written = {name: file_stamp(root / name / "config.json") for name in names}
    kept = [name for name in names if written[name] != (0, 0)]
    return [Run(root / name) for name in sorted(kept, key=lambda name: (name[:15], *written[name]), reverse=True)]


def published_runs() -> list[Run]:
    """Return the runs that come with LeukoDash, newest first."""
    runs = [run for folder in published_folders()[0] for run in _unchanging(folder)]
    return sorted(runs, key=lambda run: run.id, reverse=True)


def all_runs() -> list[Run]:
    """Return the user's runs and the published ones, newest first."""
    return sorted([*list_runs(), *published_runs()], key=lambda run: run.id[:15], reverse=True)


@lru_cache(maxsize=64)
def _unchanging(folder: Path) -> list[Run]:
    return list_runs(folder)


def cells_hash(hashes: Iterable[str]) -> str:
    """Return a short hash of a set of cells, given their SHA-256 in any order."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()[:12]


def cells_name(fingerprint: str) -> str:
    """Return the file name of a data set's table of cells, which published runs share."""
    return f"cells-{fingerprint[:12]}.csv"


def find_run(name: str) -> Run:
    """Return a user's or published run by its id, a unique beginning or end of it, or its path. Raises RunError."""
    path = Path(name)
    if (path / "config.json").is_file():
        return Run(path)
    runs = all_runs()
    found = [run for run in runs if run.id == name]
    found = found or [run for run in runs if run.id.startswith(name) or run.id.endswith(name)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(run.id for run in (found or runs)[:5]) or "none yet"
    problem = "matches several runs" if found else "is not a run"
    message = f"'{name}' {problem} under '{settings.checkpoints()}'. Give one run's id, such as: {known}."
    raise RunError(" ".join([message, *published_folders()[1]]))


def finished(runs: Iterable[Run]) -> list[Run]:
    """Return the runs that have results."""
    return [run for run in runs if (run.path / "metrics.json").is_file()]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def file_stamp(path: Path) -> tuple[int, int]:
    """Return (modification time in ns, bytes) of a file; (0, 0) if it does not exist."""
    try:
        info = path.stat()
    except OSError:
        return 0, 0
    return info.st_mtime_ns, info.st_size


def _now(slots: Callable, read: Callable, path: Path, *more: Any) -> Any:
    """Return the content of a file, read again only when the file has changed."""
    slot, stamp = slots(read, path, *more), file_stamp(path)
    if slot[0] is None or slot[0][0] != stamp:
        slot[0] = stamp, read(path, *more) if stamp != (0, 0) else None
    return slot[0][1]


@lru_cache(maxsize=4096)
def _small_files(*_: Any) -> list:
    return [None]


@lru_cache(maxsize=512)
def _tables(*_: Any) -> list:
    return [None]


def _json(path: Path) -> dict[str, Any]:
    return dict(_now(_small_files, _read_json, path) or {})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_config(path: Path) -> RunConfig | None:
    content = _read_json(path)
    return read_config(content) if content else None


def _read_trained(path: Path) -> RunConfig | None:
    content = _read_json(path)
    return trained_config(content, Run(path.parent).config) if content else None


def _read_test_set(path: Path, part: str) -> str:
    with path.open(newline="") as file:
        return cells_hash(row["sha256"] for row in csv.DictReader(file) if row["part"] == part)


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.exists():
        path = path.with_name(f"{path.name}.gz")
    table = _now(_tables, _read_table, path, columns)
    # A deep copy: pandas records each shallow copy in the cached table, which slows garbage collection.
    return pd.DataFrame(columns=list(columns)) if table is None else table.copy()


def _header(path: Path) -> list[str]:
    return list(pd.read_csv(path, nrows=0).columns)


def _read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame | None:
    text = {name: str for name in SPLIT_COLUMNS if name in columns}
    try:  # a class or a subject may be called "NA" or "null": only an empty subject is an unknown one
        missing = {name: [""] if name == "subject" else [] if name in text else ["", "nan"] for name in _header(path)}
        return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=missing)
    except (OSError, ValueError):
        return None
