import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from leukodash.data.dataset import load_dataset
from leukodash.data.split import Leak, Split, describe_split, find_leaks, held_out_in_turn, make_split
from leukodash.errors import DataError


def table(subjects, cells_each=10, folds=1):
    """Return cells of subjects named as in C-NMC (H… is hem), all images different, in alternating folds."""
    rows = [
        (f"{name}_{number}.png", "hem" if name.startswith("H") else "all", name, place % folds, f"{name}_{number}")
        for place, name in enumerate(subjects)
        for number in range(cells_each)
    ]
    return pd.DataFrame(rows, columns=["file", "label", "subject", "fold", "sha256"]).astype({"fold": "Int64"})


@pytest.fixture
def cells():
    """24 subjects of 25 cells in three folds, as in the demo."""
    blasts, normals = [str(n) for n in range(12)], [f"H{n}" for n in range(12)]
    return table([name for pair in zip(blasts, normals, strict=True) for name in pair], 25, folds=3)


@pytest.fixture
def no_subjects(cells):
    return cells.assign(subject=pd.Series([None] * len(cells), dtype=object))


def make_identical(cells, first, second):
    """Make two cells the same image."""
    cells.loc[cells["file"] == second, "sha256"] = cells.loc[cells["file"] == first, "sha256"].item()
    return cells


def part_of(cells, part, subject):
    return set(part[cells["subject"] == subject])


def shares(part):
    return part.value_counts(normalize=True)


def test_a_split_by_subject_keeps_subjects_together_and_fractions_and_has_every_class_in_every_part(cells):
    both_classes = cells.assign(subject=cells["subject"].str.removeprefix("H"))
    third = cells["subject"].isin(["3", "4", "5", "H10", "H11"])
    for some in (cells, both_classes, cells.assign(label=cells["label"].mask(third, "Pre"))):
        part = make_split(some, Split())
        assert part.groupby(some["subject"]).nunique().max() == 1
        assert find_leaks(some, part) == []
        by_class = pd.crosstab(part, some["label"])
        assert by_class.shape == (3, some["label"].nunique()) and (by_class > 0).all(axis=None)
        if some is cells:
            np.testing.assert_allclose(shares(part)[["train", "validation", "test"]], [0.65, 0.15, 0.2], atol=0.06)


@pytest.mark.parametrize("kind", ["subject", "fold", "image", "counts"])
def test_a_split_depends_on_the_seed_only(cells, kind):
    counts = (200, 20, 20) if kind == "counts" else None
    parts = [make_split(cells, Split(kind=kind, seed=seed, counts=counts)) for seed in (0, 0, 1)]
    pd.testing.assert_series_equal(parts[0], parts[1])
    assert not parts[0].equals(parts[2])


def test_three_subjects_per_class_give_every_part_every_class():
    few = table(["1", "2", "3", "H1", "H2", "H3"])
    for seed in range(10):
        part = make_split(few, Split(seed=seed))
        assert (pd.crosstab(part, few["label"]) == 10).all(axis=None)


def test_subjects_of_unequal_size_give_about_the_requested_fractions():
    sizes = np.random.default_rng(0).integers(1, 200, 40)
    names = [f"{'H' if n % 3 == 0 else ''}{n}" for n in range(40)]
    uneven = pd.concat([table([name], size) for name, size in zip(names, sizes, strict=True)], ignore_index=True)
    for seed in range(5):
        part = make_split(uneven, Split(seed=seed))
        by_class = pd.crosstab(part, uneven["label"], normalize="columns")
        assert by_class.loc["test"].between(0.14, 0.26).all()
        assert by_class.loc["validation"].between(0.09, 0.21).all()


def test_seeds_hold_out_different_subjects_within_the_tolerance():
    normals = [185, 162, 119, 108, 69, 47, 18, 18]  # of C-NMC's fold 0; the first has too many for a part of 15 %
    blasts = [402, 268, 253, 246, 155, 142, 113, 112, 103, 99, 92, 92, 11, 9]
    named = [
        *((f"H{place}", size) for place, size in enumerate(normals)),
        *zip(map(str, range(14)), blasts, strict=True),
    ]
    cells = pd.concat([table([name], size) for name, size in named], ignore_index=True)
    held_out = pd.Series(0, index=[name for name, _ in named])
    for seed in range(20):
        part = make_split(cells, Split(test=0, seed=seed))
        shares_of_validation = pd.crosstab(part, cells["label"], normalize="columns").loc["validation"]
        assert shares_of_validation.between(0.15 - 0.08, 0.15 + 0.08).all()
        held_out[cells["subject"][part == "validation"].unique()] += 1
    often = held_out[[f"H{place}" for place in range(1, 8)]]
    assert often.min() >= 1
    assert often.max() <= 10


