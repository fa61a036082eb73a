"""Estimates against hand-worked sums and past runs; test_backbones.py checks the table that they start from."""

import numpy as np
import pandas as pd
import pytest
from made_runs import METRICS

from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset
from leukodash.jobs import estimate as module
from leukodash.jobs.estimate import (
    Estimate,
    duration_words,
    estimate,
    estimate_together,
    estimate_words,
    memory_problem,
    size_words,
)
from leukodash.models.backbones import ALL
from leukodash.runs.run_folder import create_run


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch):
    """A machine as fast as that of the table, without a GPU or bfloat16 units."""
    monkeypatch.setattr(module, "matrix_gflops", lambda: module.GFLOPS)
    monkeypatch.setattr(module, "on_gpu", lambda: False)
    monkeypatch.setattr(module, "cpu_has_bfloat16", lambda: False)
    monkeypatch.setattr(module, "device_names", lambda: ("cpu-0",))


def cells(number=1000):
    table = pd.DataFrame(
        {"file": [f"{i}.png" for i in range(number)], "label": np.where(np.arange(number) % 2, "b", "a")}
    )
    table["subject"], table["fold"], table["sha256"] = None, pd.array([None] * number, dtype="Int64"), "0" * 64
    return Dataset("cells", "cells", table, "f" * 64, generated=False)


def config(**settings):
    return RunConfig(**{"data": "cells", "fingerprint": "f" * 64, "backbone": "mobilenet", **settings})


def finished(config, number=1000, **metrics):
    run = create_run(config)
    run.write("status.json", {"state": "finished", "device": "CPU (2 cores)"})
    run.write("metrics.json", {**METRICS, "epochs": config.epochs, "features_computed": True, **metrics})
    split = pd.DataFrame({"file": range(number), "label": "a", "subject": None, "part": "train", "sha256": "0"})
    split.to_csv(run.path / "split.csv", index=False)
    return run


def test_features_take_one_pass_for_each_view_and_a_quarter_of_the_time_at_half_the_side():
    one, more = (estimate(config(epochs=1), cells(number)) for number in (1000, 2000))
    assert more.seconds - one.seconds == pytest.approx(1000 / 104 + 1000 * module.DECODE_SECONDS, rel=0.05)
    eight = estimate(config(epochs=1, flips="views"), cells())
    assert eight.seconds - one.seconds == pytest.approx(7 * 1000 / 104, rel=0.01)
    assert eight.disk_bytes - one.disk_bytes == 7 * 1000 * 1024 * 4
    whole, half = (module._stages(config(input_size=size), 1000)["features"] for size in (224, 112))
    assert whole == pytest.approx(4 * half)


