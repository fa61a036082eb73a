"""Runs killed with SIGKILL at random moments and resumed: is the end the same, to the bit, as without any kill?

Several kinds of run take turns. Each is trained once undisturbed; then again in an empty cache, killed at a moment
drawn anew after each start, until it gets through. History, weights and predictions of the two are compared.
"""

import os
import random
import signal
import time

import h5py
import numpy as np

from benchmarks.harness import RECIPE, Options
from leukodash.config.presets import make_config
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.jobs import launch as jobs
from leukodash.runs.run_folder import LIVE, Run

KILLS, QUICK_KILLS = 50, 10
KINDS = {
    "head, eight views, dropout": ("mobilenet", {"flips": "views", "head": [0.5, 64, 0.5], "epochs": 250}),
    "last block, SGD, cosine": (
        "vgg16",
        {"train_from": "block5", "optimizer": "sgd", "schedule": "cosine", "epochs": 4},
    ),
    "pixels change, last block": ("alexnet", {"train_from": "conv5", "brightness": 0.2, "rotation": 30.0, "epochs": 8}),
    "everything from random numbers": ("mobilenet", {"weights": "random", "input_size": 64, "epochs": 3}),
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
    """Kill, resume, compare; returns how many ended the same, and in which stages they were hit."""
    draw = random.Random(0)
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "LEUKODASH_CHECKPOINTS": str(options.folder / "checkpoints")}
    found = {"kills": 0, "resumed runs": 0, "identical": 0, "stages": {}}
    dataset = load_dataset(make_demo(options.folder / "demo", cells=160, subjects=12))
    undisturbed: dict[str, tuple[Run, float]] = {}
    while found["kills"] < (QUICK_KILLS if options.quick else KILLS):
        kind = list(KINDS)[found["resumed runs"] % len(KINDS)]
        backbone, settings = KINDS[kind]
        if kind not in undisturbed:
            os.environ["LEUKODASH_CACHE"] = str(options.folder / "cache")
            config = make_config("quick", backbone, dataset, **(RECIPE | settings))
            since, run = time.monotonic(), jobs.start(config)
            wait(run, 600)
            undisturbed[kind] = run, time.monotonic() - since
        whole, took = undisturbed[kind]
        os.environ["LEUKODASH_CACHE"] = str(options.folder / f"cache-{found['resumed runs']}")
        run, killed = jobs.start(whole.config), []
        while not wait(run, 0.3 + draw.random() * took * (1.0 if len(killed) < 12 else 5.0)):
            killed.append(kill(run))
            jobs.resume(run)
        equal = run.state == "finished" and same(whole, run)
        found["kills"] += len(killed)
        found["resumed runs"] += 1
        found["identical"] += equal
        for stage in killed:
            found["stages"][stage] = found["stages"].get(stage, 0) + 1
        print(f"{kind}: {len(killed)} kills, {'identical' if equal else 'DIFFERENT: ' + run.state}", flush=True)
    return found
