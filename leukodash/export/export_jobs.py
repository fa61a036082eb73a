"""Export jobs of the pages: each in its own process, one at a time, with files cached for the next user.

The converters take up to several gigabytes, which are freed when the process ends. The queue lives in the server's
memory: an export takes seconds, so a restart loses little. Does not import Keras.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from leukodash import settings
from leukodash.atomic_write import write_atomic
from leukodash.cache_folder import make_room, mark_used
from leukodash.errors import LeukoDashError, RunError
from leukodash.export.export_formats import FORMATS
from leukodash.export.model_export import Exported, export
from leukodash.jobs.hardware import memory_left
from leukodash.log import record
from leukodash.runs.access import ANYONE, Actor, require
from leukodash.runs.locks import is_held
from leukodash.runs.run_folder import Run, find_run

VERSION = 1  # increase it when the files change
# Memory of an export: a constant in bytes, and a multiple of the weights; measured on five backbones of 10 to 95 MB
MEMORY_NEEDS = {"keras": (0.95e9, 5), "litert": (1.1e9, 11), "onnx": (1.0e9, 22)}

_lock = threading.Lock()
_queue: list[tuple[str, str, Path]] = []  # run folder, format, target path
_running: tuple[Path, subprocess.Popen] | None = None
_not_started: dict[Path, str] = {}  # target path → why there is no process


@dataclass(frozen=True)
class Job:
    """State of an export.

    Attributes:
        state: ``"none"``, ``"waiting"``, ``"running"``, ``"ready"`` or ``"failed"``.
        fraction: fraction done, 0 to 1.
        words: what it is doing, or why it failed.
        exported: the file, once ready.
    """

    state: str
    fraction: float = 0.0
    words: str = ""
    exported: Exported | None = None


def job_status(run: Run, format: str) -> Job:
    """Return the state of an export, and start the next one in the queue."""
    try:
        folder = _export_folder(run)
    except RunError as error:
        return Job("failed", words=str(error))
    with _lock:
        _start_next()
        queued = [target for *_, target in _queue]
        running = _running is not None and _running[0] == folder / format
    running = running or is_held(folder / f"{format}.lock")  # by another server's export
    if folder / format in queued:
        return Job("waiting", 0.0, "waiting for another export")
    if folder / format in _not_started:
        return Job("failed", words=_not_started[folder / format])
    if running:
        return Job("running", **{"fraction": 0.0, "words": "loading TensorFlow", **_read(folder / f"{format}.now")})
    return _finished_job(run, format, folder)


def _finished_job(run: Run, format: str, folder: Path) -> Job:
    result = _read(folder / f"{format}.json")
    if "error" in result:
        return Job("failed", words=result["error"])
    if result and Path(result["path"]).is_file():
        mark_used(folder)
        return Job("ready", 1.0, exported=Exported(**{**result, "path": Path(result["path"])}))
    if (log := folder / f"{format}.log").exists():
        words = f"The export of {run.title} ended early, perhaps for lack of memory or disk. Its output: {log}."
        return Job("failed", words=words)
    return Job("none")


def start_export(run: Run, format: str, actor: Actor = ANYONE) -> None:
    """Queue an export; does nothing if it is queued, running or done already.

    Raises NotAllowedError if the actor may not export, and RunError for an unknown format, a run without trained
    layers, or too little free memory: running out of it would end every session of the server.
    """
    require(actor, "export", run)
    if format not in FORMATS:
        raise RunError(f"There is no format '{format}'. Choose one of {', '.join(FORMATS)}.")
    if job_status(run, format).state in ("waiting", "running", "ready"):
        return
    folder = _export_folder(run)
    needed, left = needed_bytes(run, format), memory_left()
    if left is not None and needed > left:
        raise RunError(
            f"Making this file takes about {needed / 1e9:.1f} GB of memory, but only {max(0, left) / 1e9:.1f} GB are "
            "free here. Try later, or on a larger machine."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("json", "now", "log"):
            (folder / f"{format}.{name}").unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"Files for other programs are kept in '{folder.parent}', which cannot be written ({error.strerror}). "
            "Free some space there, or set LEUKODASH_CACHE to a folder that you can write."
        ) from error
    with _lock:
        _not_started.pop(folder / format, None)
        targets = [target for *_, target in _queue] + ([_running[0]] if _running else [])
        if folder / format not in targets:  # another session may have queued it meanwhile
            record("export", actor, run=run.id, format=format)
            _queue.append((str(run.path.resolve()), format, folder / format))
        _start_next()


def needed_bytes(run: Run, format: str) -> int:
    """Return the estimated memory of an export: TensorFlow itself, and a multiple of the weights."""
    base, times = MEMORY_NEEDS[format]
    return int(base + times * 4 * run.model.get("parameters", 0))


def _start_next() -> None:
    """Start the first queued export if none is running. Called under the lock."""
    global _running  # noqa: PLW0603  (one export per server)
    if _running is not None and _running[1].poll() is None:
        return
    _running = None
    if _queue:
        run, format, target = _queue.pop(0)
        try:
            _running = target, _process(run, format, target)
        except BlockingIOError:
            pass  # another server makes this file
        except OSError as error:
            _not_started[target] = f"The export cannot be started ({error.strerror}). Try again later."


def _process(run: str, format: str, target: Path) -> subprocess.Popen:
    """Start the process of an export. It inherits a lock, which is free as soon as the process has ended."""
    root = Path(__file__).resolve().parents[2]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "CUDA_VISIBLE_DEVICES": "-1"}  # GPUs are for training
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", __name__, run, format]
    with target.with_name(f"{format}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with target.with_name(f"{format}.log").open("wb") as log:
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
            )


def _export_folder(run: Run) -> Path:
    """Return the folder of a run's exports; training the run again changes it."""
    try:
        info = run.weights.stat()
    except OSError as error:
        raise RunError(f"{run.title} has no trained layers to export. Choose a finished run.") from error
    stamp = f"{run.path.resolve()} {info.st_mtime_ns} {info.st_size} {VERSION}"
    return settings.cache() / "exports" / hashlib.sha256(stamp.encode()).hexdigest()[:16]


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}


def main(arguments: Sequence[str]) -> int:
    """Run one export, ``python -m leukodash.export.export_jobs RUN FORMAT``; returns the exit status."""
    run, format = find_run(arguments[0]), arguments[1]
    folder = _export_folder(run)

    def progress(fraction: float, words: str) -> None:
        with contextlib.suppress(OSError):  # the page can do without
            content = json.dumps({"fraction": fraction, "words": words}).encode()
            write_atomic(folder / f"{format}.now", content, durable=False)

    try:
        with FileLock(folder.with_suffix(".lock")):
            make_room(folder, 4 * run.model.get("parameters", 0), "Exported files")
            exported = export(run, format, folder, progress)
        result = {**dataclasses.asdict(exported), "path": str(exported.path)}
    except LeukoDashError as error:
        result = {"error": str(error)}
    except Exception as error:  # noqa: BLE001  (the page must be able to report whatever a converter raises)
        traceback.print_exc()
        result = {"error": f"The {FORMATS[format].title} file of {run.title} could not be made: {_short(error)}"}
    write_atomic(folder / f"{format}.json", json.dumps(result).encode())
    return 2 if "error" in result else 0


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


if __name__ == "__main__":
    with contextlib.suppress(OSError, AttributeError):  # not available on every system
        os.nice(settings.NICE)
        Path("/proc/self/oom_score_adj").write_text("1000")  # the first process to be killed when memory runs out
    sys.exit(main(sys.argv[1:]))
