"""The paper checker: what is typed, its intervals against independent sources, and sentences that follow from both."""

import numpy as np
import pandas as pd
import pytest
from made_runs import made_cells, made_run
from statsmodels.stats.proportion import confint_proportions_2indep, power_proportions_2indep

from leukodash.errors import DataError
from leukodash.evaluation.paper_check import (
    Measured,
    Resemblance,
    comparison_words,
    detectable,
    detectable_words,
    difference_interval,
    effective_cells,
    expected_design_effect,
    headline,
    interval_words,
    leakage_words,
    parse_result,
    resemblance,
)
from leukodash.evaluation.published import OTHERS, PUBLISHED
from leukodash.evaluation.statistics import wilson
from leukodash.studies.catalogue import StudyRun, record_study_run
from leukodash.studies.measured import measured

BY_IMAGE, BY_SUBJECT = Resemblance(0.1, 1.0, 15, "by image"), Resemblance(0.2, 0.6, 5, "by subject")
INFLATION = [{"difference": 0.02, "low": 0.01, "high": 0.03, "n": 900, "subjects": 12, "frozen": True}]
KNOWN = Measured({"by image": BY_IMAGE, "by subject": BY_SUBJECT}, pd.DataFrame(INFLATION), 1.0)
ROWS = (*PUBLISHED, *OTHERS)


@pytest.mark.parametrize(
    ("text", "value", "n"),
    [
        ("64 of 70", 64 / 70, 70),
        ("64/70", 64 / 70, 70),
        (" 3,072 of 3,581 cells", 3072 / 3581, 3581),
        ("91.4% of 70", 0.914, 70),
        ("91.4 %, n = 70", 0.914, 70),
        ("0.914 of 70", 0.914, 70),
        ("100 % of 70", 1.0, 70),
        ("1 of 70", 1 / 70, 70),
    ],
)
def test_a_result_is_read_as_papers_print_it(text, value, n):
    result = parse_result(text)
    assert (result.value, result.n) == (pytest.approx(value), n)


@pytest.mark.parametrize(
    "text", ["", "64", "64 of", "of 70", "71 of 70", "101 % of 70", "5 of 0", "a of b", "1.2.3 of 9"]
)
def test_what_is_no_result_gets_a_sentence_with_an_example(text):
    with pytest.raises(DataError, match=r"91\.4 % of 70"):
        parse_result(text)


def test_more_subjects_than_cells_are_refused():
    with pytest.raises(DataError, match="70 subjects or fewer"):
        parse_result("64 of 70", subjects=71)


def test_the_interval_of_a_difference_is_newcombes():
    found = difference_interval(65 / 70, wilson(65, 70), 36 / 70, wilson(36, 70))
    assert found == pytest.approx(confint_proportions_2indep(65, 70, 36, 70, method="newcomb"), abs=1e-9)


@pytest.mark.parametrize(("value", "n"), [(64 / 70, 70), (0.85, 1000), (0.5, 200)])
def test_a_detectable_result_is_detected_with_a_power_of_80_percent(value, n):
    below, above = detectable(value, n)
    assert below < value
    for other in filter(None, (below, above)):
        power = power_proportions_2indep(other - value, value, n, return_results=False)
        assert power == pytest.approx(0.8, abs=0.01)
    assert detectable(0.97, 70)[1] is None


def test_the_design_effect_is_kishs():
    assert expected_design_effect(70, 10, BY_IMAGE) == pytest.approx(1 + (7 - 1) * 0.1)
    assert expected_design_effect(70, 70, BY_IMAGE) == 1
    assert expected_design_effect(120, 10, BY_SUBJECT) == pytest.approx(1 + (20 - 1) * 0.2)  # sizes differ: as if 6


def drawn(random, subjects, accuracy, correlation):
    """Draw subjects of uneven sizes whose cells resemble each other: sizes, and how many are right (beta-binomial)."""
    sizes = np.maximum(1, random.lognormal(3.5, 0.85, subjects)).astype(int)
    weight = (1 - correlation) / correlation
    return sizes, random.binomial(sizes, random.beta(accuracy * weight, (1 - accuracy) * weight, subjects))


def test_the_resemblance_of_drawn_subjects_is_found_again():
    random, runs = np.random.default_rng(0), []
    for _ in range(15):
        sizes, right = drawn(random, 60, 0.85, 0.15)
        correct = np.concatenate([np.arange(size) < count for size, count in zip(sizes, right, strict=True)])
        runs.append((correct, np.repeat(np.arange(60).astype(str), sizes)))
    found = resemblance(runs, "by subject")
    assert found.correlation == pytest.approx(0.15, abs=0.04)
    assert found.evenness == pytest.approx(0.55, abs=0.1)
    assert resemblance([(np.ones(9, bool), list("aaabbbccc"))], "by subject") is None


@pytest.mark.parametrize("subjects", [12, 28])
def test_intervals_by_subject_cover_the_true_accuracy(subjects):
    random, like = np.random.default_rng(subjects), Resemblance(0.15, 0.58, 15, "by subject")
    covered = {"by subject": 0, "independent": 0}
    for _ in range(500):
        sizes, right = drawn(random, subjects, 0.9, 0.15)
        n, share = int(sizes.sum()), right.sum() / sizes.sum()
        for name, cells in (("by subject", effective_cells(n, subjects, like)), ("independent", n)):
            low, high = wilson(share * cells, cells)
            covered[name] += low <= 0.9 <= high
    assert covered["by subject"] / 500 > 0.93
    assert covered["independent"] / 500 < 0.6


