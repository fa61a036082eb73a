import numpy as np
import pytest
from made_runs import made_cells, made_run, publish
from sklearn.metrics import accuracy_score

from leukodash.errors import RunError
from leukodash.runs.leaderboard import (
    area_words,
    backbone_of,
    compare_runs,
    default_runs,
    first_group,
    first_run,
    fold_seeds,
    leaderboard,
    marks,
    run_names,
    shared_words,
    test_groups,
)
from leukodash.runs.run_folder import all_runs, finished

test_groups.__test__ = False  # a function of the package, not a test


def all_finished():
    return finished(all_runs())


def test_runs_on_the_same_cells_are_one_group_and_the_newest_group_comes_first():
    old = made_run("vgg16", when="20260101-100000")
    new = made_run("mobilenet", when="20260101-110000")
    other = made_run("mobilenet", cells=made_cells(test=30), when="20260101-120000")
    groups = test_groups(all_finished())
    assert [[run.id for run in group.runs] for group in groups] == [[other.id], [new.id, old.id]]
    assert groups[1].words == "70 test cells of 7 subjects · cells · 2 runs"


def test_the_users_newest_run_is_shown_first_and_else_the_published_group_with_the_most_networks():
    many = publish(*(made_run(name, when="20260101-100000") for name in ("vgg16", "mobilenet")))
    leaking = {"cells": made_cells(test=60), "when": "20260101-113000", "metrics": {"leaks": 2, "accuracy": 0.99}}
    better = made_run("mobilenet", cells=made_cells(test=30), when="20260101-110000", metrics={"accuracy": 0.98})
    better, *_ = publish(better, *(made_run(name, **leaking) for name in ("vgg16", "mobilenet")))
    assert set(first_group(test_groups(all_finished())).runs) == set(many)
    assert first_run(all_finished()) == better
    own = made_run("mobilenet", cells=made_cells(test=50), when="20260101-090000")
    assert first_run(all_finished()) == own
    assert first_group(test_groups(all_finished())).runs == (own,)


def test_published_runs_of_the_same_recipe_are_compared_first():
    runs = [made_run(name, when=f"2026010{day}-100000") for day, name in enumerate(("vgg16", "mobilenet"), 1)]
    runs.append(made_run("mobilenet", when="20260103-100000", config={"epochs": 7}))
    runs += [made_run(name, when="20260104-100000", seed=1) for name in ("vgg16", "mobilenet")]
    better = {"config": {"head": (0.5,)}, "metrics": {"validation": {"f1_weighted": 0.9}}}
    runs += [made_run(name, when="20251231-100000", **better) for name in ("vgg16", "mobilenet")]
    assert set(default_runs(all_finished())) == set(runs[3:5])
    *_, vgg16, mobilenet = publish(*runs)  # of as many networks and the first seed, the best on held-out cells
    assert set(default_runs(all_finished())) == {mobilenet, vgg16}


def test_runs_are_comparable_when_every_test_image_is_the_same():
    cells = made_cells()
    other = cells.copy()
    other.loc[len(cells) - 1, "sha256"] = "0" * 64
    made_run("vgg16", cells=cells)
    made_run("mobilenet", cells=cells[cells["part"] == "test"])  # another validation part changes nothing
    made_run("resnet50", cells=other)
    assert sorted(len(group.runs) for group in test_groups(all_finished())) == [1, 2]


def test_the_test_set_of_metrics_spares_reading_the_split():
    for backbone in ("vgg16", "mobilenet"):
        split = made_run(backbone, metrics={"test_set": "abc"}).path / "split.csv"
        split.write_text("file,label,subject,part,sha256\n")
    assert len(test_groups(all_finished())) == 1


def names_of(*runs):
    return {run.id[-4:]: name for name, run in run_names(runs).items()}


def test_names_leave_out_what_all_runs_share_and_tell_them_apart():
    alike = {"config": {"seed": 0}}
    vgg16, titled = made_run("vgg16", seed=0, **alike), made_run("resnet50", seed=4, about={"title": "Ana's best"})
    first, later, last = (
        made_run("mobilenet", seed=seed, when=f"20260101-1{hour}0000", **alike)
        for seed, hour in ((1, 0), (2, 1), (3, 1))
    )
    assert names_of(vgg16, first, titled) == {"0000": "VGG16", "0001": "MobileNet", "0004": "Ana's best"}
    assert names_of(vgg16, first, later, last) == {
        "0000": "VGG16",
        "0001": "MobileNet · 1 Jan 10:00",
        "0002": "MobileNet · 1 Jan 11:00 (0002)",
        "0003": "MobileNet · 1 Jan 11:00 (0003)",
    }
    changed = made_run("mobilenet", seed=5, config={"seed": 5, "epochs": 8})
    assert names_of(first, changed) == {"0001": "30 epochs", "0005": "8 epochs · seed 5"}
    assert shared_words([first, changed]) == "MobileNet · quick, 224 pixels, head 0.3 · split by subject"
    assert shared_words([vgg16, titled]) == "VGG16 · quick, 224 pixels, head 0.3, 30 epochs · split by subject"


