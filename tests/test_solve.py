"""The solved head: a logistic regression, its penalty chosen on held-out subjects, in a run like any other."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from leukodash.config.presets import make_config
from leukodash.data.images import read_image
from leukodash.errors import RunError
from leukodash.training.solve import PATIENCE, STRENGTHS, moments, solve_path


def problem(n, d, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    features = rng.normal(size=(n, d)) * rng.uniform(0.01, 20, d) + rng.uniform(-50, 50, d)
    features[:, : 2 * classes] += 12 * np.eye(classes)[codes].repeat(2, axis=1) * rng.normal(size=(n, 1))
    features[:, 0] += 9 * codes
    return features.astype(np.float32), codes, rng.integers(0, 3, n)


@pytest.mark.parametrize(("n", "d", "classes"), [(90, 20, 2), (60, 200, 2), (60, 200, 3)])
def test_each_step_is_scikit_learns_solution_with_few_features_and_with_many(n, d, classes):
    features, codes, fold = problem(n, d, classes)
    weight = np.where(codes == 0, 2.0, 1.0)
    mean, variance = moments(features)
    for step in list(solve_path(features, codes, fold, weight, 0.0))[:4]:
        exact = LogisticRegression(C=step.strength, tol=1e-8, max_iter=5000)
        scaler = StandardScaler().fit(features)
        exact.fit(scaler.transform(features), codes, sample_weight=weight)
        logits = (features - mean) / np.sqrt(variance) @ step.kernel + step.bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        assert np.allclose(
            odds / odds.sum(axis=1, keepdims=True), exact.predict_proba(scaler.transform(features)), atol=0.01
        )
        assert step.accuracy == pytest.approx((logits.argmax(axis=1) == codes).mean())


def test_held_out_answers_are_those_of_a_head_without_them():
    features, codes, fold = problem(90, 20)
    step = next(iter(solve_path(features, codes, fold, np.ones(90), 0.0)))
    for number in range(3):
        inside = fold != number
        scaler = StandardScaler().fit(features[inside])
        exact = LogisticRegression(C=step.strength, tol=1e-8).fit(scaler.transform(features[inside]), codes[inside])
        answers = step.held_out[~inside]
        assert np.allclose(
            answers[:, 1] - answers[:, 0], exact.decision_function(scaler.transform(features[~inside])), atol=0.01
        )


def test_weaker_penalties_are_left_out_once_they_are_worse():
    features, codes, fold = problem(60, 300, seed=3)
    codes = np.random.default_rng(0).permutation(codes)  # nothing to learn
    losses = [step.held_out_loss for step in solve_path(features, codes, fold, np.ones(60), 0.0)]
    assert PATIENCE < len(losses) < len(STRENGTHS)
    assert np.argmin(losses) == len(losses) - 1 - PATIENCE


def test_settings_that_a_solved_head_cannot_have_are_refused(demo):
    config = make_config("recommended", "mobilenet", demo)
    assert config.solved and config.pooling == "cell"
    for change in ({"head": (64,)}, {"flips": "views"}, {"stain": 0.1}, {"train_from": "all"}, {"pooling": "flatten"}):
        with pytest.raises(RunError, match="lbfgs solves a linear head"):
            config.changed(**change)
    random = config.as_random_start()
    assert (random.solved, random.pooling, random.head) == (False, "average", (0.3,))


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cell", "average"])
def test_a_solved_run_is_a_run_like_any_other_and_ends_the_same_again(pretend_weights, train, pooling):
    from leukodash.inference.classifier import load

    solved = {"optimizer": "lbfgs", "head": (), "pooling": pooling, "train_from": "head", "flips": "none"}
    run = train(**solved)
    assert run.state == "finished", run.status.get("error")
    parts, answers = run.split.set_index("file")["part"], run.predictions
    assert set(parts) == {"train", "test"}
    held_out = answers[answers["part"] == "validation"]
    assert sorted(held_out["file"]) == sorted(parts.index[parts == "train"])
    history = run.history
    best = history.loc[history["val_loss"].idxmin()]
    assert run.metrics["best_epoch"] == best["epoch"] and best["strength"] in STRENGTHS
    right = (held_out["p_all"] > 0.5) == (held_out["label"] == "all")
    assert right.mean() == pytest.approx(best["val_accuracy"], abs=1e-6)
    test = answers[answers["part"] == "test"]
    images = [read_image(Path(run.config.data) / file) for file in test["file"]]
    classifier = load(run)
    assert np.allclose(classifier.predict(images)[:, 0], test["p_all"], atol=1e-4)
    maps = classifier.answer(images, ("evidence", "gradcam"))
    assert all(np.isfinite(answer.heat).all() for method in maps.values() for answer in method)
    again = train(**solved)
    assert again.predictions.equals(answers)


@pytest.mark.slow
def test_a_solved_run_without_a_test_part_reports_its_held_out_answers(pretend_weights, train):
    run = train(optimizer="lbfgs", head=(), pooling="cell", train_from="head", flips="none", split={"test": 0.0})
    assert run.metrics["part"] == "validation" and run.metrics["n"] == len(run.split)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["keras", "onnx"])
def test_a_run_that_pools_over_the_cell_is_exported_with_the_apps_probabilities(
    pretend_weights, train, tmp_path, format
):
    from leukodash.export.model_export import TOLERANCE, export

    run = train(optimizer="lbfgs", head=(), pooling="cell", train_from="head", flips="none")
    made = export(run, format, tmp_path)
    assert made.path.is_file() and made.difference <= TOLERANCE