def test_subjects_widen_the_interval_and_the_sentence_says_where_that_comes_from():
    alone = parse_result("64 of 70", split="by image")
    assert headline(alone, KNOWN) == "64 of 70: the accuracy may be anything from 82.5% to 96.0%"
    assert "enter the number of subjects" in interval_words(alone, KNOWN)
    result = parse_result("64 of 70", split="by image", subjects=10)
    said = interval_words(result, KNOWN)
    assert "design effect 1.6" in said
    assert "intraclass correlation of 0.10, the median of 15 runs of LeukoDash on C-NMC, split by image" in said
    low, high = wilson(64 / 70 * (cells := effective_cells(70, 10, BY_IMAGE)), cells)
    assert f"**{low:.1%} to {high:.1%}**" in said
    assert "of 10 other subjects" in detectable_words(result, KNOWN)
    assert "say nothing about another" in interval_words(parse_result("64 of 70", subjects=1), KNOWN)
    assert "split by subject" in interval_words(parse_result("64 of 70", subjects=10), KNOWN)  # unknown: the largest
    assert interval_words(result, Measured()).startswith("As if every cell were independent")


def test_a_measure_that_is_no_share_of_cells_has_no_interval():
    result = parse_result("0.91 of 1867", "f1_weighted", "by subject", 28)
    assert headline(result, KNOWN) == "Weighted F1 0.910 on 1,867 cells"
    assert "gives no interval" in interval_words(result, KNOWN)
    assert detectable_words(result, KNOWN) == ""


def test_a_share_that_no_count_gives_is_named():
    assert "No number of 70 cells rounds to 92.8%: 64 would be 91.4%, 65 would be 92.9%." in interval_words(
        parse_result("92.8 % of 70"), KNOWN
    )
    assert "No number" not in interval_words(parse_result("92.9 % of 70"), KNOWN)
    assert "No number" not in interval_words(parse_result("0.93 of 70"), KNOWN)


def test_a_published_result_is_told_apart_only_if_the_interval_leaves_out_zero():
    vgg16, _, resnet50 = PUBLISHED[:3]
    result = parse_result("64 of 70", split="by image")
    assert "**cannot be told apart** from VGG16, Dhuri & Guinde 2020, 65 of 70" in comparison_words(
        result, vgg16, KNOWN
    )
    assert "**can be told apart** from ResNet50" in comparison_words(result, resnet50, KNOWN)
    few = parse_result("64 of 70", split="by image", subjects=2)
    assert "**cannot be told apart** from ResNet50" in comparison_words(few, resnet50, KNOWN)
    f1, *_, unknown = OTHERS
    assert "the two cannot be compared" in comparison_words(result, f1, KNOWN)
    assert "No figure of Braga & Dantas 2026" in comparison_words(result, unknown, KNOWN)
    assert "there is no test" in comparison_words(parse_result("0.9 of 1867", "f1_weighted"), f1, KNOWN)


def test_each_split_has_its_own_leaks_and_what_was_measured_here_is_said():
    by_image = " ".join(leakage_words(parse_result("64 of 70", split="by image"), KNOWN, ROWS))
    assert "100% of the test subjects are also in training" in by_image
    assert "1 frozen network by +2.0 points (+1.0 to +3.0)" in by_image
    assert "Albzour 2026" in by_image
    nothing = " ".join(leakage_words(parse_result("64 of 70", split="by image"), Measured(), ROWS))
    assert "test subjects" not in nothing and "frozen" not in nothing
    unknown = " ".join(leakage_words(parse_result("64 of 70"), KNOWN, ROWS))
    assert unknown.startswith("The split is not stated. 4 of the 12 sources below split by image")
    assert "in different folds" in leakage_words(parse_result("64 of 70", split="by fold"), KNOWN, ROWS)[0]
    assert "as two subjects" in leakage_words(parse_result("64 of 70", split="by subject"), KNOWN, ROWS)[0]


@pytest.mark.parametrize(
    ("text", "metric", "split", "subjects", "alarm", "chance"),
    [
        ("0.94 of 1867", "f1_weighted", "by subject", None, True, False),
        ("0.92 of 1867", "f1_weighted", "by subject", None, False, False),
        ("0.94 of 1867", "f1_weighted", "by image", None, False, False),
        ("0.94 of 1867", "roc_auc", "by subject", None, False, False),
        ("1790 of 1867", "accuracy", "by fold", None, True, False),
        ("1790 of 1867", "accuracy", "by fold", 28, True, True),
    ],
)
def test_a_result_above_all_that_are_known_on_unseen_people_is_an_alarm(text, metric, split, subjects, alarm, chance):
    said = " ".join(leakage_words(parse_result(text, metric, split, subjects), KNOWN, ROWS))
    assert ("**Look for a leak.**" in said) == alarm
    assert ("0.925" in said) == alarm
    assert ("Chance may explain it too" in said) == chance


def test_what_was_measured_comes_from_the_finished_runs_of_the_study():
    assert measured().resemblance == {}
    cells = made_cells(validation=60, test=240, subjects=12)
    train = cells.assign(part=np.where(cells["part"] == "validation", "train", "test"))
    runs = {
        "by image": made_run(cells=train, skill=2.0, seed=1, config={"split": {"kind": "image"}}),
        "five folds of subjects": made_run(cells=cells, skill=0.5, seed=2),
    }
    for label, run in runs.items():
        record_study_run("honest", StudyRun(label, "mobilenet"), run.config, run.config, run)
    found = measured()
    assert set(found.resemblance) == {"by image", "by subject"}
    assert found.resemblance["by image"].runs == 1
    assert found.shared == 1
    one, other = (run.metrics["accuracy"] for run in runs.values())
    assert found.inflation["difference"].tolist() == [pytest.approx(one - other)]
    assert found.inflation["frozen"].tolist() == [True]
