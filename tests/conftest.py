"""Fixtures shared by all tests: every test gets its own checkpoints, cache and data folders."""

import os
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
from pretend_weights import write_pretend_weights
from trained_runs import train_here

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    for name in ("data", "checkpoints", "published", "cache"):
        monkeypatch.setenv(f"LEUKODASH_{name.upper()}", str(tmp_path / name))
    for name in ("LEUKODASH_WEIGHTS", "LEUKODASH_PUBLIC", "LEUKODASH_CLASS", "LEUKODASH_CPU_SLOTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def _shared(folder):
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"../shared/{folder} is not on this machine")
    return path


@pytest.fixture
def real_cnmc(tmp_path, tmp_path_factory):
    """Folds 0 and 1 of C-NMC. Their near-duplicates are looked for once for all tests, which takes half a minute."""
    folder = _shared("data/cnmc")
    base = tmp_path_factory.getbasetemp()
    kept = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "near_duplicates"
    kept.mkdir(exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "near_duplicates").symlink_to(kept)
    return folder


@pytest.fixture
def real_weights(monkeypatch):
    path = _shared("weights")
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(path))
    return path


@pytest.fixture
def two_cells(tmp_path):
    """A data set of two cells with subjects; no file of it is ever opened."""
    from leukodash.data.dataset import Dataset

    table = pd.DataFrame(
        {"file": ["a", "b"], "label": ["all", "hem"], "subject": ["1", "H1"], "fold": [0, 0], "sha256": ["x", "y"]}
    )
    return Dataset(root=tmp_path, name="cells", cells=table, fingerprint="f" * 64, generated=False)


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A data set of 60 generated cells of 8 subjects."""
    from leukodash.data.dataset import load_dataset
    from leukodash.data.demo_cells import make_demo

    return load_dataset(make_demo(tmp_path_factory.mktemp("data") / "demo", cells=60, subjects=8))


@pytest.fixture
def app_demo(demo, own_folders, monkeypatch):
    """The few demo cells in the app's data folder, in place of the 600 that the app draws."""
    import streamlit as st

    from leukodash import settings
    from leukodash.data.dataset import load_dataset

    st.cache_resource.clear()  # it outlives a test, and the folders in it do not
    monkeypatch.setattr("leukodash.app.common.make_demo", lambda folder: folder)
    return load_dataset(shutil.copytree(demo.root, settings.data_root() / "demo"))


@pytest.fixture(scope="session")
def _train_once(tmp_path_factory):
    """Return a function that trains a tiny run in this process, once a session for the same settings and weights."""
    folder = tmp_path_factory.mktemp("tiny")
    trained = {}

    def train(settings):
        pretrained = os.environ.get("LEUKODASH_WEIGHTS") if settings["weights"] == "imagenet" else None
        key = repr(sorted(settings.items())), pretrained
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
def classifier(tiny_run):
    """Return a function that loads a tiny run, trained with these settings, as a classifier."""
    from leukodash.inference.classifier import load

    return lambda **settings: load(tiny_run(**settings))


@pytest.fixture
def cells(tiny_run):
    """Return the paths of the tiny run's test cells."""
    run = tiny_run()
    rows = run.predictions.query("part == 'test'")
    return [Path(run.config.data) / file for file in rows["file"]]


@pytest.fixture(scope="session")
def pretend_weights_folder(tmp_path_factory):
    """A folder of weight files for AlexNet and MobileNet that nobody trained."""
    return write_pretend_weights(tmp_path_factory.mktemp("pretend") / "weights")


@pytest.fixture
def pretend_weights(pretend_weights_folder, monkeypatch):
    """Random weights in the place where pretrained ones are looked for."""
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(pretend_weights_folder))


@pytest.fixture
def train(demo, monkeypatch):
    """Train a run in this process, as its own process would, and return it."""
    from leukodash.config.presets import make_config
    from leukodash.runs.run_folder import create_run
    from leukodash.training.__main__ import main

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    handler = signal.getsignal(signal.SIGTERM)

    def run(run=None, **changes):
        small = {"input_size": 64, "epochs": 3, "batch_size": 8}
        if run is None:
            run = create_run(make_config("quick", "alexnet", demo, **(small | changes)))
        main(run.path)
        return run

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def drawn_demo(tmp_path_factory):
    """The demo cells as the app draws them on the first visit; drawn once for all workers."""
    from leukodash.data.demo_cells import make_demo

    shared = tmp_path_factory.getbasetemp()
    return make_demo((shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "drawn" / "demo")


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright; for tests marked `browser`."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if not program:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as p:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = p.chromium.launch(executable_path=program, args=arguments, timeout=120_000)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, tmp_path):
    """An empty page of desktop size; at the end of the test no exception may stand on it. Leaves a screenshot."""
    from app import PAGE_SECONDS, SIZES

    context = browser.new_context(viewport=SIZES["desktop"])
    context.set_default_timeout(1000 * PAGE_SECONDS)
    page = context.new_page()
    yield page
    page.screenshot(path=tmp_path / "end.png", full_page=True)
    exceptions = page.locator("[data-testid=stException]").all_inner_texts()
    context.close()
    assert not exceptions


def pytest_addoption(parser):
    parser.addoption("--screenshots", action="store_true", help="write the README's screenshots, docs/screenshots")


def pytest_configure():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