def test_each_run_is_right_about_the_cells_it_is_right_about():
    runs = [made_run("vgg16", seed=1), made_run("mobilenet", seed=2, skill=0.4)]
    comparison = compare_runs(runs)
    for (name, run), backbone in zip(run_names(runs).items(), ("vgg16", "mobilenet"), strict=True):
        tested = run.predictions[run.predictions["part"] == "test"]
        called = np.where(tested["p_all"] >= 0.5, "all", "hem")
        assert comparison.correct(dict.fromkeys(comparison.predictions))[name].mean() == pytest.approx(
            accuracy_score(tested["label"], called)
        )
        assert comparison.backbones[name] == backbone
    assert comparison.n == 70
    assert comparison.subject_count == 7


def test_copies_of_the_same_cells_under_other_names_line_up():
    cells = made_cells()
    renamed = cells.assign(file=[f"copy/{900 - i}.png" for i in range(len(cells))])
    p = np.linspace(0.01, 0.99, len(cells))
    comparison = compare_runs([made_run("vgg16", cells=cells, p_all=p), made_run("mobilenet", cells=renamed, p_all=p)])
    assert np.array_equal(comparison.scores("VGG16"), comparison.scores("MobileNet"))


def test_a_run_with_other_labels_or_without_predictions_is_named():
    cells = made_cells()
    first = made_run("vgg16", cells=cells)
    second = made_run("mobilenet", cells=cells.assign(label=cells["label"].map({"all": "hem", "hem": "all"})))
    with pytest.raises(RunError, match=r"MobileNet .* other labels of them"):
        compare_runs([first, second])
    (first.path / "predictions.csv").unlink()
    with pytest.raises(RunError, match=r"'predictions.csv' of .*vgg16"):
        compare_runs([first])


def test_the_leaderboard_has_the_best_run_first_and_says_what_to_mind():
    made_run("vgg16", seed=1, skill=0.1)
    made_run("mobilenet", seed=2, skill=1, about={"owner": "Ana"}, metrics={"random_start": True})
    table = leaderboard(all_finished())
    assert list(table["backbone"]) == ["mobilenet", "vgg16"]
    assert table.loc[0, ["owner", "preset", "data", "marks"]].tolist() == ["Ana", "quick", "cells", "random start"]
    assert (table["low"] < table["accuracy"]).all()
    assert backbone_of(all_finished()[0]) in ("vgg16", "mobilenet")


def test_a_network_that_may_use_size_alone_says_so():
    run = made_run(metrics={"stratified_auc": 0.6, "stratified_auc_interval": [0.45, 0.73]})
    assert area_words([run]).endswith("not above 0.5: MobileNet (0.60, 95%: 0.45 to 0.73).")
    assert "not shown to use more than cell size" in marks(run.metrics)
    for interval in ([0.51, 0.7], None):
        assert marks({"stratified_auc": 0.6, "stratified_auc_interval": interval}) == ""
    assert marks({"roc_auc": 0.8, "area_auc": 0.85}) == ""  # of an older version
    assert "look for a leak" in marks({"f1_weighted": 0.95, "subjects": 14})
    assert marks({"f1_weighted": 0.95, "subjects": 14, "generated": True}) == "generated cells"
    assert marks({"roc_auc": 0.9, "area_auc": 0.85, "leaks": 2, "part": "validation"}) == (
        "no test part: validation cells, 2 leaks between parts"
    )


def test_seeds_of_one_configuration_fold_into_mean_and_spread():
    for seed in range(3):  # as in the published studies, a seed holds out other subjects for validation
        made_run("vgg16", seed=seed, config={"split": {"seed": seed}})
    made_run("vgg16", seed=7, config={"epochs": 7})  # differs in more than the seed
    board = leaderboard(all_finished())
    folded = fold_seeds(all_finished()).set_index("seeds")
    of = board.loc[~board["run"].str.endswith("0007"), "accuracy"]
    assert sorted(folded.index) == [1, 3]
    assert folded.loc[3, "accuracy"] == pytest.approx(np.mean(of))
    assert folded.loc[3, "spread"] == pytest.approx(np.std(of, ddof=1))
    assert folded.loc[3, ["lowest", "highest"]].tolist() == [of.min(), of.max()]
    assert np.isnan(folded.loc[1, "spread"])
    assert folded.loc[3, "name"] == "30 epochs"
