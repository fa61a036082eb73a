"""The archives of published runs: unpacked once, listed beside the user's runs, and never changed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import made_run, publish

from leukodash import settings
from leukodash.__main__ import main
from leukodash.errors import NotAllowedError, RunError
from leukodash.jobs import launch
from leukodash.runs import trash
from leukodash.runs.published_runs import SUFFIX, published_folders, write_archive
from leukodash.runs.run_folder import all_runs, find_run, list_runs, published_runs

ROOT = Path(__file__).resolve().parents[1]


def test_published_runs_are_listed_beside_the_users_runs_newest_first():
    (published,) = publish(made_run("vgg16", when="20260102-120000"))
    older, newer = made_run(when="20260101-120000"), made_run(when="20260103-120000")
    assert list_runs() == [newer, older]
    assert published_runs() == [published]
    assert all_runs() == [newer, published, older]
    assert [run.published for run in all_runs()] == [False, True, False]
    assert find_run(published.id[-10:]) == published
    assert published.metrics["n"] == len(published.predictions.query("part == 'test'")) == 70


def test_a_published_run_cannot_be_renamed_resumed_or_deleted(capsys):
    (run,) = publish(made_run())
    for action, done in ((trash.discard, "deleted"), (launch.resume, "resumed")):
        with pytest.raises(NotAllowedError, match=f"MobileNet .* is a published run.* cannot be {done}"):
            action(run)
    with pytest.raises(RunError, match="cannot be changed"):
        run.write("about.json", {"title": "Mine"})
    for command in (["delete"], ["resume"], ["about", "--title", "Mine"]):
        assert main([command[0], run.id, *command[1:]]) == 2
        assert "is a published run" in capsys.readouterr().err
    assert find_run(run.id).about["title"] == ""


def test_the_archives_that_come_with_leukodash_hold_the_published_runs(monkeypatch):
    monkeypatch.delenv("LEUKODASH_PUBLISHED")
    assert published_folders()[1] == []
    runs = published_runs()
    assert len(runs) == 55
    assert all(run.metrics and run.config.fingerprint for run in runs)
    assert len(runs[0].split) == 7108


def test_the_same_files_give_the_same_archive_in_any_order(tmp_path):
    files = {"b/x.csv": b"1", "a/x.csv": b"2", "a/y.csv": b"3"}
    for name, order in (("one", list(files)), ("two", sorted(files))):
        write_archive(tmp_path / name, {path: files[path] for path in order})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "no archive"])
def test_a_damaged_archive_is_named_and_the_others_are_read(damage):
    publish(made_run("vgg16"))
    (good,) = publish(made_run())
    archive = next(settings.published().glob(f"*vgg16*{SUFFIX}"))
    content = archive.read_bytes()
    middle = len(content) // 2
    changed = content[:middle] + bytes(byte ^ 255 for byte in content[middle : middle + 50]) + content[middle + 50 :]
    damaged = {"cut": content[:middle], "changed": changed, "emptied": b"", "no archive": b"<html>" * 100}
    archive.write_bytes(damaged[damage])
    for _ in range(2):
        folders, problems = published_folders()
        assert len(folders) == len(problems) == 1
        assert problems[0].startswith(f"The published runs in '{archive.name}' cannot be read")
        assert published_runs() == [good]
    assert not list((settings.cache() / "published").glob(".*"))


def test_a_cache_that_cannot_be_written_gives_a_sentence_and_leaves_the_users_runs(tmp_path, monkeypatch):
    publish(made_run("vgg16"))
    own = made_run()
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEUKODASH_CACHE", str(tmp_path / "file"))
    assert "cannot be read" in published_folders()[1][0]
    assert all_runs() == [own]
    with pytest.raises(RunError, match=r"published runs in .* cannot be read"):
        find_run("vgg16")


def test_what_a_killed_process_left_behind_is_removed():
    (run,) = publish(made_run())
    folder = run.path.parent
    shutil.rmtree(folder)
    leftover = folder.with_name(f".{folder.name}.1-2")
    leftover.mkdir()
    assert published_runs() == [run]
    assert not leftover.exists()


@pytest.mark.slow
def test_the_results_page_is_made_from_the_published_runs(monkeypatch, tmp_path):
    monkeypatch.delenv("LEUKODASH_PUBLISHED")
    assert main(["study", "--write", str(tmp_path / "results.md")]) == 0
    docs = ROOT / "docs"
    for made in (tmp_path / "results.md", *(tmp_path / "results").iterdir()):
        assert made.read_bytes() == (docs / made.relative_to(tmp_path)).read_bytes()


@pytest.mark.slow
def test_thirty_processes_unpack_an_archive_once():
    (run,) = publish(*(made_run(seed=seed) for seed in range(1)))
    shutil.rmtree(settings.cache())
    code = "from leukodash.runs.run_folder import published_runs as p; r = p(); print(len(r), r[0].path.stat().st_ino)"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) for _ in range(30)]
    outputs = {process.communicate()[0] for process in processes}
    assert outputs == {f"1 {run.path.stat().st_ino}\n".encode()}
