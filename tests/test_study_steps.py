"""The search for the best recipe: held-out subjects choose it, and the test fold has no say."""

import numpy as np
import pytest
from made_runs import made_cells, made_run
from sklearn.metrics import f1_score

from leukodash.studies.catalogue import StudyRun, done, record_study_run
from leukodash.studies.recipe_search import AVERAGED, BEST_STEPS, EVERY_STEP, averaged, held_out, step_rows, steps_words
from leukodash.studies.results_page import results_page


def step(label, backbone="mobilenet", fold=1, seed=0, validation=1.5, test=1.5):
    """A noted run whose answers lie so many standard deviations on the right side, in either part."""
    cells = made_cells(validation=200, test=200)
    blast = np.where(cells["label"] == "all", 1.0, -1.0)
    skill = np.where(cells["part"] == "validation", validation, test)
    drawn = np.random.default_rng([fold, seed, len(backbone), len(label)]).normal(size=len(cells))
    config = {"seed": seed, "split": {"kind": "fold", "test_fold": fold, "seed": seed}}
    number = 100 * len(done().get("best", [])) + seed
    run = made_run(backbone, cells=cells, seed=number, p_all=1 / (1 + np.exp(-drawn - blast * skill)), config=config)
    record_study_run("best", StudyRun(label, backbone), run.config, run.config, run)
    return run


def f1(runs, part):
    rows = [run.predictions[run.predictions["part"] == part] for run in runs]
    truth, said = np.concatenate([[r["label"], np.where(r["p_all"] >= 0.5, "all", "hem")] for r in rows], axis=1)
    return f1_score(truth, said, average="weighted")


def test_a_step_has_the_answers_of_all_its_seeds_on_each_fold():
    runs = {fold: [step("one", fold=fold, seed=seed) for seed in (0, 1)] for fold in (1, 0)}
    (row,) = step_rows(done()["best"])
    for fold, members in runs.items():
        for part in ("validation", "test"):
            assert row[part][fold]["f1_weighted"] == pytest.approx(f1(members, part))
    assert held_out(row) == pytest.approx((f1(runs[0], "validation") + f1(runs[1], "validation")) / 2)


def test_held_out_subjects_choose_and_the_test_fold_has_no_say():
    for fold in (1, 0):
        step("chosen", fold=fold, validation=2.0, test=0.5)
        step("lucky", fold=fold, validation=0.5, test=2.0)
    rows = step_rows(done()["best"])
    words = steps_words(rows)
    assert words.startswith("The best recipe on held-out subjects is “chosen”, MobileNet")
    assert "“lucky”" not in words
    assert [row["step"] for row in rows] == ["chosen", "lucky", EVERY_STEP]
    chosen = next(row for row in rows if row["step"] == "chosen")
    assert f"{chosen['test'][1]['f1_weighted']:.3f}" in words
    assert "0.910 (2,586 cells" in words


def test_networks_are_averaged_within_a_seed_whose_subjects_were_held_out_of_all_of_them():
    runs = [step("all", name, fold, seed) for name in ("mobilenet", "vgg16") for fold in (1, 0) for seed in (0, 1)]
    rows = {row["network"]: row for row in step_rows(done()["best"])}
    assert set(rows) == {"MobileNet", "VGG16", AVERAGED}
    here = [run for run in runs if run.config.split.test_fold == 1]
    tables = [averaged([run for run in here if run.config.seed == seed], "validation") for seed in (0, 1)]
    truth, said = np.concatenate([[t["label"], np.where(t["p_all"] >= 0.5, "all", "hem")] for t in tables], axis=1)
    expected = f1_score(truth, said, average="weighted")
    assert rows[AVERAGED]["validation"][1]["f1_weighted"] == pytest.approx(expected)
    assert expected != pytest.approx(rows["VGG16"]["validation"][1]["f1_weighted"])
    assert f"With averages, the best there is “all”, {AVERAGED}" in steps_words(list(rows.values()))


def test_the_three_that_held_out_subjects_find_best_are_averaged():
    skill = {"first": 2.0, "second": 1.5, "third": 1.2}
    runs = [step(label, fold=fold, validation=skill[label]) for label in skill for fold in (1, 0)]
    assert BEST_STEPS not in [row["step"] for row in step_rows(done()["best"])]
    for fold in (1, 0):
        step("worst", fold=fold, validation=0.1, test=3.0)
    row = next(row for row in step_rows(done()["best"]) if row["step"] == BEST_STEPS)
    table = averaged([run for run in runs if run.config.split.test_fold == 0], "validation")
    said = np.where(table["p_all"] >= 0.5, "all", "hem")
    assert row["validation"][0]["f1_weighted"] == pytest.approx(f1_score(table["label"], said, average="weighted"))
    assert row["network"] == "MobileNet"


def test_a_step_that_was_not_taken_on_every_fold_is_left_out():
    for fold in (1, 0):
        step("both", fold=fold)
    step("half", fold=1)
    assert [row["step"] for row in step_rows(done()["best"])] == ["both"]
    page, _ = results_page(done())
    assert "| both | MobileNet | 0." in page
    assert "| half | MobileNet | 0." not in page