def test_subjects_linked_by_identical_images_stay_together(cells):
    make_identical(make_identical(cells, "0_0.png", "1_0.png"), "1_1.png", "2_0.png")
    for seed in range(10):
        part = make_split(cells, Split(seed=seed))
        assert len(part_of(cells, part, "0") | part_of(cells, part, "1") | part_of(cells, part, "2")) == 1


@pytest.mark.parametrize(
    ("hem_cells", "fractions"),
    [
        ([5, 5], {"test": 0}),
        ([5, 5, 10], {"test": 0.5, "validation": 0.2}),  # half are of the first two subjects, which would leave one
    ],
)
def test_every_class_is_in_every_part_where_only_as_many_subjects_have_it(hem_cells, fractions):
    names = [str(number) for number in range(6)]  # 40 blasts each; the first also have these numbers of normal cells
    normals = [table([name], count).assign(label="hem") for name, count in zip(names, hem_cells, strict=False)]
    cells = pd.concat([table(names, 40), *normals], ignore_index=True)
    cells["sha256"] = cells.index.astype(str)
    for seed in range(5):
        part = make_split(cells, Split(seed=seed, **fractions))
        assert sorted(pd.crosstab(part, cells["label"])["hem"]) == hem_cells


def test_cells_that_cannot_be_split_are_refused_with_what_is_missing(cells, no_subjects):
    six, fold = ["1", "2", "3", "H1", "H2", "H3"], Split(kind="fold")
    few_cells = pd.DataFrame({"label": ["all"] * 2 + ["hem"] * 20})
    for refused, split, sentence in (
        (table(six[:5]), Split(), r"needs 3 or more subjects of every class.*'hem' has 2"),
        (table(["1", "2", "H1"]), Split(test=0), r"needs 2 or more subjects of every class.*'hem' has 1"),
        (make_identical(table(six), "H1_0.png", "H2_0.png"), Split(), "'hem' has 2"),
        (no_subjects, Split(), r"split by image, or add a subjects.csv"),
        (cells, Split(kind="fold", test_fold=7), "no fold 7 to test on: the data set has 0, 1, 2"),
        (cells.assign(fold=pd.array([pd.NA] * len(cells), "Int64")), fold, "two or more fold folders"),
        (cells.assign(fold=cells["fold"].mask(cells.index == 0)), fold, "two or more fold folders"),
        (cells[(cells["fold"] != 2) | (cells["label"] == "all")], fold, "Fold 2 has no cell of 'hem'"),
        (
            cells[~cells["subject"].isin([f"H{n}" for n in range(4, 12)])],
            Split(folds=5),
            "5 or more subjects.*'hem' has 4",
        ),
        (few_cells, Split(kind="image"), "'all' has too few cells for all parts"),
        (few_cells, Split(kind="counts", counts=(10, 2, 2)), "'all' has too few cells for all parts"),
    ):
        with pytest.raises(DataError, match=sentence):
            make_split(refused, split)
    make_split(table(["1", "2", "H1", "H2"]), Split(test=0))


@pytest.mark.parametrize("kind", ["subject", "image"])
def test_validation_is_a_fraction_of_all_cells_and_a_test_fraction_of_zero_gives_no_test_part(cells, kind):
    halves = make_split(cells, Split(kind=kind, test=0.5, validation=0.25))
    assert shares(halves).to_dict() == {"test": 0.5, "train": 0.25, "validation": 0.25}
    part = make_split(cells, Split(kind=kind, test=0, validation=0.25))
    assert set(part) == {"train", "validation"}
    assert shares(part)["validation"] == pytest.approx(0.25, abs=0.02)


def test_a_fold_is_the_whole_test_part(cells):
    for test_fold, split in ((2, Split(kind="fold")), (0, Split(kind="fold", test_fold=0))):
        part = make_split(cells, split)
        assert ((part == "test") == (cells["fold"] == test_fold)).all()
        assert set(part) == {"train", "validation", "test"}
        assert find_leaks(cells, part) == []


def test_cells_of_subjects_in_the_test_fold_are_not_used(cells):
    in_fold = cells.groupby("subject")["fold"].first()
    tested, other, joined = (in_fold.index[in_fold == fold][0] for fold in (2, 0, 1))
    cells.loc[cells["file"] == f"{other}_0.png", "fold"] = 2  # one cell of this subject is in the test fold
    make_identical(cells, f"{tested}_3.png", f"{joined}_4.png")
    part = make_split(cells, Split(kind="fold"))
    assert part_of(cells, part, other) == {"test", "unused"}
    assert part_of(cells, part, joined) == {"unused"}
    assert (part == "unused").sum() == 24 + 25
    assert find_leaks(cells, part) == []


