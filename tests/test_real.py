"""On real C-NMC cells, with real ImageNet weights: a frozen network learns more than how large a cell is."""

import shutil

import numpy as np
import pandas as pd
import pytest

from leukodash.__main__ import main
from leukodash.data.dataset import load_dataset
from leukodash.data.split import find_leaks
from leukodash.runs.run_folder import list_runs

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def some_cells(tmp_path_factory, pytestconfig):
    """1,600 of the 7,108 cells, half of each fold and of each class, laid out as C-NMC is."""
    from conftest import SHARED

    source = SHARED / "data" / "cnmc"
    if not source.is_dir():
        pytest.skip("../shared/data/cnmc is not on this machine")
    folder = tmp_path_factory.mktemp("real") / "cells"
    for fold in ("fold_0", "fold_1"):
        for label in ("all", "hem"):
            files = sorted((source / fold / label).glob("*.webp"))
            for place in np.linspace(0, len(files) - 1, 400).astype(int):
                target = folder / fold / label / files[place].name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(files[place], target)
    return folder


def test_a_solved_head_on_a_frozen_mobilenet_beats_cell_area_on_subjects_it_never_saw(
    some_cells, real_weights, capsys, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    settings = ["split.kind=fold", "split.test_fold=1"]
    command = ["train", "--data", str(some_cells), "--backbone", "mobilenet", "--preset", "recommended"]
    assert main(command + [word for setting in settings for word in ("--set", setting)]) == 0
    (run,) = list_runs()
    assert run.metrics["n"] == 800 and run.metrics["leaks"] == 0
    assert not run.metrics["random_start"] and not run.metrics["generated"]
    assert run.metrics["roc_auc"] > run.metrics["area_auc"] > 0.8
    assert run.metrics["accuracy"] > 0.75

    unseen = run.predictions[run.predictions["part"] == "test"].head(20)
    files = [str(some_cells / file) for file in unseen["file"]]
    csv = some_cells.parent / "classified.csv"
    assert main(["classify", *files, "--run", run.id, "--csv", str(csv)]) == 0
    assert np.allclose(pd.read_csv(csv)["p_all"], unseen["p_all"], atol=1e-4)


def test_the_whole_of_both_folds_is_read_and_known_subjects_are_apart(real_cnmc):
    dataset = load_dataset(real_cnmc)
    counts = dataset.cells.groupby(["fold", "label"])["subject"].agg(["size", "nunique"])
    assert counts["size"].tolist() == [2397, 1130, 2418, 1163]
    assert counts["nunique"].tolist() == [16, 9, 11, 3]  # of 19 numbers of patients in fold 0, four are one person
    leaks = find_leaks(dataset.cells, dataset.cells["fold"].map("fold {}".format))
    people = {"1 = 15 = 16 = 17 = 20", "43 = 44", "H14 = H24"}
    found = {(leak.kind, leak.subject) for leak in leaks}
    assert found == {(kind, person) for kind in ("subject", "image") for person in people}
