"""The learning-rate finder: the loss during a short training whose learning rate rises from step to step.

Smith (2017), *Cyclical Learning Rates for Training Neural Networks*, section 3.3; the exponential rise and the stop at
a multiple of the lowest loss are those of the fastai library. The loss is that of the same few validation cells after
each step, not of the step's own batch, which is too noisy for small batches. Only the curve is kept.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from leukodash.runs.locks import Stopped, stop_requested
from leukodash.runs.run_folder import Run
from leukodash.runs.status import Status
from leukodash.training.evaluate import loss_and_accuracy
from leukodash.training.fit import Clock, compile_suffix, prepare

LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 120
CELLS = 64
SMOOTHING = 0.8  # weight of the previous running mean
RUNAWAY = 4.0  # the search ends when the smoothed loss is this many times its minimum
WRITE_EVERY = 5  # steps


def find_rates(folder: Path, device: str, status: Status) -> None:
    """Train the run in `folder` with rising rates and write ``rates.csv`` (columns rate, loss, smooth).

    Raises:
        LeukoDashError: the data or settings cannot be used.
        Stopped: the finder was asked to stop.
    """
    run = Run(folder)
    prepared = prepare(run, device, status, Clock())
    suffix, batches = prepared.suffix, prepared.batches
    compile_suffix(suffix, prepared.config, device)
    status.set(stage="training")
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)
    watched = np.random.default_rng(prepared.config.seed).permutation(batches.rows["validation"])[:CELLS]
    rows, mean, lowest, step = [], 0.0, np.inf, 0
    while step < STEPS:
        for inputs, labels, weight in batches.epoch(1 + step // batches.steps(), 0):
            if stop_requested(folder):
                raise Stopped
            suffix.optimizer.learning_rate = rates[step]
            suffix.train_on_batch(inputs, labels, sample_weight=weight)
            loss, _ = loss_and_accuracy(suffix, batches, watched)
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            smooth = mean / (1 - SMOOTHING ** (step + 1))  # corrects the bias of the start at zero, as in Adam
            lowest = min(lowest, smooth)
            rows.append((rates[step], loss, smooth))
            step += 1
            over = step == STEPS or not np.isfinite(loss) or smooth > RUNAWAY * lowest
            if over or step % WRITE_EVERY == 0:
                _write(run, rows)
            status.progress(step / STEPS, f"rate {rates[step - 1]:.1g}")
            if over:
                return


def _write(run: Run, rows: list[tuple[float, float, float]]) -> None:
    table = pd.DataFrame(rows, columns=["rate", "loss", "smooth"])
    run.write("rates.csv", table[np.isfinite(table["loss"])].to_csv(index=False).encode())