def test_folds_without_subjects_are_split_by_image(no_subjects):
    make_identical(no_subjects, "2_0.png", "0_0.png")  # folds 1 and 0
    part = make_split(no_subjects, Split(kind="fold", test_fold=1))
    assert part[no_subjects["file"] == "0_0.png"].item() == "unused"
    assert set(part[no_subjects["fold"] == 0]) == {"train", "validation", "unused"}


def test_a_split_by_image_reproduces_mamaevs_numbers(cells):
    # Mamaev 2023: 2,397 ALL and 1,130 normal cells, 80/20: 2,822 in training and 705 in validation.
    fold_0 = pd.DataFrame({"label": ["all"] * 2397 + ["hem"] * 1130})
    part = make_split(fold_0, Split(kind="image", validation=0.2, test=0))
    assert part.value_counts().to_dict() == {"train": 2822, "validation": 705}
    leaks = find_leaks(cells, make_split(cells, Split(kind="image")))
    assert {leak.subject for leak in leaks} == set(cells["subject"])


def test_a_split_by_counts_reproduces_dhuri_and_guindes_numbers():
    cnmc = pd.DataFrame({"label": ["all"] * 7272 + ["hem"] * 3389})
    part = make_split(cnmc, Split(kind="counts", counts=(6036, 70, 70)))
    counts = pd.crosstab(part, cnmc["label"])
    assert counts.loc["train"].to_list() == [3018, 3018]
    assert counts.loc["validation"].to_list() == counts.loc["test"].to_list() == [35, 35]


@pytest.mark.parametrize(
    ("counts", "available", "expected"),
    [
        ((6036, 70, 70), 1544, (1508, 18, 18)),
        ((6036, 70, 70), 100, (98, 1, 1)),
        ((6036, 70, 70), 3, (1, 1, 1)),
        ((240, 120, 40), 50, (30, 15, 5)),
    ],
)
def test_too_few_cells_keep_the_proportions_of_the_counts(counts, available, expected):
    few = pd.DataFrame({"label": ["all"] * available + ["hem"] * (available + 5)})
    found = pd.crosstab(make_split(few, Split(kind="counts", counts=counts)), few["label"])
    for part, number in zip(("train", "validation", "test"), expected, strict=True):
        assert found.loc[part].to_list() == [number, number]
    assert found.loc["unused"].to_list() == [0, 5]


@pytest.mark.parametrize(
    ("split", "parts"),
    [
        (Split(kind="counts", counts=(1, 1, 0)), ["train", "validation"]),
        (Split(kind="image", validation=0.001, test=0.001), ["validation", "test"]),
    ],
)
def test_the_smallest_parts_have_one_cell_of_each_class(no_subjects, split, parts):
    by_class = pd.crosstab(make_split(no_subjects, split), no_subjects["label"])
    assert by_class.loc[parts].to_numpy().tolist() == [[1, 1], [1, 1]]


def test_the_parts_have_the_index_of_the_cells(cells):
    some = cells.sample(frac=0.8, random_state=0)
    for kind in ("subject", "fold", "image"):
        part = make_split(some, Split(kind=kind))
        assert (part.index == some.index).all()
        assert part.name == "part"
    assert find_leaks(some, make_split(some, Split())) == []


def test_leaks_are_found_among_used_cells_and_of_identical_images_without_subjects(no_subjects):
    cells = table(["1", "2", "3", "H1"], cells_each=2)
    make_identical(cells, "2_1.png", "3_1.png")
    part = pd.Series(["test", "train", "train", "train", "unused", "validation", "test", "unused"])
    assert find_leaks(cells, part) == [
        Leak("subject", "1", ("train", "test"), ("1_1.png", "1_0.png")),
        Leak("image", "2 = 3", ("train", "validation"), ("2_1.png", "3_1.png")),
    ]
    make_identical(no_subjects, "0_0.png", "H5_3.png")
    part = pd.Series("train", index=no_subjects.index).mask(no_subjects["file"] == "H5_3.png", "test")
    assert find_leaks(no_subjects, part) == [Leak("image", None, ("train", "test"), ("0_0.png", "H5_3.png"))]


