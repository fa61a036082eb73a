"""Runs that are really trained, in the test's own process, on a few generated cells."""

import os
import signal

import pytest

SET_BY_A_RUN = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}


def train_here(folder, *, cells, subjects, **settings):
    """Train a run from the recipe `quick` in folders of its own below `folder`; what it sets is set back."""
    from leukodash.config.presets import make_config
    from leukodash.data.dataset import load_dataset
    from leukodash.data.demo_cells import make_demo
    from leukodash.runs.run_folder import create_run
    from leukodash.training.__main__ import main

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("data", "checkpoints", "published", "cache"):
            patch.setenv(f"LEUKODASH_{name.upper()}", str(folder / name))
        for name, value in SET_BY_A_RUN.items():
            patch.setenv(name, os.environ.get(name, value))
        dataset = load_dataset(make_demo(folder / "data" / "demo", cells=cells, subjects=subjects))
        run = create_run(make_config("quick", dataset=dataset, **settings))
        assert main(run.path) == 0, run.log_tail()
    signal.signal(signal.SIGTERM, handler)
    return run
