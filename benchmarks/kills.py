"""Processes killed with SIGKILL at random moments: is everything there that they had reported as done?

Trainers are resumed, and the end must be the same, to the bit, as without any kill: several kinds of run take turns.
Each is trained once undisturbed; then again in an empty cache, killed at a moment drawn anew after each start, until it
gets through. History, weights and predictions of the two are compared. One kind is a run of an earlier version, whose
config must stay as it was.

Whatever else writes files (`interrupted_work`) does piece after piece. After each kill a new process checks what was
reported, and goes on; the last one leaves nothing temporary behind.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from benchmarks.harness import RECIPE, ROOT, Options
from benchmarks.interrupted_work import environment, small_config
from leukodash import settings
from leukodash.config.presets import make_config
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.jobs import launch as jobs
from leukodash.runs.run_folder import LIVE, Run, create_run

KILLS, QUICK_KILLS = 40, 10  # of trainers
WORK_KILLS = {
    "import": 20, "start": 15, "about": 15, "deletion": 30, "features": 25, "cells": 20, "archives": 20, "export": 15,
}  # fmt: skip
QUICK_WORK_KILLS = 3  # of each
WORK_SECONDS = {"export": 12.0}  # within which a kill comes
EARLIER = "run of an earlier version"
KINDS = {
    "head, eight views, dropout": ("mobilenet", {"flips": "views", "head": [0.5, 64, 0.5], "epochs": 250}),
    "last block, SGD, cosine": (
        "vgg16",
        {"train_from": "block5", "optimizer": "sgd", "schedule": "cosine", "epochs": 4},
    ),
    "pixels change, last block": ("alexnet", {"train_from": "conv5", "brightness": 0.2, "rotation": 30.0, "epochs": 8}),
    "everything from random numbers": (
        "mobilenet",
        {"weights": "random", "train_from": "all", "input_size": 64, "epochs": 3},
    ),
    EARLIER: ("alexnet", {"train_from": "conv5", "epochs": 6}),
}


def wait(run: Run, seconds: float) -> bool:
    """Wait until a run ends or the time is over; returns whether it has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if run.state not in LIVE:
            return True
        time.sleep(0.02)
    return False


def kill(run: Run) -> str:
    """Kill a run's process; returns the stage that it was in."""
    status = run.status
    os.kill(status["pid"], signal.SIGKILL)
    while run.alive():
        time.sleep(0.01)
    return status["stage"] or "starting"


def weights(run: Run) -> dict[str, np.ndarray]:
    """Return every trained array by its place in the file."""
    with h5py.File(run.path / "trained.weights.h5") as file:
        return {f"{place}/{name}": file[place][name][()] for place in file for name in file[place]}


def same(one: Run, other: Run) -> bool:
    """Whether history (but for seconds), weights and predictions are equal to the bit."""
    histories = [run.history.drop(columns="seconds") for run in (one, other)]
    a, b = weights(one), weights(other)
    return (
        histories[0].equals(histories[1])
        and one.predictions.equals(other.predictions)
        and a.keys() == b.keys()
        and all(np.array_equal(a[place], b[place]) for place in a)
    )


def measure(options: Options) -> dict:
    """Kill; returns how many trainers ended the same, in which stages they were hit, and what became of other work."""
    draw, work = random.Random(0), {}
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "LEUKODASH_CHECKPOINTS": str(options.folder / "checkpoints")}
    os.environ["LEUKODASH_DATA"] = str(make_demo(options.folder / "demo", cells=160, subjects=12))
    small = jobs.start(small_config())
    wait(small, 600)
    for name, kills in WORK_KILLS.items():
        folder = options.folder / name
        if name in ("archives", "export"):
            shutil.copytree(small.path, folder / "checkpoints" / small.id)
        work[name] = interrupt(name, folder, QUICK_WORK_KILLS if options.quick else kills, draw)
        print(f"{name}: {work[name]}", flush=True)
    return kill_trainers(options, draw) | {"work": work}


