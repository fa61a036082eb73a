"""Processes killed at random moments, a few of those of ``python -m benchmarks kills``."""

import random
import shutil

import pytest
from made_runs import made_run

from benchmarks.kills import interrupt, start_work, take

pytestmark = pytest.mark.slow
KILLS = {"import": 2, "deletion": 3, "features": 2, "archives": 1}


@pytest.mark.parametrize("work", KILLS)
def test_what_was_reported_as_done_outlives_kills(work, tmp_path):
    if work == "archives":
        run = made_run()
        shutil.copytree(run.path, tmp_path / "work" / "checkpoints" / run.id)
    found = interrupt(work, tmp_path / "work", KILLS[work], random.Random(7))
    assert not found["problems"]
    assert found["reports"] > 6  # more than the last process, which is not killed, does


def test_a_file_that_is_lost_is_noticed(tmp_path):
    reports, problems = [], []
    take(start_work("import", tmp_path, reports, 2), reports, problems)
    assert (len(reports), problems) == (2, [])
    (tmp_path / "checkpoints" / reports[0] / "predictions.csv").unlink()
    take(start_work("import", tmp_path, reports, 0), reports, problems)
    assert problems[0] == f"problem {reports[0]} lacks predictions.csv"