def test_a_split_is_described_for_a_badge(cells, no_subjects):
    by_subject = make_split(cells, Split())
    tested = cells["subject"][by_subject == "test"].nunique()
    assert describe_split(cells, by_subject, "subject") == f"split by subject · {tested} test subjects"
    by_image = make_split(cells, Split(kind="image"))
    assert describe_split(cells, by_image, "image") == "split by image · 24 of 24 test subjects also in training"
    counts = make_split(no_subjects, Split(kind="counts", counts=(400, 20, 20)))
    expected = "balanced split by image · 20 test cells, subjects unknown"
    assert describe_split(no_subjects, counts, "counts") == expected
    assert describe_split(cells, by_image.replace("test", "train"), "image") == "split by image · no test part"
    one = pd.Series("train", index=cells.index).mask(cells["subject"] == "3", "test")
    assert describe_split(cells, one, "subject") == "split by subject · 1 test subject"


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "patient"},
        {"validation": 0},
        {"validation": 0.5, "test": 0.2},
        {"test": 1},
        {"kind": "counts"},
        {"counts": (10, 1, 1)},
        {"kind": "counts", "counts": (10, 0, 1)},
        {"test_fold": 1},
        {"folds": 1},
        {"folds": 5, "test_fold": 5},
        {"folds": 5, "kind": "image"},
        {"folds": 2, "validation": 0.3},
        {"seed": -1},
        {"fraction": 0.1},
    ],
)
def test_invalid_settings_are_refused(fields):
    with pytest.raises(ValidationError):
        Split(**fields)


def test_a_split_can_be_stored_as_json():
    split = Split(kind="counts", counts=(6036, 70, 70), seed=3)
    assert Split.model_validate_json(split.model_dump_json()) == split


def in_folds(cells, folds, **settings):
    return [make_split(cells, Split(folds=folds, test_fold=number, **settings)) for number in range(folds)]


def test_folds_of_subjects_test_every_cell_once(cells):
    parts = in_folds(make_identical(cells, "0_0.png", "1_0.png"), 5)
    assert (np.sum([part == "test" for part in parts], axis=0) == 1).all()
    for part in parts:
        assert find_leaks(cells, part) == []
        assert (pd.crosstab(part, cells["label"]) > 0).all(axis=None)
        np.testing.assert_allclose(shares(part)["test"], 0.2, atol=0.05)
    assert make_split(cells, Split(folds=5)).equals(parts[0])
    assert not make_split(cells, Split(folds=5, seed=1)).equals(parts[0])


def test_every_subject_of_some_cells_is_held_out_once(cells):
    make_identical(cells, "0_0.png", "1_0.png")
    rows = np.flatnonzero(cells["fold"] != 2)[::-1]
    some = cells.iloc[rows]
    fold = held_out_in_turn(cells, rows)
    assert (np.unique(fold) == np.arange(5)).all()
    assert (pd.crosstab(fold, some["label"]) > 0).all(axis=None)
    assert pd.Series(fold).groupby(some["subject"].to_numpy()).nunique().max() == 1
    assert len(set(fold[some["subject"].isin(["0", "1"])])) == 1
    assert (held_out_in_turn(cells, rows) == fold).all()
    assert (held_out_in_turn(cells, rows, seed=1) != fold).any()


def test_there_are_as_many_folds_as_the_rarest_class_has_subjects_and_two_or_more(cells, no_subjects):
    rows = np.flatnonzero((cells["label"] == "all") | cells["subject"].isin(["H0", "H1", "H2"]))
    assert set(held_out_in_turn(cells, rows)) == {0, 1, 2}
    make_identical(cells, "H0_0.png", "H1_0.png")
    assert set(held_out_in_turn(cells, rows)) == {0, 1}
    make_identical(cells, "H0_1.png", "H3_1.png")  # which is not among the rows, and links them all the same
    make_identical(cells, "H2_0.png", "H3_0.png")
    with pytest.raises(DataError, match=r"two or more subjects of every class .* 'hem' has one"):
        held_out_in_turn(cells, rows)
    make_identical(no_subjects, "0_0.png", "H5_3.png")
    fold = held_out_in_turn(no_subjects, np.arange(len(no_subjects)), folds=3)
    assert (np.bincount(fold) == len(fold) / 3).all()
    assert len(set(fold[no_subjects["file"].isin(["0_0.png", "H5_3.png"])])) == 1


@pytest.mark.real
def test_real_cells_leak_by_image_and_not_by_subject_and_folds_test_each_of_them_once(real_cnmc):
    cells = load_dataset(real_cnmc).cells
    folds = in_folds(cells, 5)
    assert (np.sum([part == "test" for part in folds], axis=0) == 1).all()
    seeds = [make_split(cells, Split(seed=seed)) for seed in range(3)]
    for parts, low, high in ((folds, 0.1, 0.35), (seeds, 0.16, 0.25)):
        for part in parts:
            assert find_leaks(cells, part) == []
            assert (part == "test").groupby(cells["label"]).mean().between(low, high).all()
    leaks = find_leaks(cells, make_split(cells, Split(kind="image")))
    assert {leak.kind for leak in leaks} == {"subject", "image"}


def test_the_share_of_the_test_part_follows_from_the_folds():
    assert Split(folds=5).test_share == pytest.approx(0.2)
    assert Split(test=0.3).test_share == pytest.approx(0.3)
