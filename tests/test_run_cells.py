"""The cells of a run are found in another copy of its data set: by C-NMC's names, else by their bytes."""

import shutil

import cv2
import numpy as np
import pytest
from made_runs import made_run, publish

from leukodash import settings
from leukodash.data.dataset import cnmc_name, load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.data.split import Split, make_split
from leukodash.evaluation.simple_baselines import AREA
from leukodash.export.model_export import check_cells
from leukodash.inference.sample_cells import unseen_cells
from leukodash.runs.baseline_predictions import predict_baselines
from leukodash.runs.leaderboard import image_paths, leaderboard
from leukodash.runs.run_cells import cell_identities, cell_paths, data_of, leaks_of


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Cells named like C-NMC's, as if they were real."""
    folder = make_demo(tmp_path_factory.mktemp("drawn") / "cnmc", cells=96, subjects=12)
    (folder / "generated.json").unlink()
    return folder


def a_run(folder, number=0, kind="subject", **config):
    dataset = load_dataset(folder)
    cells = dataset.cells.assign(part=make_split(dataset.cells, Split(kind=kind))).drop(columns="fold")
    config = {"data": folder.name, "fingerprint": dataset.fingerprint, "input_size": 64, **config}
    return made_run(cells=cells, seed=number, config=config)


def as_bmp(folder, target):
    """Write the cells out as a user has them: BMP files of other bytes, in the cancer archive's folders."""
    for file in folder.rglob("*.*"):
        if file.suffix in (".png", ".webp"):
            copy = target / "C-NMC_training_data" / file.relative_to(folder).with_suffix(".bmp")
            copy.parent.mkdir(parents=True, exist_ok=True)
            image = cv2.imread(str(file))
            cv2.imwrite(str(copy.with_name(copy.name.replace("UID_H", "UID_h"))), image)
    return target


def test_leaks_of_an_older_run_are_counted_with_those_who_share_a_cell_as_one_person(cells, tmp_path):
    folder = tmp_path / "data" / "twins"
    shutil.copytree(cells, folder)
    (one, other), blasts = ("1", "2"), sorted(folder.rglob("UID_*_all.png"))
    first = next(file for file in blasts if file.name.startswith(f"UID_{one}_"))
    second = next(file for file in blasts if file.name.startswith(f"UID_{other}_"))
    cv2.imwrite(str(second), cv2.imread(str(first))[:, ::-1])
    dataset = load_dataset(folder)
    part = dataset.cells["named"].map({one: "train", other: "test", "H1": "test"}).fillna("validation")
    older = dataset.cells.assign(subject=dataset.cells["named"], part=part)[
        ["file", "label", "subject", "part", "sha256"]
    ]
    run = made_run(cells=older)
    assert run.metrics["leaks"] == 0
    assert leaks_of(run) == 2  # the person, and the cell
    assert "2 leaks between parts" in leaderboard([run])["marks"][0]
    shutil.rmtree(settings.cache() / "near_duplicates")
    assert leaks_of(run) == 0  # as the run says


def test_a_cell_has_one_name_whatever_its_folder_and_format():
    assert cnmc_name("fold_0/hem/UID_h3_1_2_hem.bmp") == cnmc_name("x/UID_H3_1_2_HEM.webp") == "UID_H3_1_2_HEM"
    assert cnmc_name("UID_3_1_hem.bmp") is None


def test_cells_of_a_published_run_are_found_in_a_users_copy_of_other_bytes(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "asset", lambda name: tmp_path)  # one of the made names is that of a sample cell
    (run,) = publish(a_run(cells))
    assert data_of(run) is None
    assert cell_paths(run, run.split["file"]) == {}
    assert unseen_cells([run]).empty
    make_demo(settings.data_root() / "demo", cells=96, subjects=12)  # generated cells have C-NMC's names as well
    copy = as_bmp(cells, settings.data_root() / "my C-NMC")
    assert data_of(run) == copy
    tested = run.predictions.query("part == 'test'")["file"]
    paths = image_paths([run], list(tested))
    assert list(paths) == list(tested)
    for file, path in paths.items():
        assert path.suffix == ".bmp"
        assert np.array_equal(cv2.imread(str(path)), cv2.imread(str(cells / file)))
    assert list(unseen_cells([run])["path"]) == list(paths.values())
    own = a_run(cells, data=str(cells))
    assert np.array_equal(predict_baselines(run, tested)[AREA].test, predict_baselines(own, tested)[AREA].test)
    assert np.array_equal(check_cells(run, 64), check_cells(own, 64))


def test_cells_that_come_later_are_found(cells):
    (run,) = publish(a_run(cells))
    copy = as_bmp(cells, settings.data_root() / "mine")
    missing = next(copy.rglob("*_all.bmp"))
    kept = missing.read_bytes()
    missing.unlink()
    assert len(cell_paths(run, run.split["file"])) == 95
    missing.write_bytes(kept)
    assert len(cell_paths(run, run.split["file"])) == 96


def test_a_copy_of_the_users_run_counts_as_training_cells_of_the_published_one(cells):
    """Cells are the same cell in both formats, so what one run was trained on is no sample for the other."""
    (published,) = publish(a_run(cells))
    copy = as_bmp(cells, settings.data_root() / "mine")
    own = a_run(copy, number=1, data=str(copy))
    assert set(cell_identities(own.split)) == set(cell_identities(published.split))
    assert len(unseen_cells([published, own])) == len(unseen_cells([own])) == len(unseen_cells([published])) > 0
    other = a_run(copy, number=2, kind="image", data=str(copy))
    trained = cell_identities(other.split.query("part != 'test'"))
    found = cell_identities(unseen_cells([published, other]))
    assert len(found) > 0
    assert not set(found) & set(trained)


def test_cells_of_other_names_are_found_by_their_bytes(tmp_path):
    data = make_demo(tmp_path / "drawn", cells=48, subjects=6)
    own = a_run(data, data=str(data))
    own.write("metrics.json", own.metrics | {"generated": True})
    assert data_of(own) == data
    copy = settings.data_root() / "moved"
    for number, file in enumerate(sorted(data.rglob("*.png"))):
        target = copy / file.parent.name / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    shutil.copy(data / "generated.json", copy)
    originals = {file: (data / file).read_bytes() for file in own.split["file"]}
    shutil.rmtree(data)
    assert data_of(own) == copy
    paths = cell_paths(own, originals)
    assert {file: path.read_bytes() for file, path in paths.items()} == originals


@pytest.mark.real
def test_galleries_and_samples_of_published_runs_find_the_original_cells_as_bmp(real_cnmc, monkeypatch, tmp_path):
    from leukodash.runs.run_folder import published_runs

    monkeypatch.delenv("LEUKODASH_PUBLISHED")
    copy = as_bmp(real_cnmc.parent / "cnmc-original", settings.data_root() / "C-NMC_Leukemia")
    assert len(list(copy.rglob("*.bmp"))) == 204
    for run in [run for run in published_runs() if run.config.data == "cnmc"][::30]:
        assert data_of(run) == copy
        split = run.split
        paths = cell_paths(run, split["file"])
        assert len(paths) == 204
        samples = unseen_cells([run])
        tested = split.loc[split["part"] == run.metrics["part"], "file"]
        assert list(samples["file"]) == [file for file in tested if file in paths]
        for file, path in image_paths([run], list(samples["file"][:5])).items():
            resized = cv2.resize(cv2.imread(str(path)), (320, 320), interpolation=cv2.INTER_AREA)
            assert np.array_equal(cv2.imread(str(real_cnmc / file)), resized)
