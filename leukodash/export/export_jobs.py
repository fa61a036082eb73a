"""Exports that a page asks for: each in a process of its own, one at a time, and kept for whoever asks next.

The converters take up to some gigabytes, which a process gives back when it ends. The line of those that wait is in the
server's memory: an export takes seconds, so a restart loses little. Light: no Keras.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from leukodash import settings
from leukodash.atomic_write import write_atomic
from leukodash.errors import LeukoDashError, RunError
from leukodash.export.export_formats import FORMATS
from leukodash.export.model_export import Exported, export
from leukodash.runs.run_folder import Run, find_run

VERSION = 1  # raise it when the same run gives another file
KEPT_BYTES = 3_000_000_000  # of files in the cache; beyond it the oldest go
# Bytes that every export takes, and how many times over the weights; measured on five backbones, 10 to 95 MB large
NEEDS = {"keras": (0.95e9, 5), "litert": (1.1e9, 11), "onnx": (1.0e9, 22)}

_lock = threading.Lock()
_waiting: list[tuple[str, str, Path]] = []  # run's folder, format, place
_child: tuple[Path, subprocess.Popen] | None = None


@dataclass(frozen=True)
class Job:
    """How far an export is.

    Attributes:
        state: ``"none"``, ``"waiting"``, ``"running"``, ``"ready"`` or ``"failed"``.
        fraction: share that is done, 0 to 1.
        words: what it is doing, or why it failed.
        exported: the file, once it is ready.
    """

    state: str
    fraction: float = 0.0
    words: str = ""
    exported: Exported | None = None


def look(run: Run, format: str) -> Job:
    """Say how far an export is, and let the next in line begin."""
    try:
        place = _place(run)
    except RunError as error:
        return Job("failed", words=str(error))
    with _lock:
        _advance()
        ahead = [there for *_, there in _waiting]
        running = _child is not None and _child[0] == place / format
    if place / format in ahead:
        return Job("waiting", 0.0, "waits for another export to end")
    if running:
        return Job("running", **{"fraction": 0.0, "words": "loading TensorFlow", **_read(place / f"{format}.now")})
    return _ended(run, format, place)


def _ended(run: Run, format: str, place: Path) -> Job:
    result = _read(place / f"{format}.json")
    if "error" in result:
        return Job("failed", words=result["error"])
    if result and Path(result["path"]).is_file():
        return Job("ready", 1.0, exported=Exported(**{**result, "path": Path(result["path"])}))
    log = place / f"{format}.log"
    if log.exists():
        words = f"The export of {run.title} ended before it was done, perhaps for lack of memory. Its output: {log}."
        return Job("failed", words=words)
    return Job("none")


def start(run: Run, format: str) -> None:
    """Ask for an export; does nothing where somebody has asked already.

    Raises RunError for an unknown format, a run without trained layers, and where too little memory is left: a server
    that runs out of it takes everybody's session along.
    """
    if format not in FORMATS:
        raise RunError(f"There is no format '{format}'. Choose one of {', '.join(FORMATS)}.")
    if look(run, format).state in ("waiting", "running", "ready"):
        return
    place = _place(run)
    needed, left = needed_bytes(run, format), memory_left()
    if left is not None and needed > left:
        raise RunError(
            f"Making this file takes about {needed / 1e9:.1f} GB of memory, and {max(0, left) / 1e9:.1f} GB are left "
            "here. Try later, or on a larger machine."
        )
    place.mkdir(parents=True, exist_ok=True)
    for name in ("json", "now", "log"):
        (place / f"{format}.{name}").unlink(missing_ok=True)
    with _lock:
        asked = [there for *_, there in _waiting] + ([_child[0]] if _child else [])
        if place / format not in asked:  # by somebody else, in this moment
            _waiting.append((str(run.path.resolve()), format, place / format))
        _advance()


def needed_bytes(run: Run, format: str) -> int:
    """Return about how much memory an export takes: TensorFlow itself, and the weights so many times over."""
    base, times = NEEDS[format]
    return int(base + times * 4 * run.model.get("parameters", 0))


def memory_left(control: Path = Path("/sys/fs/cgroup"), machine: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes that processes here can still take, in a container too; None where the system does not tell."""
    left = []
    for limit, used, inactive in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError):  # the other version of control groups, or "max": no limit
            bound, taken = int((control / limit).read_text()), int((control / used).read_text())
            cached = (control / used).with_name("memory.stat").read_text().split()
            left.append(bound - taken + int(cached[cached.index(inactive) + 1]))
    with contextlib.suppress(OSError, ValueError):
        words = machine.read_text().split()
        left.append(1024 * int(words[words.index("MemAvailable:") + 1]))
    return min(left, default=None)


def _advance() -> None:
    """Spawn the first in line where nothing runs. Called under the lock."""
    global _child  # noqa: PLW0603  (one export a server, whoever asks)
    if _child is not None and _child[1].poll() is None:
        return
    _child = None
    if _waiting:
        folder, format, there = _waiting.pop(0)
        root = Path(__file__).resolve().parents[2]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "CUDA_VISIBLE_DEVICES": "-1"}  # GPUs are for training
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        with there.with_name(f"{format}.log").open("wb") as log:
            command = [sys.executable, "-m", __name__, folder, format]
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _child = there, process


def _place(run: Run) -> Path:
    """Return the folder of a run's files; another one when the run is trained again."""
    weights = run.weights
    try:
        info = weights.stat()
    except OSError as error:
        raise RunError(f"{run.title} has no trained layers to export. Choose a finished run.") from error
    stamp = f"{run.path.resolve()} {info.st_mtime_ns} {info.st_size} {VERSION}"
    return settings.cache() / "exports" / hashlib.sha256(stamp.encode()).hexdigest()[:16]


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}


def _make_room(newest: Path) -> None:
    """Delete the oldest folders of files until those that are left fit; never the newest."""
    folders = [path for path in newest.parent.iterdir() if path.is_dir()]
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in folders}
    total = sum(sizes.values())
    for path in sorted(sizes.keys() - {newest}, key=lambda path: path.stat().st_mtime):
        if total > KEPT_BYTES:
            shutil.rmtree(path, ignore_errors=True)
            total -= sizes[path]


def main(arguments: Sequence[str]) -> int:
    """Run one export, ``python -m leukodash.export.export_jobs RUN FORMAT``; returns the exit status."""
    run, format = find_run(arguments[0]), arguments[1]
    place = _place(run)

    def progress(fraction: float, words: str) -> None:
        write_atomic(place / f"{format}.now", json.dumps({"fraction": fraction, "words": words}).encode())

    try:
        done = export(run, format, place, progress)
        result = {**dataclasses.asdict(done), "path": str(done.path)}
    except LeukoDashError as error:
        result = {"error": str(error)}
    except Exception as error:  # noqa: BLE001  (whatever a converter raises, the page must be able to say so)
        traceback.print_exc()
        result = {"error": f"The {FORMATS[format].title} file of {run.title} could not be made: {_short(error)}"}
    write_atomic(place / f"{format}.json", json.dumps(result).encode())
    _make_room(place)
    return 2 if "error" in result else 0


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def _yield_to_others() -> None:
    """Leave the processor to pages, and where memory runs out end this process rather than the app."""
    with contextlib.suppress(OSError, AttributeError):  # not every system has them
        os.nice(settings.NICE)
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    _yield_to_others()
    sys.exit(main(sys.argv[1:]))
