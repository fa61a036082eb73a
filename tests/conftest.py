"""Fixtures shared by all tests: every test gets its own checkpoints, cache and data folders."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    for name in ("data", "checkpoints", "cache"):
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


def pytest_configure():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
