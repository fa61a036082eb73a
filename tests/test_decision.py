"""Sample cells, decisions, summaries and overlay files, without a network."""

import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from made_runs import METRICS

from leukodash.cam.overlay_files import OverlayStyle, write_overlays
from leukodash.config.run_config import RunConfig
from leukodash.evaluation.calibration import Temperature
from leukodash.inference.answer_summary import (
    cell_groups,
    decision_words,
    disagreements,
    display_order,
    percent,
    summary,
)
from leukodash.inference.decision import AVERAGE, apply_decisions, average_decision, decision, novel_positions
from leukodash.inference.sample_cells import draw_samples, sample_cells, unseen_cells
from leukodash.runs.run_folder import create_run


def fake_run(rows, part="test", data="."):
    """A run folder with a split of (file, label, part, content) and a result, without a network."""
    run = create_run(RunConfig(data=str(data), backbone="mobilenet"))
    table = pd.DataFrame(rows, columns=["file", "label", "part", "sha256"]).assign(subject="1")
    table.to_csv(run.path / "split.csv", index=False)
    run.write("metrics.json", {**METRICS, "part": part})
    return run


A = ("a", "all", "test", "A")


@pytest.mark.parametrize(
    ("splits", "part", "files"),
    [
        ([], "test", []),
        ([[A, ("b", "hem", "test", "B"), ("c", "all", "test", "C")]], "test", ["a", "b", "c"]),
        ([[A, ("b", "hem", "test", "B")], [A, ("b", "hem", "train", "B")]], "test", ["a"]),
        ([[A, ("c", "hem", "test", "C")], [A, ("c", "hem", "unused", "C")]], "test", ["a"]),
        ([[A, ("copy of b", "hem", "test", "B"), ("b", "hem", "train", "B")]], "test", ["a"]),
        ([[("a", "all", "validation", "A"), ("b", "hem", "train", "B")]], "validation", ["a"]),
    ],
    ids="no-run one-run trained-on-by-another not-tested-by-another same-bytes-as-trained-on no-test-part".split(),
)
def test_samples_are_cells_that_all_runs_were_tested_on_and_none_was_trained_on(splits, part, files, tmp_path):
    runs = [fake_run(rows, part, tmp_path) for rows in splits]
    cells = unseen_cells(runs)
    assert list(cells["file"]) == files
    assert list(cells["path"]) == [tmp_path / file for file in files]


def test_without_the_data_set_the_samples_are_those_that_come_with_leukodash(tmp_path):
    run = fake_run([A], data=tmp_path / "gone")
    assert unseen_cells([run]).empty
    shipped, unseen = sample_cells([run])
    assert not unseen
    assert shipped["label"].value_counts().to_dict() == {"all": 24, "hem": 24}
    assert all(path.is_file() for path in shipped["path"])


def test_samples_alternate_between_classes_and_are_reproducible_by_seed(tmp_path):
    rows = [(f"{i}", "hem" if i % 5 == 0 else "all", "test", f"{i}") for i in range(50)]
    cells = unseen_cells([fake_run(rows, data=tmp_path)])
    drawn = draw_samples(cells, 8, seed=3)
    assert list(drawn["label"]) == ["all", "hem"] * 4
    assert list(drawn["file"]) == list(draw_samples(cells, 8, seed=3)["file"])
    assert list(drawn["file"]) != list(draw_samples(cells, 8, seed=4)["file"])


def answer_table(**classes):
    """A table in which run r assigns ``classes[r][i]`` to image i; capitals mark images unlike its training cells.

    "-" is an image that cannot be read.
    """
    rows = []
    for position, words in enumerate(zip(*classes.values(), strict=True)):
        for run, word in zip(classes, words, strict=True):
            label = {"a": "all", "h": "hem", "-": ""}[word.lower()]
            row = {"position": position, "run": run, "class": label, "error": "no" if word == "-" else ""}
            rows.append({**row, "novelty": np.nan if word == "-" else 1.0, "novel": word.isupper()})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("classes", "apart", "novel", "order"),
    [
        ({"one": "ah-ah", "two": "aa-hh"}, {1, 3}, set(), [1, 3, 0, 4]),
        ({"one": "aAha", "two": "hHhh"}, {0, 3}, {1}, [0, 3, 2, 1]),
        ({"one": "A", "two": "h", "three": "h"}, set(), set(), [0]),  # the run that finds it novel is ignored
        ({"one": "H", "two": "h", "three": "a"}, {0}, set(), [0]),
    ],
)
def test_disagreements_come_first_and_images_unlike_the_training_cells_last(classes, apart, novel, order):
    table = answer_table(**classes)
    assert disagreements(table) == apart
    assert novel_positions(table) == novel
    assert display_order(table) == order


