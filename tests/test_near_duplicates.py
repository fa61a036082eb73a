"""Images of one cell are found in any light, place, size and turn, and different cells are kept apart."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from leukodash.data import near_duplicates as module
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import demo_cell, subject_stain
from leukodash.data.near_duplicates import NearDuplicate, find_pairs, near_duplicates, picture_numbers
from leukodash.data.split import Split, find_leaks, make_split

COUNT = 60


def moved(image, scale=1.0, x=0, y=0, degrees=0):
    middle = (len(image) - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), degrees, scale)
    return cv2.warpAffine(image, matrix + np.array([[0, 0, x], [0, 0, y]]), image.shape[1::-1])


CHANGES = {
    "mirrored": lambda image: image[:, ::-1],
    "turned": lambda image: np.rot90(image, 3),
    "turned a little": lambda image: moved(image, degrees=6),
    "darker": lambda image: (image * 0.85).astype(np.uint8),
    "brighter": lambda image: (image * 1.15).clip(0, 255).astype(np.uint8),
    "shifted": lambda image: moved(image, x=8, y=-8),
    "smaller": lambda image: moved(image, 0.9),
    "larger": lambda image: moved(image, 1.1),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 1),
    "all of it": lambda image: moved((np.rot90(image[::-1]) * 0.9).astype(np.uint8), 0.93, -6, 5),
}


@pytest.fixture(scope="module")
def drawn():
    """Different cells, of several subjects."""
    cells = []
    for number in range(COUNT):
        rng = np.random.default_rng(number)
        cells.append(demo_cell(rng, number % 2 == 0, subject_stain(np.random.default_rng(number % 6)))[0])
    return cells


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_different_cells_are_not(drawn, change):
    copies = [np.ascontiguousarray(CHANGES[change](image)) for image in drawn[:20]]
    images = [*drawn, *copies]
    found = near_duplicates(len(images), images.__getitem__)
    assert [(pair.first, pair.second) for pair in sorted(found)] == [(place, COUNT + place) for place in range(20)]


def test_flat_small_and_unreadable_images_are_like_nothing():
    images = [
        *(np.full((20, 30, 3), value, np.uint8) for value in (0, 90, 90, 200)),
        None,
        np.zeros((8, 8, 3), np.uint8),
    ]
    assert near_duplicates(len(images), images.__getitem__) == []
    assert near_duplicates(1, images.__getitem__) == []


def test_pairs_are_kept_until_a_file_changes_and_a_damaged_record_is_made_anew(drawn, tmp_path, monkeypatch):
    for name, image in zip("abc", (drawn[0], drawn[0][:, ::-1], drawn[1]), strict=True):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image[..., ::-1])
    files, looked = ["c.png", "b.png", "a.png", "a.png"], []
    search = module.near_duplicates
    monkeypatch.setattr(module, "near_duplicates", lambda *args: looked.append(1) or search(*args))
    for _ in range(2):
        ((first, second, similarity),) = find_pairs(tmp_path, files, ["3", "2", "1", "1"])
        assert (first, second) == (1, 2)
        assert similarity > 0.9
    assert len(looked) == 1
    (record,) = (tmp_path / "cache" / "near_duplicates").glob("*.json")
    record.write_text("[[0, 9, 1]]")
    assert len(find_pairs(tmp_path, files, ["3", "2", "1", "1"])) == 1
    assert len(looked) == 2


def test_pictures_are_the_same_for_identical_and_for_similar_files_and_along_a_chain():
    numbers = picture_numbers(["x", "y", "x", "z", "w"], [NearDuplicate(0, 1, 0.9), NearDuplicate(1, 3, 0.9)])
    assert len(set(numbers)) == 2
    assert len({numbers[place] for place in (0, 1, 2, 3)}) == 1


def test_subjects_that_share_a_cell_are_one_person_in_splits_and_leaks(drawn, tmp_path):
    rows = []
    for number, image in enumerate([*drawn[:24], CHANGES["all of it"](drawn[0])]):
        label, subject = ("all", "hem")[number % 2], str(number // 2)
        folder = tmp_path / "cells" / label
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), np.ascontiguousarray(image[..., ::-1]))
        rows.append((f"{label}/{number}.png", f"{label} {subject}"))
    pd.DataFrame(rows, columns=["file", "subject"]).to_csv(tmp_path / "cells" / "subjects.csv", index=False)
    dataset = load_dataset(tmp_path / "cells")
    assert dataset.near_duplicates[["first", "second"]].to_numpy().tolist() == [["all/0.png", "all/24.png"]]
    merged = "all 0 = all 12"
    assert set(dataset.cells["subject"][dataset.cells["named"].isin(["all 0", "all 12"])]) == {merged}
    assert dataset.cells["subject"].nunique() == dataset.cells["named"].nunique() - 1
    for seed in range(10):
        part = make_split(dataset.cells, Split(seed=seed)).set_axis(dataset.cells["file"])
        assert part["all/0.png"] == part["all/24.png"]
    apart = pd.Series(["test" if file == "all/24.png" else "train" for file in dataset.cells["file"]])
    person, cell = find_leaks(dataset.cells, apart)
    assert (person.kind, person.subject, cell.kind, cell.subject) == ("subject", merged, "image", merged)
    assert cell.files == ("all/0.png", "all/24.png")


@pytest.mark.real
def test_the_persons_with_two_names_in_the_folds_of_cnmc_are_found(real_cnmc):
    cells = load_dataset(real_cnmc).cells
    joined = {frozenset(names) for _, names in cells.groupby("picture")["named"] if names.nunique() > 1}
    known = [("H14", "H24"), ("43", "44"), ("17", "20"), ("16", "20"), ("1", "15"), ("1", "17")]
    assert all(any(set(pair) <= names for names in joined) for pair in known)
    assert {subject for names in joined for subject in names} == {name for pair in known for name in pair}
    picture = cells.set_index(cells["file"].map(lambda file: Path(file).stem))["picture"]
    assert picture["UID_38_15_7_all"] == picture["UID_38_26_3_all"]  # the camera was turned by 6 degrees
    merged = {"H14 = H24", "43 = 44", "1 = 15 = 16 = 17 = 20"}
    assert {subject for subject in cells["subject"] if " = " in subject} == merged
