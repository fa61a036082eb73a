"""Is everything in order? Python, packages, GPU, weights, disk, data, cache, runs and settings, in sentences.

Nothing here imports TensorFlow: packages are looked up, not loaded.
"""

import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from leukodash import settings
from leukodash.cache_folder import cached_items
from leukodash.data.data_check import problem_folders
from leukodash.data.dataset import find_datasets
from leukodash.errors import WeightsError
from leukodash.jobs.estimate import LIBRARY_BYTES, size_words
from leukodash.jobs.hardware import device_names, memory_limit_bytes
from leukodash.jobs.queue import nvidia_gpus
from leukodash.models.backbones import BACKBONES, Backbone
from leukodash.models.weights import find_weights
from leukodash.runs.locks import is_held
from leukodash.runs.run_folder import readable, run_folders

PYTHONS = ((3, 11), (3, 13))  # oldest and newest that TensorFlow is published for
FREE_BYTES = 2_000_000_000  # of the disks that runs and cache are on
MEMORY_BYTES = 2_000_000_000  # for the app and one run
STUCK_SECONDS = 120  # that the first run of the queue waits although nothing trains
AHEAD_SECONDS = 120  # that a file's time may lie in the future: the clocks of two machines differ
NAMED = 5  # things that a sentence names; others are counted
INSTALL = "Run 'make app' again, or 'pip install --upgrade .' in LeukoDash's folder."


@dataclass(frozen=True)
class Finding:
    """What was found about one thing.

    Attributes:
        about: the thing.
        fine: whether it is in order.
        words: a sentence or two, with what to do if it is not.
    """

    about: str
    fine: bool
    words: str


def examine() -> list[Finding]:
    """Return what was found, problems first. Takes a second."""
    findings = [finding for check in CHECKS for finding in check()]
    return sorted(findings, key=lambda finding: finding.fine)


def _python() -> Iterator[Finding]:
    version, (oldest, newest) = sys.version_info[:2], PYTHONS
    words = f"{'.'.join(map(str, sys.version_info[:3]))}, in {sys.prefix}."
    if not oldest <= version <= newest:
        words += " TensorFlow is published for 3.11 to 3.13: install one of these, then 'make app PYTHON=python3.13'."
    yield Finding("Python", oldest <= version <= newest, words)


def _packages() -> Iterator[Finding]:
    problems = []
    for requirement in _requirements():
        found = re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement)
        if not found:  # of an extra
            continue
        name, least = found.groups()
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            problems.append(f"{name} is missing")
            continue
        if _numbers(version) < _numbers(least):
            problems.append(f"{name} is {version}, and {least} or later is needed")
    if problems:
        yield Finding("Packages", False, f"{_listed(problems, '; ')}. {INSTALL}")
    else:
        yield Finding("Packages", True, "All are there, in versions that LeukoDash works with.")


def _requirements() -> list[str]:
    try:
        return metadata.requires("leukodash") or []
    except metadata.PackageNotFoundError:  # the app runs from its folder, with the packages alone installed
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
        return project["dependencies"]


def _gpu() -> Iterator[Finding]:
    if not nvidia_gpus():
        words = f"None was found (nvidia-smi does not answer): runs train on {os.cpu_count()} processor cores."
        yield Finding("GPU", True, words)
        return
    if not any(name.startswith("gpu") for name in device_names()):
        yield Finding("GPU", True, "CUDA_VISIBLE_DEVICES hides it: runs train on the processor.")
        return
    try:
        metadata.version("nvidia-cudnn-cu12")
    except metadata.PackageNotFoundError:
        advice = f"Install them: pip install 'tensorflow[and-cuda]=={metadata.version('tensorflow')}'."
        yield Finding("GPU", False, f"There is one, but TensorFlow's CUDA libraries are missing. {advice}")
        return
    yield Finding("GPU", True, f"Runs train on {', '.join(device_names())}.")


def _weights() -> Iterator[Finding]:
    here: list[str] = []
    missing: list[str] = []
    for spec in BACKBONES.values():
        try:
            (here if _has_weights(spec) else missing).append(spec.title)
        except WeightsError as error:
            yield Finding("Weights", False, str(error))
    words = f"Here: {', '.join(here) or 'none'}."
    if missing:
        words += f" Downloaded at first use, or else replaced by random ones: {', '.join(missing)}."
    yield Finding("Weights", True, words)


def _has_weights(spec: Backbone) -> bool:
    shipped = spec.weights.shipped
    return bool(shipped and settings.asset(shipped).is_file()) or find_weights(spec) is not None


