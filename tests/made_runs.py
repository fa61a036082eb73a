"""Finished runs made without training: real files in a real run folder, with predictions drawn at random."""

import hashlib
import json
import shutil

import numpy as np
import pandas as pd

from leukodash import settings
from leukodash.config.run_config import RunConfig
from leukodash.evaluation.metrics import evaluate
from leukodash.runs.published_runs import SUFFIX, write_archive
from leukodash.runs.run_folder import Run, find_run

METRICS = {
    "classes": ["all", "hem"], "positive": "all", "n": 4, "correct": 3, "accuracy": 0.75, "accuracy_interval": None,
    "subjects": 0, "part": "test", "split": "split by image", "leaks": 0, "epochs": 4, "best_epoch": 3,
    "parameters": 3_230_914, "trained_parameters": 2050, "seconds": {},
}  # fmt: skip


def made_cells(validation=40, test=70, subjects=7, root="cells"):
    """A split: file, label, subject, part, sha256. One subject in two is of blasts."""
    n = validation + test
    number = np.arange(n)
    part = np.where(number < validation, "validation", "test")
    who = number % subjects
    label = np.where(who % 2 == 0, "all", "hem")
    files = [f"{root}/{name}/{i:05}_{name}.png" for i, name in zip(number, label, strict=True)]
    sha256 = [hashlib.sha256(str(i).encode()).hexdigest() for i in number]
    return pd.DataFrame({"file": files, "label": label, "subject": who.astype(str), "part": part, "sha256": sha256})


def made_run(
    backbone="mobilenet",
    *,
    cells=None,
    skill=1.5,
    seed=0,
    when="20260101-120000",
    about=None,
    config=None,
    bias=0.0,
    p_all=None,
    metrics=None,
):
    """Write a finished run. `skill` is how far blasts lie from normal cells, in standard deviations."""
    cells = made_cells() if cells is None else cells
    run = Run(settings.checkpoints() / f"{when}-{backbone}-{seed:04x}")
    run.path.mkdir(parents=True)
    random = np.random.default_rng(seed)
    blast = (cells["label"] == "all").to_numpy()
    if p_all is None:
        p_all = 1 / (1 + np.exp(-2 * (random.normal(size=len(cells)) + skill * np.where(blast, 1.0, -1.0) + bias)))
    p_all = np.round(np.asarray(p_all, dtype=float), 7)
    answers = cells[["file", "label", "subject", "part"]].assign(p_all=p_all, p_hem=np.round(1 - p_all, 7))
    answers = answers[answers["part"].isin(["validation", "test"])]
    tested = answers[answers["part"] == "test"]
    known = tested["subject"].notna().any()
    found = evaluate(
        tested["label"].to_numpy(),
        tested[["p_all", "p_hem"]].to_numpy(),
        ("all", "hem"),
        "all",
        subjects=tested["subject"].to_numpy() if known else None,
    )
    found |= {"part": "test", "split": "split by subject · 7 test subjects", "leaks": 0, "area_auc": 0.6}
    found |= {"best_epoch": 3, "epochs": 4, "random_start": False, "generated": False, "fingerprint": "f" * 64}
    found |= {"parameters": 3_230_914, "trained_parameters": 2050, "seconds": {"training": 12.0}, **(metrics or {})}
    epochs = np.arange(1, 5)
    history = pd.DataFrame({"epoch": epochs, "loss": 0.6 / epochs, "accuracy": 1 - 0.4 / epochs})
    history = history.assign(val_loss=0.7 / epochs, val_accuracy=1 - 0.5 / epochs, learning_rate=1e-3, seconds=1.0)
    settings_ = {"data": "/nowhere/cells", "backbone": backbone, "preset": "quick", "input_size": 224, "seed": seed}
    run.write("config.json", RunConfig(**{**settings_, **(config or {})}).model_dump(mode="json"))
    run.write("about.json", {"title": "", "owner": "", "notes": "", **(about or {})})
    run.write("status.json", {"state": "finished", "stage": "evaluating", "progress": 1.0})
    run.write("model.json", {"classes": ["all", "hem"], "positive": "all", "generated": False, "random_start": False})
    cells.to_csv(run.path / "split.csv", index=False)
    answers.to_csv(run.path / "predictions.csv", index=False)
    history.to_csv(run.path / "history.csv", index=False)
    (run.path / "metrics.json").write_text(json.dumps(found))
    return run


def publish(*runs):
    """Move made runs into an archive of published runs; returns them as they are listed from there."""
    files = {f"{run.id}/{path.name}": path.read_bytes() for run in runs for path in run.path.iterdir()}
    write_archive(settings.published() / f"{runs[0].id}{SUFFIX}", files)
    for run in runs:
        shutil.rmtree(run.path)
    return [find_run(run.id) for run in runs]