@pytest.mark.parametrize(
    ("classes", "truth", "sentence"),
    [
        ({"one": "aah-"}, {}, "3 cells: 2 ALL blast, 1 normal."),
        ({"one": "a"}, {0: "hem"}, "1 cell: 1 ALL blast. 0 of 1 sample cell correct."),
        ({"one": "aah", "two": "aah"}, {}, "3 cells: all 2 runs agree on each."),
        ({"one": "a", "two": "h"}, {}, "1 cell: the 2 runs disagree on it."),
        (
            {"one": "aahh", "two": "ahhh"},
            {0: "all", 1: "all", 2: "hem"},
            "4 cells: the 2 runs disagree on 1 (shown first) and agree on 3. Correct on 3 sample cells: A 3, B 2.",
        ),
        ({"one": "A"}, {}, "1 image is unlike the training cells: not counted."),
        (
            {"one": "aAHh"},
            {0: "all", 1: "hem"},
            "2 cells: 1 ALL blast, 1 normal. 2 images are unlike the training cells: not counted, shown last. "
            "1 of 1 sample cell correct.",
        ),
        (
            {"one": "aA", "two": "ah"},
            {},
            "1 cell: all 2 runs agree on it. 1 image is unlike the training cells: not counted, shown last.",
        ),
    ],
)
def test_the_summary_counts_classes_agreement_and_correct_answers(classes, truth, sentence):
    assert summary(answer_table(**classes), truth, {"one": "A", "two": "B"}) == sentence


def test_cells_worth_a_look_are_grouped_and_those_unlike_the_training_cells_count_in_no_other_group():
    table = answer_table(one="ahahA").assign(p_all=[0.9, 0.3, 0.7, 0.1, 0.6])
    table = table.assign(p_hem=1 - table["p_all"])
    groups = cell_groups(table, {0: "all", 1: "all", 4: "hem"}, calibrated=False)
    assert groups == {
        "all": [0, 1, 2, 3, 4], "wrong": [1], "unsure": [1, 2], "unlike the training cells": [4],
    }  # fmt: skip


def test_no_probability_is_shown_as_0_or_100_percent():
    assert [percent(share) for share in (0.0, 0.0049, 0.005, 0.5, 0.9949, 0.995, 1.0)] == [
        "<1%", "<1%", "0%", "50%", "99%", ">99%", ">99%",
    ]  # fmt: skip


def decided(rows, rule="likeliest"):
    """The decision of a run with predictions of (file, label, part, p_all)."""
    run = fake_run([])
    table = pd.DataFrame(rows, columns=["file", "label", "part", "p_all"]).assign(subject="1")
    table.assign(p_hem=1 - table["p_all"]).to_csv(run.path / "predictions.csv", index=False)
    run.write("model.json", {"classes": ["all", "hem"], "positive": "all"})
    return decision(run, rule)


def answered(**p_all):
    """A table of answers: run r gives image i the blast probability ``p_all[r][i]``."""
    rows = [
        {"position": i, "file": str(i), "run": run, "p_all": p[i], "p_hem": 1 - p[i], "novelty": 1.0, "novel": False}
        for i in range(len(next(iter(p_all.values()))))
        for run, p in p_all.items()
    ]
    return pd.DataFrame(rows).assign(error="")


BLAST_FROM_07 = [
    (f"{i}", "all" if p > 0.7 else "hem", "validation", p) for i, p in enumerate((0.1, 0.6, 0.65, 0.8, 0.9))
]


def test_the_threshold_is_chosen_on_validation_and_the_default_is_the_likeliest_class():
    rows, table = [*BLAST_FROM_07, ("t", "hem", "test", 0.99)], answered(one=[0.69, 0.75, 0.3])
    assert list(apply_decisions(table, {"one": decided(rows)})["class"]) == ["all", "all", "hem"]
    chosen = decided(rows, "validation")
    assert chosen.threshold == pytest.approx(0.725)  # half-way between 0.65 and 0.8
    assert list(apply_decisions(table, {"one": chosen}, "validation")["class"]) == ["hem", "all", "hem"]


