"""The run folder: everything that the trainer, the pages and the command line share.

Readers accept that files do not exist yet. Files are written atomically, so none is ever incomplete. One that was
damaged later reads as if it did not exist, and `Run.problem` says so. The ``split.csv`` of a published run holds the
parts alone: the table of cells is stored once for all runs on them, beside the run folders.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukodash import settings
from leukodash.atomic_write import is_full, replacing
from leukodash.bounded_read import DamagedError, with_bounded
from leukodash.byte_cache import ByteCache
from leukodash.config.recipe_words import config_words
from leukodash.config.run_config import RunConfig
from leukodash.errors import RunError
from leukodash.runs.locks import STARTING_SECONDS, is_held
from leukodash.runs.migrations import NEWER, stored_config, trained_config
from leukodash.runs.published_runs import is_published, published_folders, unpacked
from leukodash.runs.run_files import (
    CELLS,
    CONFIG_FILE,
    IMPORT_FILE,
    JSON_FILES,
    SPLIT_COLUMNS,
    TABLES,
    Table,
    check_ends,
    read_json,
    read_settings,
    read_table,
)

LIVE = ("queued", "running")
TABLE_BYTES = 2**28  # of predictions, splits and curves in memory: 200 runs of 7,000 predictions take half of it
RESULTS = ("metrics.json", "model.json", "split.csv", "predictions.csv")  # of a finished run
OPTIONAL = ("about.json", "status.json", "history.csv", "steps.csv")  # no result depends on them
SMALL = (CONFIG_FILE, *JSON_FILES)
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
    def imported(self) -> bool:
        """Whether these are predictions of another tool (see `runs.imported_predictions`): no settings, no network."""
        known = _stamp(f"{self.path}/{IMPORT_FILE}") != MISSING
        return known or ("-imported-" in self.id and _stamp(f"{self.path}/{CONFIG_FILE}") == MISSING)

    @property
    def source(self) -> dict[str, Any]:
        """Where imported predictions are from (``imported.json``)."""
        return _json(self.path / IMPORT_FILE)

    @property
    def config(self) -> RunConfig:
        """The settings that were asked for. Raises RunError where config.json cannot be read."""
        config, fault = _now(_small_files, read_settings, self.path / CONFIG_FILE)
        if config is None:
            raise RunError(self.problem_of(CONFIG_FILE, fault or "it is missing"))
        return config

    @property
    def trained(self) -> RunConfig:
        """The settings that were really trained: with random weights, for example, if there were no pretrained ones.

        Equal to `config` until the network has been built. Raises RunError as `config` does.
        """
        requested = self.config
        config, fault = _now(_small_files, _read_trained, self.path / "model.json", requested)
        if fault:
            raise RunError(self.problem_of("model.json", fault))
        return config or requested

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
        known = _json(self.path / "status.json")
        state = "finished" if not known and self.metrics else "queued"
        status = {"state": state, "stage": "", "progress": 0.0, "message": "", **known}
        if status["state"] in LIVE and not self.alive():
            age = abs(time.time() - status.get("updated", 0.0))  # a clock may have been wrong
            if not status.get("starting") or age > STARTING_SECONDS:
                status["state"] = "finished" if (self.path / "metrics.json").is_file() else "lost"
        return status

    @property
    def state(self) -> str:
        """One of queued, running, finished, stopped, failed, lost."""
        return self.status["state"]

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch, columns `HISTORY_COLUMNS`; empty until the first epoch has ended."""
        return _table(self.path / "history.csv")

    @property
    def steps(self) -> pd.DataFrame:
        """Running means of loss and accuracy within epochs, columns `STEP_COLUMNS`."""
        return _table(self.path / "steps.csv")

    @property
    def split(self) -> pd.DataFrame:
        """Columns file, label, subject, part, sha256."""
        table = _table(self.path / "split.csv")
        if "file" not in table and self.published:
            cells = _table(self.path.parent / cells_name(self.config.fingerprint), CELLS)
            table = cells.assign(part=table["part"]) if len(cells) == len(table) else cells[:0]
        return table.reindex(columns=list(SPLIT_COLUMNS))

    @property
    def predictions(self) -> pd.DataFrame:
        """Columns file, label, subject, part, and ``p_<class>`` for each class."""
        return _table(self.path / "predictions.csv")

    @property
    def weights(self) -> Path:
        """Path of the trained layers; published runs include them only if they are small."""
        return self.path / "trained.weights.h5"

    @property
    def test_set(self) -> str:
        """Hash of the tested cells; runs with equal hashes can be compared cell by cell."""
        if known := self.metrics.get("test_set"):
            return known
        part = self.metrics.get("part", "test")
        return _now(_small_files, _read_test_set, self.path / "split.csv", part)[0] or cells_hash([])

    @property
    def title(self) -> str:
        """The title that was given, or else network · recipe · split · repeat, and when the user started it.

        The run's id where its settings are unknown.
        """
        if given := self.about["title"]:
            return given
        try:
            return " · ".join(filter(None, (*config_words(self.config), self.started)))
        except RunError:
            return self.id

    @property
    def started(self) -> str:
        """When the user started the run, from its id: "28 Nov 14:32"; "" for a published run."""
        if self.published or not (stamp := re.search(r"\d{8}-\d{6}", self.id)):
            return ""
        try:
            started = time.strptime(stamp[0], "%Y%m%d-%H%M%S")
        except ValueError:  # not LeukoDash named the folder
            return ""
        return f"{started.tm_mday} {time.strftime('%b %H:%M', started)}"

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the trainer's output (``log.txt``)."""
        try:
            end = with_bounded(
                self.path / "log.txt", 10**15, lambda file, size: os.pread(file, 20_000, max(0, size - 20_000))
            )
        except DamagedError:
            return ""
        return "\n".join(end.decode("utf-8", "replace").splitlines()[-lines:])

    def alive(self) -> bool:
        """Return whether the run's process is alive, waiting or training."""
        return is_held(self.path / "lock")

    @property
    def problem(self) -> str:
        """Which file is damaged or missing, and what to do, in sentences; "" if the run is whole.

        Of tables, only the ends are read, so that thousands of runs can be listed. See `full_problem`.
        """
        return _checked(self, _light_problems)

    @property
    def full_problem(self) -> str:
        """`problem`, or what is wrong inside the tables, which takes milliseconds to read."""
        return self.problem or _checked(self, _table_problems)

    def check(self) -> None:
        """Raise RunError with the `full_problem`, if there is one."""
        if words := self.full_problem:
            raise RunError(words)

    def problem_of(self, name: str, fault: str) -> str:
        """Return a sentence on a damaged file, and what to do."""
        if fault.startswith(NEWER):
            return f"{self.id}: {fault}."
        if self.published:
            remedy = "Delete the folder 'published' in the cache folder of LeukoDash, and it is unpacked again."
        elif name in OPTIONAL:
            remedy = "Restore it, or delete this one file: no result depends on it."
        elif name != "metrics.json" and file_stamp(self.path / "metrics.json") != MISSING:
            remedy = "Restore it from a backup: the results are still in the run's folder. Or delete the run."
        else:
            remedy = "Restore it from a backup, or delete the run."
        return f"'{name}' of {self.id} is damaged: {fault}. {remedy}"

    def write(self, name: str, content: Any) -> None:
        """Write a file, from bytes or as JSON, atomically and flushed to the disk.

        Raises RunError for a published run, for one whose folder is gone, and where nothing can be written.
        """
        if self.published:
            raise RunError(f"{self.title} is a published run: it comes with LeukoDash and cannot be changed.")
        if not self.path.is_dir():
            raise RunError(f"The run {self.id} is no longer there. Somebody has deleted or moved its folder.")
        with writing_runs(), replacing(self.path / name) as temporary:
            temporary.write_bytes(content if isinstance(content, bytes) else as_json(content))


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
    asked = time.time_ns()  # also the time of config.json, which `list_runs` sorts by
    request = {"starting": True, "asked": asked, "turn": turn, "updated": time.time()}
    files = {
        "config.json": stored_config(config),
        "about.json": about_texts(title=title, owner=owner, notes=notes) | {"by": by},
        "status.json": {"state": "queued", **request},
    }
    return new_run(config.backbone, {name: as_json(content) for name, content in files.items()}, prefix, asked)


