"""Fixtures shared by all tests: every test gets its own checkpoints, cache and data folders."""

import os
import shutil
from pathlib import Path

import pytest
from trained_runs import train_here

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    for name in ("data", "checkpoints", "published", "cache"):
        monkeypatch.setenv(f"LEUKODASH_{name.upper()}", str(tmp_path / name))
    for name in ("LEUKODASH_WEIGHTS", "LEUKODASH_PUBLIC", "LEUKODASH_RAY_ADDRESS", "LEUKODASH_CPU_SLOTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def _shared(folder):
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"../shared/{folder} is not on this machine")
    return path


@pytest.fixture
def real_cnmc():
    return _shared("data/cnmc")


@pytest.fixture
def real_weights(monkeypatch):
    path = _shared("weights")
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(path))
    return path


@pytest.fixture(scope="session")
def _train_once(tmp_path_factory):
    """Return a function that trains a tiny run in this process, once a session for the same settings."""
    folder = tmp_path_factory.mktemp("tiny")
    trained = {}

    def train(settings):
        key = repr(sorted(settings.items()))
        if key not in trained:
            trained[key] = train_here(folder, cells=24, subjects=6, **settings).path
        return trained[key]

    return train


@pytest.fixture
def tiny_run(_train_once, own_folders):
    """Return a function that gives a finished run of two epochs, from random weights, on 24 generated cells.

    AlexNet by default: it is trained in three seconds, and tells cells apart even then, where a network with batch
    normalization still gives them all the same answer. The run lies in the test's own checkpoints folder, so the
    test may change it. Mark such tests `slow`.
    """
    from leukodash.runs.run_folder import Run

    def make(backbone="alexnet", **settings):
        common = {"weights": "random", "input_size": 64, "epochs": 2, "batch_size": 8}
        source = _train_once({**common, "backbone": backbone, **settings})
        copy = Path(os.environ["LEUKODASH_CHECKPOINTS"]) / source.name
        if not copy.exists():
            shutil.copytree(source, copy)
        return Run(copy)

    return make


@pytest.fixture
def cells(tiny_run):
    """Return the paths of the tiny run's test cells."""
    run = tiny_run()
    rows = run.predictions.query("part == 'test'")
    return [Path(run.config.data) / file for file in rows["file"]]


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright; for tests marked `browser`."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if not program:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as p:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = p.chromium.launch(executable_path=program, args=arguments)
        yield chromium
        chromium.close()


def pytest_configure():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
