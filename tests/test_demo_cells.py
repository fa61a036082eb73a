import json
import re

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from leukodash.data.demo_cells import (
    IMAGE_SIZE,
    _cell_counts,
    _cell_of_file,
    demo_cell,
    demo_masks,
    make_demo,
    subject_stain,
)
from leukodash.errors import DataError

SMALL = {"cells": 30, "subjects": 8, "seed": 5}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo(tmp_path_factory.mktemp("demo") / "cells", **SMALL)


def images(folder):
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.png"))


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_files_have_the_names_and_layout_of_c_nmc(demo):
    name = re.compile(r"fold_[012]/(all|hem)/UID_(H?)\d+_\d+_\d+_(all|hem)\.png")
    matches = [name.fullmatch(file) for file in images(demo)]
    assert len(matches) == SMALL["cells"] and all(matches)
    assert all(match[1] == match[3] == ("hem" if match[2] else "all") for match in matches)


def test_more_cells_are_blasts_and_half_of_the_subjects_are_healthy(demo):
    files = images(demo)
    assert sum("/all/" in file for file in files) == 18
    subjects = {file.split("_")[2] for file in files}
    assert subjects == {"1", "2", "3", "4", "H1", "H2", "H3", "H4"}


def test_every_fold_has_both_classes_and_its_own_subjects(demo):
    folds = {}
    for file in images(demo):
        folds.setdefault(file.split("_")[2], set()).add(file.split("/")[0])
    assert all(len(of_subject) == 1 for of_subject in folds.values())
    assert {file.rsplit("/", 1)[0] for file in images(demo)} == {
        f"fold_{fold}/{label}" for fold in range(3) for label in ("all", "hem")
    }


@pytest.mark.parametrize(("cells", "subjects"), [(12, 6), (100, 7), (600, 24)])
def test_every_subject_has_a_cell(cells, subjects):
    counts = _cell_counts(np.random.default_rng(0), cells, subjects)
    assert len(counts) == subjects and sum(counts.values()) == cells and min(counts.values()) >= 1


def test_images_are_square_color_cells_on_black(demo):
    for file in images(demo)[:6]:
        image = cv2.imread(str(demo / file), cv2.IMREAD_UNCHANGED)
        assert image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3) and image.dtype == np.uint8
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert not border.any()
        assert 0.05 < (image.max(axis=2) > 5).mean() < 0.5


def test_files_depend_on_the_seed_only(demo, tmp_path):
    assert contents(make_demo(tmp_path / "again", **SMALL)) == contents(demo)
    other = make_demo(tmp_path / "other", **{**SMALL, "seed": 6})
    assert (demo / images(demo)[0]).read_bytes() != (other / images(other)[0]).read_bytes()


def test_the_record_says_that_the_cells_are_generated(demo):
    record = json.loads((demo / "generated.json").read_text())
    assert record == {"generated": True, "version": 1, **SMALL}


def test_a_complete_demo_is_not_changed(demo):
    before = {file: file.stat().st_mtime_ns for file in demo.rglob("*")}
    assert make_demo(demo, **SMALL) == demo
    assert {file: file.stat().st_mtime_ns for file in demo.rglob("*")} == before


def test_an_empty_folder_is_filled_without_temporary_files(tmp_path):
    (tmp_path / "cells").mkdir()
    folder = make_demo(tmp_path / "cells", **SMALL)
    assert len(images(folder)) == SMALL["cells"]
    assert [file.name for file in tmp_path.iterdir()] == ["cells"]


def test_a_folder_with_other_files_is_refused_and_not_changed(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="something other than demo cells"):
        make_demo(tmp_path, **SMALL)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_demo_with_other_settings_is_refused(demo):
    with pytest.raises(DataError, match="other settings"):
        make_demo(demo, **{**SMALL, "seed": 99})


@pytest.mark.parametrize("wrong", [{"subjects": 5}, {"cells": 15}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(DataError, match="at least 6 subjects"):
        make_demo(tmp_path / "cells", **{**SMALL, **wrong})
    assert not (tmp_path / "cells").exists()


def test_an_interrupted_demo_leaves_no_folder(tmp_path):
    def stop(fraction, words):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path / "cells", **SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be written"):
        make_demo(tmp_path / "file" / "cells", **SMALL)


def test_progress_increases_to_one(tmp_path):
    seen = []
    make_demo(tmp_path / "cells", **SMALL, progress=lambda fraction, words: seen.append(fraction))
    assert seen == sorted(seen) and seen[-1] == 1


def test_masks_belong_to_the_cell_in_the_file(demo):
    for file in images(demo)[::7]:
        pixels = cv2.cvtColor(cv2.imread(str(demo / file)), cv2.COLOR_BGR2RGB)
        redrawn, nucleus, cell = _cell_of_file(file.rsplit("/", 1)[1], SMALL["seed"])
        assert np.array_equal(redrawn, pixels)
        for mask, expected in zip(demo_masks(demo, file), (nucleus, cell), strict=True):
            assert np.array_equal(mask, expected)


def test_masks_agree_with_the_pixels(demo):
    """In the image, the cell is everything that is not black, and the nucleus absorbs green most."""
    for file in images(demo)[::5]:
        nucleus, cell = demo_masks(demo, file)
        image = cv2.imread(str(demo / file))
        seen = image.max(axis=2) > 5
        assert (seen & cell).sum() / (seen | cell).sum() > 0.95
        assert not (nucleus & ~cell).any()
        green = image[..., 1].astype(float)
        assert green[nucleus].mean() < 0.8 * green[cell & ~nucleus].mean()


@pytest.mark.parametrize("file", ["fold_0/all/UID_77_1_1_all.png", "generated.json"])
def test_masks_of_other_files_are_refused(demo, file):
    with pytest.raises(DataError, match=re.escape(file)):
        demo_masks(demo, file)


def test_masks_of_an_older_demo_are_refused(demo, tmp_path):
    record = json.loads((demo / "generated.json").read_text())
    (tmp_path / "generated.json").write_text(json.dumps({**record, "version": 0}))
    with pytest.raises(DataError, match="version 0"):
        demo_masks(tmp_path, images(demo)[0])
    with pytest.raises(DataError, match="contains no demo cells"):
        demo_masks(tmp_path / "nowhere", images(demo)[0])


def test_classes_differ_and_overlap_in_size_nucleus_and_chromatin():
    rng = np.random.default_rng(0)
    blasts = np.arange(120) % 2 == 0
    area, share, roughness = [], [], []
    for blast in blasts:
        image, nucleus, cell = demo_cell(rng, bool(blast), subject_stain(rng))
        area.append(cell.sum())
        share.append(nucleus.sum() / cell.sum())
        density = -np.log(np.maximum(image[..., 1], 1) / 172)
        inside = cv2.erode(nucleus.astype(np.uint8), np.ones((9, 9))) > 0
        roughness.append(density[inside].std() / density[inside].mean())
    assert 0.65 < roc_auc_score(blasts, area) < 0.95
    assert 0.6 < roc_auc_score(blasts, share) < 0.98
    assert 0.6 < roc_auc_score(~blasts, roughness) < 0.98


def test_stain_varies_more_between_than_within_subjects():
    rng = np.random.default_rng(1)

    def mean_color(stain):
        image, nucleus, _ = demo_cell(rng, True, stain)
        return image[nucleus].mean(axis=0)

    colors = []
    for _ in range(10):
        stain = subject_stain(rng)
        colors.append([mean_color(stain) for _ in range(4)])
    colors = np.array(colors)
    assert (colors.mean(axis=1).std(axis=0) > 2 * colors.std(axis=1).mean(axis=0)).all()
