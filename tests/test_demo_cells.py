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


def test_files_have_the_names_layout_and_classes_of_c_nmc(demo):
    name = re.compile(r"fold_([012])/(all|hem)/UID_((H?)\d+)_\d+_\d+_(all|hem)\.png")
    matches = [name.fullmatch(file) for file in images(demo)]
    assert len(matches) == SMALL["cells"] and all(matches)
    assert all(match[2] == match[5] == ("hem" if match[4] else "all") for match in matches)
    assert sum(match[2] == "all" for match in matches) == 18  # more cells are blasts
    subjects = {match[3] for match in matches}
    assert subjects == {"1", "2", "3", "4", "H1", "H2", "H3", "H4"}
    assert len({(match[3], match[1]) for match in matches}) == len(subjects)  # no subject is in two folds
    assert len({(match[1], match[2]) for match in matches}) == 6  # every fold has both classes


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


def test_a_complete_demo_is_not_changed_and_its_record_says_that_it_is_generated(demo):
    before = {file: file.stat().st_mtime_ns for file in demo.rglob("*")}
    assert make_demo(demo, **SMALL) == demo
    assert {file: file.stat().st_mtime_ns for file in demo.rglob("*")} == before
    assert json.loads((demo / "generated.json").read_text()) == {"generated": True, "version": 1, **SMALL}


def test_an_empty_folder_is_filled_without_temporary_files_and_progress_increases_to_one(tmp_path):
    (tmp_path / "cells").mkdir()
    seen = []
    folder = make_demo(tmp_path / "cells", **SMALL, progress=lambda fraction, words: seen.append(fraction))
    assert len(images(folder)) == SMALL["cells"]
    assert [file.name for file in tmp_path.iterdir()] == ["cells"]
    assert seen == sorted(seen) and seen[-1] == 1


def test_folders_with_other_files_unwritable_ones_and_other_demos_are_refused_and_not_changed(demo, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for folder, seed, words in (
        (tmp_path, 5, "something other than demo cells"),
        (tmp_path / "notes.txt" / "cells", 5, "could not be written"),
        (demo, 99, "other settings"),
    ):
        with pytest.raises(DataError, match=words):
            make_demo(folder, **{**SMALL, "seed": seed})
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


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


def test_masks_belong_to_the_cell_in_the_file_and_agree_with_its_pixels(demo):
    """In the image, the cell is everything that is not black, and the nucleus absorbs green most."""
    for file in images(demo)[::5]:
        pixels = cv2.cvtColor(cv2.imread(str(demo / file)), cv2.COLOR_BGR2RGB)
        redrawn, *expected = _cell_of_file(file.rsplit("/", 1)[1], SMALL["seed"])
        nucleus, cell = demo_masks(demo, file)
        assert np.array_equal(redrawn, pixels)
        assert np.array_equal((nucleus, cell), expected)
        seen = pixels.max(axis=2) > 5
        assert (seen & cell).sum() / (seen | cell).sum() > 0.95
        assert not (nucleus & ~cell).any()
        green = pixels[..., 1].astype(float)
        assert green[nucleus].mean() < 0.8 * green[cell & ~nucleus].mean()


def test_masks_of_other_files_and_older_demos_are_refused(demo, tmp_path):
    record = json.loads((demo / "generated.json").read_text())
    (tmp_path / "generated.json").write_text(json.dumps({**record, "version": 0}))
    for folder, file, words in (
        (demo, "fold_0/all/UID_77_1_1_all.png", r"UID_77_1_1_all\.png"),
        (demo, "generated.json", r"generated\.json"),
        (tmp_path, images(demo)[0], "version 0"),
        (tmp_path / "nowhere", images(demo)[0], "contains no demo cells"),
    ):
        with pytest.raises(DataError, match=words):
            demo_masks(folder, file)


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
    colors = []
    for stain in [subject_stain(rng) for _ in range(10)]:
        drawn = [demo_cell(rng, True, stain) for _ in range(4)]
        colors.append([image[nucleus].mean(axis=0) for image, nucleus, _ in drawn])
    colors = np.array(colors)
    assert (colors.mean(axis=1).std(axis=0) > 2 * colors.std(axis=1).mean(axis=0)).all()