def kill_trainers(options: Options, draw: random.Random) -> dict:
    """Kill and resume trainers, and compare the ends."""
    found = {"kills": 0, "resumed runs": 0, "identical": 0, "stages": {}}
    dataset = load_dataset(settings.data_root())
    undisturbed: dict[str, tuple[Run, float]] = {}
    while found["kills"] < (QUICK_KILLS if options.quick else KILLS):
        kind = list(KINDS)[found["resumed runs"] % len(KINDS)]
        backbone, changes = KINDS[kind]
        if kind not in undisturbed:
            os.environ["LEUKODASH_CACHE"] = str(options.folder / "cache")
            config = make_config("quick", backbone, dataset, **(RECIPE | changes))
            since, run = time.monotonic(), jobs.start(config)
            wait(run, 600)
            undisturbed[kind] = run, time.monotonic() - since
        whole, took = undisturbed[kind]
        os.environ["LEUKODASH_CACHE"] = str(options.folder / f"cache-{found['resumed runs']}")
        run, killed = create_run(whole.config), []
        asked = _as_earlier(run.path / "config.json") if kind == EARLIER else b""
        jobs.launch(run)
        while not wait(run, 0.3 + draw.random() * took * (1.0 if len(killed) < 12 else 5.0)):
            killed.append(kill(run))
            jobs.resume(run)
        equal = run.state == "finished" and same(whole, run)
        equal &= not asked or (run.path / "config.json").read_bytes() == asked
        found["kills"] += len(killed)
        found["resumed runs"] += 1
        found["identical"] += equal
        for stage in killed:
            found["stages"][stage] = found["stages"].get(stage, 0) + 1
        print(f"{kind}: {len(killed)} kills, {'identical' if equal else 'DIFFERENT: ' + run.state}", flush=True)
    return found


def interrupt(name: str, folder: Path, kills: int, draw: random.Random) -> dict:
    """Kill a kind of work again and again; returns how many kills, reports and problems there were.

    Args:
        name: a key of `interrupted_work.WORKS`.
        folder: its files; `archives` and `export` need a finished run in ``checkpoints``.
        kills: how often.
        draw: draws the moments.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reports: list[str] = []
    problems: list[str] = []
    for _ in range(kills):
        process, awaited = start_work(name, folder, reports), draw.choice(("ready", "done"))
        for line in process.stdout:
            _hear(line, reports, problems)
            if line.startswith(awaited):
                break
        time.sleep(draw.random() * WORK_SECONDS.get(name, 1.0))
        process.kill()
        take(process, reports, problems)
        if process.returncode != -signal.SIGKILL:
            problems.append(f"it ended by itself with status {process.returncode}")
    take(start_work(name, folder, reports, 6), reports, problems)
    return {"kills": kills, "reports": len(reports), "problems": problems}


def start_work(
    name: str, folder: Path, reports: list[str], pieces: int | None = None, prepare: Callable[[], None] | None = None
) -> subprocess.Popen:
    """Start a process of `interrupted_work`, in which `prepare` is called first; tell it what was reported before."""
    command = [sys.executable, "-m", "benchmarks.interrupted_work", name, str(folder)]
    command += [] if pieces is None else [str(pieces)]
    backend = {"KERAS_BACKEND": "numpy"} if name == "features" else {}  # which is imported in a second
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(folder) | backend, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, preexec_fn=prepare,  # noqa: PLW1509  (no threads here)
    )  # fmt: skip
    process.stdin.write("".join(f"{report}\n" for report in reports))
    process.stdin.close()
    return process


def take(process: subprocess.Popen, reports: list[str], problems: list[str]) -> None:
    """Wait for the end of a process, and add what it says; a last line without its end was being written."""
    said, errors = process.stdout.read(), process.stderr.read()
    process.wait()
    for line in said[: said.rfind("\n") + 1].splitlines():
        _hear(line, reports, problems)
    if process.returncode not in (0, -signal.SIGKILL):
        problems.append(errors.strip().splitlines()[-1])


def _hear(line: str, reports: list[str], problems: list[str]) -> None:
    kind, _, words = line.strip().partition(" ")
    if kind == "done":
        reports.append(words)
    elif kind != "ready":
        problems.append(line.strip())


def _as_earlier(path: Path) -> bytes:
    """Write a config as LeukoDash 0.1 had it; returns the bytes."""
    content = json.loads(path.read_bytes())
    del content["schema"]
    content["cut"] = content.pop("train_from")
    path.write_bytes(json.dumps(content).encode())
    return path.read_bytes()
