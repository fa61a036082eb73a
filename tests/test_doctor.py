"""The doctor: a sentence on each thing that is wrong, with what to do, and nothing where all is well."""

import os
import re
import subprocess
import sys
import time

import pytest
from apptest import open_page, texts, widget
from filelock import FileLock
from made_runs import made_run

from leukodash import settings
from leukodash.__main__ import main
from leukodash.jobs import doctor
from leukodash.jobs.doctor import examine


@pytest.fixture
def problems(monkeypatch):
    """Return a function that gives the problems found, by what they are about."""
    for name, least in (("FREE_BYTES", 0), ("MEMORY_BYTES", 0)):  # a small machine may run these tests
        monkeypatch.setattr(doctor, name, least)
    return lambda: {finding.about: finding.words for finding in reversed(examine()) if not finding.fine}


def test_a_new_installation_has_no_problem(problems, capsys):
    assert problems() == {}
    assert main(["doctor"]) == 0
    assert not re.search("^PROBLEM", capsys.readouterr().out, re.MULTILINE)


def test_problems_come_first_and_the_exit_status_is_2(problems, monkeypatch, capsys):
    monkeypatch.setenv("LEUKODASH_PUBLIC", "maybe")
    assert main(["doctor"]) == 2
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "PROBLEM Settings: LEUKODASH_PUBLIC is 'maybe', which counts as on: set it to 1, or to 0 for off."
    assert len(others) > 8
    assert all(line.startswith("ok ") for line in others)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("LEUKODASH_CLASS", "si", "LEUKODASH_CLASS is 'si'"),
        ("LEUKODASH_CACHE_GB", "twenty", "LEUKODASH_CACHE_GB is 'twenty', which is no number"),
        ("LEUKODASH_CACHE_GB", "nan", "which is no number above zero: the default is used"),
        ("LEUKODASH_CPU_SLOTS", "-1", "LEUKODASH_CPU_SLOTS is '-1'"),
    ],
)
def test_a_variable_that_is_not_understood_is_named(problems, monkeypatch, variable, value, words):
    default = settings.cache_limit_bytes(), settings.cpu_slots()
    monkeypatch.setenv(variable, value)
    assert words in problems()["Settings"]
    assert (settings.cache_limit_bytes(), settings.cpu_slots()) == default


def test_two_modes_at_once_are_named(problems, monkeypatch):
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    monkeypatch.setenv("LEUKODASH_CLASS", "1")
    assert "both on, and only the first counts" in problems()["Settings"]


def test_old_and_missing_packages_are_named(problems, monkeypatch):
    wanted = ["click>=99.1", "no-such-package>=1", "numpy>=1.2", 'pytest>=99; extra == "dev"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    words = problems()["Packages"]
    assert re.match(r"click is [\d.]+, and 99.1 or later is needed; no-such-package is missing\. Run 'make app'", words)


def test_a_gpu_without_cuda_libraries_is_named(problems, monkeypatch):
    version = doctor.metadata.version

    def installed(name):
        if name.startswith("nvidia"):
            raise doctor.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor, "nvidia_gpus", lambda: 1)
    monkeypatch.setattr(doctor, "device_names", lambda: ("gpu-0",))
    monkeypatch.setattr(doctor.metadata, "version", installed)
    assert f"pip install 'tensorflow[and-cuda]=={version('tensorflow')}'" in problems()["GPU"]


def test_damaged_weights_are_named(problems, tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "nasnet_mobile_no_top.h5").write_bytes(b"other")
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  nasnet_mobile_no_top.h5\n")
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(folder))
    assert "nasnet_mobile_no_top.h5 is damaged" in problems()["Weights"]


def test_folders_that_cannot_be_written_and_full_disks_are_named(problems, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(doctor, "FREE_BYTES", 10**18)
    found = problems()
    assert all("free some space" in found[f"Folder of the {each}"] for each in ("runs", "cache"))
    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", _refuse)
    assert problems()["Folder of the cache"].endswith(
        "cannot be written (Read-only file system). Set LEUKODASH_CACHE to a folder that you can write."
    )


def _refuse(**_):
    raise OSError(30, "Read-only file system")


def test_a_folder_that_is_no_data_set_is_named(problems):
    (settings.data_root() / "cells" / "blast").mkdir(parents=True)
    assert "cells" in problems()["Data"]


def test_a_cache_over_its_limit_is_named(problems, monkeypatch):
    store = settings.cache() / "cells" / "a.npy"
    store.parent.mkdir(parents=True)
    store.write_bytes(bytes(3_000_000))
    monkeypatch.setenv("LEUKODASH_CACHE_GB", "0.001")
    assert "The next run makes room" in problems()["Cache"]


def test_damaged_and_lost_runs_and_files_of_the_future_are_named(problems):
    damaged, lost = made_run("mobilenet"), made_run("vgg16")
    (damaged.path / "config.json").write_text("{")
    lost.write("status.json", {"state": "running"})
    (lost.path / "metrics.json").unlink()
    tomorrow = time.time() + 86400
    os.utime(lost.path / "status.json", (tomorrow, tomorrow))
    words = [finding.words for finding in examine() if not finding.fine]
    assert any(sentence.startswith(f"'config.json' of {damaged.id} is damaged") for sentence in words)
    assert f"The process of {lost.id} ended unexpectedly. Resume these runs, or delete them." in words
    assert any(f"files of {lost.id} are from later" in sentence for sentence in words)


def test_a_queue_that_does_not_move_is_named(problems):
    queue = settings.checkpoints() / ".queue"
    queue.mkdir(parents=True)
    for number, name in enumerate(("dead-run", "waiting-run")):
        ticket = queue / f"{number:06d}-{0:020d}_{name}"
        with FileLock(ticket):
            pass
        ticket.touch()
        os.utime(ticket, (1, 1))
    with FileLock(ticket, thread_local=False):
        assert problems()["Queue"].endswith("Stop the first one: python -m leukodash stop waiting-run")
        assert any("dead-run, whose process is gone" in finding.words for finding in examine())


def test_little_memory_is_named(problems, monkeypatch):
    monkeypatch.setattr(doctor, "MEMORY_BYTES", 10**18)
    assert "refuses to train" in problems()["Memory"]


def test_the_doctor_loads_no_deep_learning_library():
    code = "import sys\nfrom leukodash.__main__ import main\nmain(['doctor'])\n"
    code += "print(sorted({'tensorflow', 'keras', 'jax', 'streamlit'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


def test_the_data_page_offers_the_check_except_where_others_would_read_it(app_demo, monkeypatch):
    monkeypatch.setenv("LEUKODASH_CPU_SLOTS", "none")
    page = open_page("data")
    widget(page.button, "Check this installation").click().run()
    assert "LEUKODASH_CPU_SLOTS is 'none'" in texts(page)
    for variable in ("LEUKODASH_PUBLIC", "LEUKODASH_CLASS"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "1")
            assert "in order" not in "".join(each.value for each in open_page("data").subheader)


def test_an_app_that_is_not_installed_but_runs_from_its_folder_is_checked_too(problems, monkeypatch):
    def not_installed(name):
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", not_installed)
    assert "click>=8.2" in doctor._requirements()
    assert problems() == {}