def about_texts(**texts: str) -> dict[str, str]:
    """Return title, owner and notes without spaces around them. Raises RunError for one that is too long."""
    for name, text in texts.items():
        if len(text) > MAX_CHARACTERS[name]:
            limit = MAX_CHARACTERS[name]
            raise RunError(f"The {name} of a run can have {limit:,} characters, not {len(text):,}. Shorten it.")
    # Charts read HTML in names: what begins like a tag is written with a sign that only looks like one.
    return {name: re.sub(r"<(?=[A-Za-z/!?])", "‹", text.strip()) for name, text in texts.items()}


def new_run(kind: str, files: Mapping[str, bytes], prefix: str = "", asked: int | None = None) -> Run:
    """Create a run folder of these files with a unique name, ``<prefix>YYYYmmdd-HHMMSS-<kind>-<4 hex>``.

    The folder appears with all its files: a process that is killed leaves no half of it. `asked` is the time of
    ``config.json``, in ns. Raises RunError if the folder cannot be written.
    """
    with writing_runs():
        settings.checkpoints().mkdir(parents=True, exist_ok=True)
        while True:
            path = settings.checkpoints() / f"{prefix}{time.strftime('%Y%m%d-%H%M%S')}-{kind}-{secrets.token_hex(2)}"
            try:
                with replacing(path) as folder:
                    folder.mkdir()
                    for name, content in files.items():
                        (folder / name).write_bytes(content)
                    if asked:
                        os.utime(folder / "config.json", ns=(asked, asked))
                return Run(path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # these: another run of this second has the name
                    raise


@contextlib.contextmanager
def writing_runs() -> Iterator[None]:
    """Raise RunError if the block cannot write to the checkpoints folder."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            words = "The disk that runs are kept on is full. Free some space there, then try again."
        else:
            words = (
                f"Runs are kept in '{settings.checkpoints()}', which cannot be written ({error.strerror}). "
                "Set LEUKODASH_CHECKPOINTS to a folder that you can write."
            )
        raise RunError(words) from error


def run_folders(root: Path | None = None) -> list[Run]:
    """Return all runs in a folder, imported and damaged ones too, newest first.

    Within a second, they are in the order they were requested.
    """
    root = root or settings.checkpoints()
    try:
        names = [entry.name for entry in os.scandir(root) if entry.name[0] != "." and entry.is_dir()]
    except OSError:  # there is no such folder, or it cannot be read
        return []
    written = {name: _stamp(f"{root}/{name}/{CONFIG_FILE}") for name in names}
    kept = [name for name in names if written[name] != MISSING or _has_files(f"{root}/{name}")]
    return [Run(root / name) for name in sorted(kept, key=lambda name: (name[:15], *written[name]), reverse=True)]


def list_runs(root: Path | None = None) -> list[Run]:
    """Return the runs in a folder that were trained or are to be, newest first; damaged ones too (see `readable`)."""
    return [run for run in run_folders(root) if not run.imported]


def readable(runs: Iterable[Run]) -> tuple[list[Run], list[Run]]:
    """Return the runs that are whole, and those with a `problem`."""
    whole: list[Run] = []
    damaged: list[Run] = []
    for run in runs:
        (damaged if run.problem else whole).append(run)
    return whole, damaged


def published_runs() -> list[Run]:
    """Return the runs that come with LeukoDash, newest first."""
    runs = [run for folder in published_folders()[0] for run in _unchanging(folder)]
    return sorted(runs, key=lambda run: run.id, reverse=True)


def all_runs() -> list[Run]:
    """Return the user's runs and the published ones, newest first."""
    return sorted([*list_runs(), *published_runs()], key=lambda run: run.id[:15], reverse=True)


def damaged_runs() -> list[Run]:
    """Return the user's and the published runs that are damaged, imported ones too."""
    return readable([*run_folders(), *published_runs()])[1]


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
    if any((path / file).is_file() for file in (CONFIG_FILE, IMPORT_FILE)):
        return Run(path)
    runs = [*run_folders(), *published_runs()]
    found = [run for run in runs if run.id == name]
    found = found or [run for run in runs if run.id.startswith(name) or run.id.endswith(name)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(run.id for run in (found or runs)[:5]) or "none yet"
    problem = "matches several runs" if found else "is not a run"
    message = f"'{name}' {problem} under '{settings.checkpoints()}'. Give one run's id, such as: {known}."
    raise RunError(" ".join([message, *published_folders()[1]]))


def finished(runs: Iterable[Run]) -> list[Run]:
    """Return the whole runs that have results."""
    return [run for run in runs if _stamp(f"{run.path}/metrics.json") != MISSING and not run.problem]


def as_json(content: Any) -> bytes:
    """Return the content of a JSON file; NumPy's numbers and arrays, and paths, may be in it."""
    return json.dumps(content, indent=1, default=_plain).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


MISSING = (0, 0)  # the stamp of a file that does not exist


def file_stamp(path: Path) -> tuple[int, int]:
    """Return (modification time in ns, bytes) of a file, which changes with it; `MISSING` if it does not exist."""
    return _stamp(str(path))


def _stamp(path: str) -> tuple[int, int]:
    folder = path.rpartition("/")[0]
    if folder in unpacked or folder.rpartition("/")[0] in unpacked:
        return _unchanging_stamp(path)
    return _present_stamp(path)


@lru_cache(maxsize=20_000)
def _unchanging_stamp(path: str) -> tuple[int, int]:
    """Return the stamp of a published run's file. Each look at a disk would let other sessions' threads go first."""
    return _present_stamp(path)


def _present_stamp(path: str) -> tuple[int, int]:
    try:
        info = os.stat(path)  # noqa: PTH116  (a third of the time that Path takes)
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError as error:
        return -1, error.errno or 0
    return info.st_mtime_ns, info.st_size


def _stamps(paths: list[str]) -> list[tuple[int, int]]:
    return [_stamp(path) for path in paths]


def _has_files(folder: str) -> bool:
    """Whether a folder without a config.json holds imported predictions, or what is left of a run."""
    return any(_stamp(f"{folder}/{name}") != MISSING for name in (IMPORT_FILE, "metrics.json", "status.json"))


def _now(slots: Callable, read: Callable, path: Path, *more: Any) -> tuple[Any, str]:
    """Return the content of a file, None if it is missing or damaged, and what is wrong with it, in words.

    It is read again only when the file has changed.
    """
    slot, stamp = slots(read, path, *more), file_stamp(path)
    if slot[0] is None or slot[0][0] != stamp:
        content, fault = None, ""
        try:
            content = read(path, *more) if stamp != MISSING else None
        except (DamagedError, RunError) as error:
            fault = str(error).removesuffix(".")
        slot[0] = stamp, content, fault
    return slot[0][1:]


@lru_cache(maxsize=4096)
def _small_files(*_: Any) -> list:
    return [None]


@lru_cache(maxsize=50_000)
def _problems(*_: Any) -> list:
    return [None]


# (stamp of the file, the table, what is wrong with it, its bytes), by path and kind
_StampedTable = tuple[tuple[int, int], pd.DataFrame | None, str, int]
_tables = ByteCache(lambda: TABLE_BYTES, lambda table: table[3])


def _stamped_table(path: Path, kind: Table | None) -> _StampedTable:
    stamp, table, fault = file_stamp(path), None, ""
    try:
        table = read_table(path, kind) if stamp != MISSING else None
    except (DamagedError, RunError) as error:
        fault = str(error).removesuffix(".")
    return stamp, table, fault, 0 if table is None else int(table.memory_usage(deep=True).sum())


def _table_now(path: Path, kind: Table | None = None) -> tuple[pd.DataFrame | None, str]:
    """Return a table, None if it is missing or damaged, and what is wrong with it; read only when it has changed."""
    key = path, kind
    known = _tables.remember(key, lambda: _stamped_table(*key))
    if known[0] != file_stamp(path):
        known = _stamped_table(*key)
        _tables[key] = known
    return known[1], known[2]


def _json(path: Path) -> dict[str, Any]:
    return dict(_now(_small_files, read_json, path)[0] or {})


def _read_trained(path: Path, requested: RunConfig) -> RunConfig:
    return trained_config(_json(path), requested)


def _read_test_set(path: Path, part: str) -> str:
    table = read_table(path)
    return cells_hash(table.loc[table["part"] == part, "sha256"]) if "sha256" in table else ""


def _table(path: Path, kind: Table | None = None) -> pd.DataFrame:
    table, _ = _table_now(path, kind)
    if table is None:
        return pd.DataFrame(columns=list((kind or TABLES[path.name]).columns))
    # A deep copy: pandas records each shallow copy in the cached table, which slows garbage collection.
    return table.copy()


def _checked(run: Run, problems: Callable[[Run], Iterator[str]]) -> str:
    """Return the first problem of a run, looked for again only when its folder or one of the files in it has changed.

    Lists of thousands of runs ask often: a file that did not exist is not looked at, as a new one changes the folder.
    """
    folder = str(run.path)
    slot = _problems(problems, folder)
    if slot[0] is None or _stamps(slot[0][0]) != slot[0][1]:
        names = SMALL if problems is _light_problems else (*SMALL, *TABLES)
        paths = [folder, *(path for name in names if _stamp(path := f"{folder}/{name}") != MISSING)]
        slot[0] = paths, _stamps(paths), next(problems(run), "")
    return slot[0][2]


def _light_problems(run: Run) -> Iterator[str]:
    """Yield which files are missing, which of the small ones are damaged, and which tables at their ends."""
    imported, has_results = run.imported, run.state == "finished" or run.metrics != {}
    needed = {IMPORT_FILE if imported else CONFIG_FILE}
    if imported or has_results:
        needed.update(RESULTS)
        needed -= {"model.json"} if imported else set()
    for name in (*SMALL, *TABLES):
        path, fault = run.path / name, ""
        if file_stamp(path) == MISSING:
            fault = "it is missing" if name in needed else ""
        elif name in TABLES:
            try:
                check_ends(path)
            except DamagedError as error:
                fault = str(error)
        elif name != CONFIG_FILE or not imported:
            fault = _now(_small_files, read_settings if name == CONFIG_FILE else read_json, path)[1]
        if fault:
            yield run.problem_of(name, fault)
    if not imported:
        try:
            _ = run.trained
        except RunError as error:
            yield str(error)
    if run.model and run.metrics and run.model["classes"] != run.metrics["classes"]:
        yield run.problem_of("model.json", "its classes are not those of metrics.json")


def _table_problems(run: Run) -> Iterator[str]:
    """Yield what is wrong inside a run's tables."""
    for name in TABLES:
        if fault := _table_now(run.path / name)[1]:
            yield run.problem_of(name, fault)
    if metrics := run.metrics:
        answers, classes = run.predictions, metrics["classes"]
        if not {f"p_{label}" for label in classes} <= set(answers) or not answers["label"].isin(classes).all():
            yield run.problem_of("predictions.csv", "its classes are not those of metrics.json")
        tested, cells = answers[answers["part"] == metrics["part"]], run.split
        if len(tested) != metrics["n"]:
            yield run.problem_of("predictions.csv", f"it has {len(tested):,} of the {metrics['n']:,} tested cells")
        if not tested["file"].map(cells.set_index("file")["label"]).eq(tested["label"]).all():
            yield run.problem_of("split.csv", "its cells are not those of predictions.csv")