def test_a_run_without_validation_cells_of_both_classes_says_so_and_uses_the_likeliest_class():
    chosen = decided([("a", "all", "validation", 0.9)], "validation")
    assert chosen.threshold is None
    assert decision_words("M", chosen, calibrated=True) == (
        "M: probabilities not calibrated: 1 validation cells, of 30 that it takes; "
        "no validation cells of both classes, so the likeliest class is used."
    )


def test_the_average_is_the_mean_of_calibrated_probabilities_and_has_a_threshold_of_its_own():
    one = replace(decided(BLAST_FROM_07, "validation"), temperature=Temperature(2.0))
    two = replace(decided(BLAST_FROM_07, "validation"), temperature=Temperature(0.5))
    table = apply_decisions(answered(one=[0.9, 0.9], two=[0.6, 0.9]), {"one": one, "two": two}, "validation")
    assert list(table["run"]) == ["one", "two", AVERAGE] * 2
    mean = table[table["run"] == AVERAGE]
    # odds 9 to the power 1/2 are 3; odds 3/2 squared are 9/4
    assert mean["calibrated_all"].iloc[0] == pytest.approx((3 / 4 + 9 / 13) / 2)
    assert list(mean["class"]) == ["hem", "all"]  # 0.72 is below the threshold of 0.74
    assert mean["p_all"].isna().all()
    np.testing.assert_allclose(table["calibrated_all"] + table["calibrated_hem"], 1)
    own = average_decision([one, two], "validation")
    below, above = (
        np.mean([run.temperature.scale(np.array([p, 1 - p]))[0] for run in (one, two)]) for p in (0.65, 0.8)
    )
    assert own.threshold == pytest.approx((below + above) / 2)


def test_runs_with_different_validation_cells_are_averaged_without_a_threshold():
    one = decided(BLAST_FROM_07, "validation")
    two = decided([("x", *row[1:]) for row in BLAST_FROM_07], "validation")
    both = average_decision([one, two], "validation")
    assert both.threshold is None
    assert "different validation cells" in decision_words("The average", both, calibrated=False)
    assert average_decision([one, replace(two, classes=("all", "hem", "other"))]) is None


def test_the_average_is_novel_where_half_of_the_runs_find_the_image_novel():
    table = answered(one=[0.9, 0.9], two=[0.9, 0.9], three=[0.9, 0.9])
    table.loc[[0, 1, 3], "novel"] = True
    decisions = dict.fromkeys(("one", "two", "three"), decided([]))
    for last_score, novel in ((np.nan, [True, True]), (1.0, [True, False])):  # NaN: one run has no novelty score
        table.loc[5, "novelty"] = last_score
        found = apply_decisions(table, decisions)
        assert list(found.loc[found["run"] == AVERAGE, "novel"]) == novel


def test_pictures_get_names_that_every_file_system_accepts(tmp_path):
    image = np.zeros((20, 20, 3), np.uint8)
    png = cv2.imencode(".png", image)[1].tobytes()
    names = ["a.png", "A.png", "a-2.png", "../../etc/passwd", "smear.jpg, cell 3", "<b>.png", "..."]
    table = answered(run=[0.5] * len(names))
    write_overlays(tmp_path / "o.zip", [(name, png) for name in names], table, [np.ones((3, 3))] * len(names))
    with zipfile.ZipFile(tmp_path / "o.zip") as archive:
        assert archive.namelist() == [
            "a.run.png", "A-2.run.png", "a-2-2.run.png", "passwd.run.png", "smear.jpg_cell_3.run.png", "b.run.png",
            "cell.run.png",
        ]  # fmt: skip
        assert archive.testzip() is None


def test_a_map_is_drawn_in_grey_or_beside_its_cell(tmp_path):
    cell = np.full((40, 40, 3), (90, 10, 120), np.uint8)
    png = cv2.imencode(".png", cell[..., ::-1])[1].tobytes()
    table = answered(run=[0.5, 0.5])
    table.loc[1, "novel"] = True
    heat = np.linspace(0, 1, 9).reshape(3, 3)
    style = OverlayStyle(beside=True, bright=False)
    write_overlays(tmp_path, [("a.png", png), ("b.png", png)], table, [heat, heat], style)
    colored, grey = (cv2.imread(str(tmp_path / f"{name}.run.png"))[..., ::-1] for name in "ab")
    assert colored.shape == (320, 640, 3)
    np.testing.assert_array_equal(colored[:, :320], np.full((320, 320, 3), (90, 10, 120)))
    assert np.ptp(colored[:, 320:], axis=2).max() > 100
    assert np.ptp(grey[:, 320:], axis=2).max() == 0