def _disks() -> Iterator[Finding]:
    for about, folder, variable in (
        ("Runs", settings.checkpoints(), "LEUKODASH_CHECKPOINTS"),
        ("Cache", settings.cache(), "LEUKODASH_CACHE"),
    ):
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            words = f"{folder} cannot be written ({error.strerror}). Set {variable} to a folder that you can write."
            yield Finding(f"Folder of the {about.lower()}", False, words)
            continue
        free = shutil.disk_usage(place).free
        words = f"{folder}, {size_words(free)} free."
        if free < FREE_BYTES:
            words += f" That is little: free some space, or set {variable} to another disk."
        yield Finding(f"Folder of the {about.lower()}", free >= FREE_BYTES, words)


def _data() -> Iterator[Finding]:
    root = settings.data_root()
    try:
        problems, datasets = problem_folders(root), find_datasets(root)
    except OSError as error:
        problems, datasets = [f"{root} cannot be read ({error.strerror}): check its permissions."], []
    for sentence in problems:
        yield Finding("Data", False, sentence)
    names = _listed([folder.name for folder in datasets]) if datasets else "none, the generated cells are used"
    yield Finding("Data", True, f"Data sets in {root}: {names}.")


def _cache() -> Iterator[Finding]:
    size, limit = sum(item.size for item in cached_items()), settings.cache_limit_bytes()
    words = f"{size_words(size)} of at most {size_words(limit)} (LEUKODASH_CACHE_GB)."
    if size > limit:
        words += " The next run makes room. If it fills up again, one run needs more than the limit: raise it."
    yield Finding("Cache", size <= limit, words)


def _runs() -> Iterator[Finding]:
    runs, damaged = readable(run_folders())
    for run in damaged:
        yield Finding("Runs", False, run.problem)
    states = {run.id: run.state for run in runs}
    if lost := [name for name, state in states.items() if state == "lost"]:
        words = f"The process of {_listed(lost)} ended unexpectedly. Resume these runs, or delete them."
        yield Finding("Runs", False, words)
    queue = settings.checkpoints() / ".queue"
    tickets = sorted(path for path in queue.glob("*_*") if path.is_file())
    dead = [path.name.partition("_")[2] for path in tickets if not is_held(path)]
    if dead:
        words = f"The queue holds a place for {_listed(dead)}, whose process is gone. The next run removes it."
        yield Finding("Queue", True, words)
    waiting = [path for path in tickets if path.name.partition("_")[2] not in dead]
    idle = "running" not in states.values()
    if waiting and idle and time.time() - waiting[0].stat().st_mtime > STUCK_SECONDS:
        first = waiting[0].name.partition("_")[2]
        words = f"{len(waiting)} runs wait although none trains. Stop the first one: python -m leukodash stop {first}"
        yield Finding("Queue", False, words)
    counts = {state: list(states.values()).count(state) for state in dict.fromkeys(states.values())}
    yield Finding("Runs", True, ", ".join(f"{count} {state}" for state, count in counts.items()) or "None yet.")


def _clock() -> Iterator[Finding]:
    latest = time.time() + AHEAD_SECONDS
    files = [run.path / name for run in run_folders() for name in ("config.json", "status.json")]
    ahead = {path.parent.name for path in files if path.is_file() and path.stat().st_mtime > latest}
    if ahead:
        words = f"It is {time.strftime('%Y-%m-%d %H:%M')} here, and files of {_listed(sorted(ahead))} are from later. "
        yield Finding("Clock", False, f"{words}Set the clock: runs are sorted and removed by time.")


def _settings() -> Iterator[Finding]:
    for sentence in settings.problems():
        yield Finding("Settings", False, sentence)
    mode = "a public demo" if settings.public() else "a class with sign-in" if settings.class_mode() else ""
    yield Finding("Settings", True, f"This is {mode}." if mode else "This is one's own machine: nothing is limited.")


def _memory() -> Iterator[Finding]:
    limit = memory_limit_bytes()
    words = f"{size_words(limit)}."
    if limit < MEMORY_BYTES:
        words += f" A run takes {size_words(LIBRARY_BYTES)} beside the app, so the app refuses to train. Allow it more."
    yield Finding("Memory", limit >= MEMORY_BYTES or settings.public(), words)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python, _packages, _gpu, _weights, _disks, _data, _cache, _runs, _clock, _settings, _memory,
)  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])


def _listed(names: list[str], separator: str = ", ") -> str:
    more = f"{separator}and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return separator.join(names[:NAMED]) + more
