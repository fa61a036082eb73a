"""What a training step does: every optimizer by its own formula, smoothed labels, class weights, and the precision."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_class_weight

from leukodash.config.run_config import RunConfig
from leukodash.training import precision
from leukodash.training.precision import FIDELITY, choose_precision, lowest_cosine

RATE = 0.05


def sgd(weights, gradient, state, step):
    state["v"] = 0.9 * state.get("v", 0) - RATE * gradient
    return weights + state["v"]


def adam(weights, gradient, state, step):
    """Kingma & Ba (2015), algorithm 1 in the order of its section 2."""
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * gradient
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * gradient**2
    return weights - RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * state["m"] / (np.sqrt(state["v"]) + 1e-7)


def adamw(weights, gradient, state, step):
    """Loshchilov & Hutter (2019): the decay is apart from the gradient."""
    return adam(weights, gradient, state, step) - RATE * 0.2 * weights


def rmsprop(weights, gradient, state, step):
    state["v"] = 0.9 * state.get("v", 0) + 0.1 * gradient**2
    return weights - RATE * gradient / np.sqrt(state["v"] + 1e-7)


def adagrad(weights, gradient, state, step):
    """Duchi et al. (2011), from Keras' first sum of 0.1."""
    state["v"] = state.get("v", 0.1) + gradient**2
    return weights - RATE * gradient / np.sqrt(state["v"] + 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [sgd, adam, adamw, rmsprop, adagrad])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_three_steps_are_those_of_the_optimizers_formula(rule, smoothing):
    import keras

    from leukodash.training.fit import compile_suffix

    random = np.random.default_rng(0)
    cells, labels = random.normal(size=(6, 4)).astype(np.float32), np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1, 1]]
    importance = np.array([2, 0.5, 0.5, 2, 0.5, 0.5], np.float32)
    weights = random.normal(size=(4, 2)).astype(np.float32)
    suffix = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, use_bias=False)])
    suffix.set_weights([weights])
    decay = {"weight_decay": 0.2} if rule is adamw else {}
    settings = {"optimizer": rule.__name__, "learning_rate": RATE, "label_smoothing": smoothing, **decay}
    compile_suffix(suffix, RunConfig(data="none", backbone="alexnet", **settings), "cpu-0")
    expected, state = weights.astype(np.float64), {}
    for step in (1, 2, 3):
        suffix.train_on_batch(cells, labels, sample_weight=importance)
        scores = np.exp(cells @ expected)
        wanted = labels * (1 - smoothing) + smoothing / 2
        error = importance[:, None] * (scores / scores.sum(axis=1, keepdims=True) - wanted)
        expected = rule(expected, cells.T @ error / len(cells), state, step)
    assert np.allclose(suffix.get_weights()[0], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("on", [True, False])
def test_class_weights_are_those_that_scikit_learn_calls_balanced(on, two_cells):
    from leukodash.training.batches import Batches

    labels = np.array(["all"] * 6 + ["hem"] * 2 + ["hem"] * 4)
    part = pd.Series(["train"] * 8 + ["test"] * 4)  # test cells have no say
    dataset = SimpleNamespace(cells=pd.DataFrame({"label": labels}), classes=("all", "hem"))
    config = RunConfig(data="none", backbone="alexnet", class_weights=on, batch_size=3)
    batches = Batches(config, np.zeros((12, 8, 8, 3), np.uint8), dataset, part)
    balanced = compute_class_weight("balanced", classes=np.array(["all", "hem"]), y=labels[:8]) if on else [1, 1]
    served = [pair for _, one_hot, weight in batches.epoch(1, 0) for pair in zip(one_hot[:, 1], weight, strict=True)]
    assert sorted(served) == sorted([(0, pytest.approx(balanced[0]))] * 6 + [(1, pytest.approx(balanced[1]))] * 2)


@pytest.mark.parametrize(
    ("requested", "accurate", "device", "units", "cosine", "expected"),
    [
        ("float32", True, "gpu-0", True, None, "float32"),
        ("bfloat16", False, "cpu-0", False, None, "bfloat16"),
        ("auto", False, "gpu-1", False, None, "float16"),
        ("auto", True, "cpu-0", True, None, "bfloat16"),
        ("auto", True, "cpu-0", False, None, "float32"),
        ("auto", False, "cpu-0", True, None, "float32"),
        ("auto", None, "cpu-0", True, FIDELITY, "bfloat16"),
        ("auto", None, "cpu-0", True, FIDELITY - 1e-6, "float32"),
    ],
)
def test_sixteen_bits_are_taken_where_they_are_fast_and_accurate(
    requested, accurate, device, units, cosine, expected, monkeypatch
):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: units)

    def measure():
        assert cosine is not None, "nothing needs to be measured"
        return cosine

    assert choose_precision(requested, SimpleNamespace(bfloat16=accurate), device, measure) == expected


def test_the_lowest_cosine_is_that_of_the_row_that_differs_most():
    a, b = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[4.0, 3.0], [2.0, 0.0]])
    assert lowest_cosine(a, b) == pytest.approx(24 / 25)