def test_the_table_is_scaled_to_a_gpu_bfloat16_units_and_the_processor(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "on_gpu", lambda: True)
        assert module._stages(config(), 1000)["features"] == pytest.approx(1000 / 104 / 30)
    monkeypatch.setattr(module, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(module, "matrix_gflops", lambda: 450.0)
    vgg16, mobilenet = (module._stages(config(backbone=name), 1000)["features"] for name in ("vgg16", "mobilenet"))
    assert vgg16 == pytest.approx(1000 / (63.6 * 3))
    assert mobilenet == pytest.approx(1000 / (104 * 3))  # it stays in float32


def test_training_everything_takes_three_forward_passes_and_memory_for_a_batch_in_all_layers():
    everything = config(train_from=ALL, batchnorm="trained", epochs=10)
    stages = module._stages(everything, 1000)
    assert stages["training"] == pytest.approx(10 * 1000 / 104 * (3 * 0.65 + 0.15), rel=0.05)  # 65 % are trained on
    assert stages["features"] == 0
    assert not estimate(everything, cells(), [finished(everything)]).features_ready
    small, large = (estimate(everything.changed(batch_size=size), cells()) for size in (64, 128))
    assert large.memory_bytes - small.memory_bytes == pytest.approx(64 * 17.0e6 * 4)


def test_a_later_split_point_trains_faster_but_needs_more_features():
    near, far = (
        module._stages(config(backbone="vgg16", train_from=split_point), 1000) for split_point in ("block5", "block3")
    )
    assert near["training"] < far["training"]
    assert near["features"] > far["features"]


def test_decoded_cells_take_three_bytes_per_pixel():
    assert estimate(config(input_size=128), cells(600)).decoded_bytes == 600 * 128 * 128 * 3


def test_features_of_a_finished_run_with_the_same_settings_are_ready():
    past = finished(config())
    assert not estimate(config(), cells()).features_ready
    assert estimate(config(epochs=99, learning_rate=0.1), cells(), [past]).features_ready
    assert not estimate(config(input_size=128), cells(), [past]).features_ready
    assert not estimate(config(fingerprint="e" * 64), cells(), [past]).features_ready


def test_a_past_run_that_took_three_times_as_long_corrects_the_estimate():
    said = module._stages(config(), 1000)["features"]
    past = finished(config(), seconds={"features": 3 * said})
    other = config(input_size=160)
    slow, fast = (estimate(other, cells(), runs).seconds for runs in ([past], []))
    assert slow - fast == pytest.approx(2 * module._stages(other, 1000)["features"], rel=0.01)


def test_runs_of_another_backbone_or_device_correct_nothing():
    past = finished(config(backbone="vgg16"), seconds={"features": 9999.0})
    on_gpu = finished(config(), seconds={"features": 0.001})
    on_gpu.write("status.json", {"state": "finished", "device": "GPU 0"})
    assert estimate(config(), cells(), [past, on_gpu]) == estimate(config(), cells())


def test_a_sweep_computes_its_features_once():
    same, other = (config(learning_rate=rate) for rate in (0.01, 0.001)), config(input_size=128)
    first, second, third = estimate_together([*same, other], cells())
    assert [one.features_ready for one in (first, second, third)] == [False, True, False]
    assert first.seconds - second.seconds == pytest.approx(1000 / 104, rel=0.01)
    assert second.disk_bytes < first.disk_bytes


def test_the_line_says_about_names_ready_features_and_adds_memory_of_runs_that_train_at_once(monkeypatch):
    two = [Estimate(30, 40_000_000, 90_000_000, 2e9, True), Estimate(50, 10_000_000, 90_000_000, 1e9, False)]
    words = estimate_words(["MobileNet", "VGG16"], two)
    assert words == "about 1 min 20 s · 140 MB of disk · features already computed for MobileNet · 2.0 GB of memory"
    words = estimate_words(["MobileNet"], two[:1], [Estimate(200, 0, 0, 1, False)])
    assert words.startswith("about 30 s, or about 3 min 20 s from random weights")
    # In a sweep, the second run finds what the first one computes.
    assert "already computed" not in estimate_words(["VGG16", "VGG16"], two[::-1])
    monkeypatch.setattr(module, "device_names", lambda: ("cpu-0", "cpu-1"))
    three = [*two, Estimate(9, 0, 0, 3e9, False)]  # runs that train at once hold their memory at once
    assert estimate_words(["a", "b", "c"], three).endswith("5.0 GB of memory")


def test_durations_have_two_significant_figures_and_sizes_a_suitable_unit():
    durations = {
        0: "1 s", 59.4: "59 s", 60: "1 min", 85: "1 min 20 s", 725: "12 min", 3600: "1 h", 7500: "2 h 5 min",
    }  # fmt: skip
    assert {seconds: duration_words(seconds) for seconds in durations} == durations
    sizes = {10: "under 1 MB", 140_400_000: "140 MB", 2_340_000_000: "2.3 GB"}
    assert {size: size_words(size) for size in sizes} == sizes


def test_a_run_that_does_not_fit_into_memory_is_refused_with_the_figures(monkeypatch):
    estimates = estimate_together([config()], cells())
    monkeypatch.setattr(module, "memory_used_bytes", lambda: 400_000_000)
    monkeypatch.setattr(module, "memory_limit_bytes", lambda: 690 * 2**20)
    problem = memory_problem(estimates)
    assert size_words(estimates[0].memory_bytes) in problem
    assert "400 MB that the app takes" in problem and "724 MB here" in problem
    monkeypatch.setattr(module, "memory_limit_bytes", lambda: 4 * 2**30)
    assert memory_problem(estimates) == ""


def test_the_memory_of_a_container_is_its_limit(monkeypatch, tmp_path):
    from leukodash.jobs import hardware

    machine = hardware.memory_limit_bytes()
    assert 0 < hardware.memory_used_bytes() < machine
    monkeypatch.setattr(hardware, "CGROUPS", tmp_path)
    for file in (tmp_path / "memory.max", tmp_path / "memory" / "memory.limit_in_bytes"):  # version 2 and version 1
        file.parent.mkdir(exist_ok=True)
        file.write_text("max")
    assert hardware.memory_limit_bytes() >= machine
    for file in (tmp_path / "memory.max", tmp_path / "memory" / "memory.limit_in_bytes"):
        file.write_text(str(690 * 2**20))
    assert hardware.memory_limit_bytes() == 690 * 2**20
