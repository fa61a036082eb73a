"""The environment that a run records: versions and hardware, checked against their own sources."""

import os
import platform
import subprocess
from pathlib import Path

import numpy
import pytest

import leukodash

pytestmark = pytest.mark.slow


def test_versions_and_hardware_are_recorded(monkeypatch):
    import keras

    from leukodash.training import environment

    monkeypatch.setattr(environment, "gpu_words", {"GPU 1": "NVIDIA H100, 3.1 of 79.6 GiB"}.get)
    record = environment.environment("cpu-0")
    assert (record["leukodash"], record["python"]) == (leukodash.__version__, platform.python_version())
    assert record["packages"]["numpy"] == numpy.__version__ and record["packages"]["keras"] == keras.__version__
    assert (record["backend"], record["cores"], record["gpu"]) == (keras.backend.backend(), os.cpu_count(), None)
    assert record["cpu"] and record["os"]
    assert environment.environment("gpu-1")["gpu"] == "NVIDIA H100"


def test_the_commit_is_that_of_the_checkout_and_there_is_none_outside(tmp_path, monkeypatch):
    from leukodash.training.environment import _commit

    git = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-C", str(tmp_path))
    (tmp_path / "leukodash").mkdir()
    module = tmp_path / "leukodash" / "__init__.py"
    module.touch()
    monkeypatch.setattr(leukodash, "__file__", str(module))
    assert _commit() is None
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "first")):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert _commit() == head
    Path(module).write_text("changed = True\n")
    assert _commit() == f"{head}-dirty"
