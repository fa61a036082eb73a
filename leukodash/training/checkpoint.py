"""Everything that a training step changes, in one file, so that a killed run continues exactly where it was."""

import io
import math
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import keras
import numpy as np

from leukodash.atomic_write import replacing
from leukodash.errors import RunError

SAVING_SHARE = 0.05  # of the training time that may be spent on saving
STEPS_PER_EPOCH = 2**20  # distance between the random streams of two epochs


@dataclass
class State:
    """The numbers of a training.

    Attributes:
        epoch: number of finished epochs.
        step: number of finished steps of the next epoch.
        best_epoch, best_loss: epoch of the lowest finite validation loss, and that loss; 0 and infinity before it.
        seen: number of cells seen in this epoch.
        loss, accuracy: running means over those cells.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_loss: float = np.inf
    seen: int = 0
    loss: float = 0.0
    accuracy: float = 0.0

    def end_step(self, cells: int, loss: float, accuracy: float) -> None:
        """Count a step and add its cells to the running means."""
        self.step += 1
        self.seen += cells
        self.loss += (float(loss) - self.loss) * cells / self.seen
        self.accuracy += (float(accuracy) - self.accuracy) * cells / self.seen

    def end_epoch(self, validation_loss: float) -> bool:
        """Count an epoch; returns whether its validation loss is the lowest so far."""
        self.epoch, self.step = self.epoch + 1, 0
        best = validation_loss < self.best_loss  # False for NaN and infinity
        if best:
            self.best_epoch, self.best_loss = self.epoch, validation_loss
        return best


class Checkpoint:
    """Saves and restores the state of a training, the model's variables and its best weights so far."""

    def __init__(self, folder: Path, model: keras.Model) -> None:
        model.optimizer.build(model.trainable_variables)
        self._file, self._model = folder / "state.npz", model
        self.state = State()
        self._best: dict[str, np.ndarray] = {}
        self._saved, self._cost = time.monotonic(), 0.0

    def begin_epoch(self) -> None:
        """Reset the running means and give every dropout layer the random stream of this epoch."""
        self.state.seen, self.state.loss, self.state.accuracy = 0, 0.0, 0.0
        for layer in self._model.layers:
            generator = getattr(layer, "seed_generator", None)
            if generator is not None:
                seed = int(keras.ops.convert_to_numpy(generator.state)[0])
                generator.state.assign(
                    np.array([seed, (self.state.epoch + 1) * STEPS_PER_EPOCH], generator.state.dtype)
                )

    def end_epoch(self, validation_loss: float) -> None:
        """Count an epoch and keep its weights if its validation loss is the lowest so far."""
        if self.state.end_epoch(validation_loss):
            self._best = {name: np.array(keras.ops.convert_to_numpy(value)) for name, value in self._weights().items()}

    def restore_best(self) -> None:
        """Put the best weights into the model."""
        for name, variable in self._weights().items():
            variable.assign(self._best[name])

    def save_if_due(self) -> None:
        """Save if that keeps the time spent on saving below its share."""
        if time.monotonic() - self._saved >= max(1.0, self._cost / SAVING_SHARE):
            self.save()

    def save(self) -> None:
        """Write everything to one file, atomically."""
        start = time.monotonic()
        arrays: dict[str, Any] = asdict(self.state)
        arrays |= {name: keras.ops.convert_to_numpy(variable) for name, variable in self._variables().items()}
        arrays |= {f"best/{name}": value for name, value in self._best.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        self._file.parent.mkdir(exist_ok=True)
        with replacing(self._file) as temporary:
            temporary.write_bytes(buffer.getbuffer())
        self._saved = time.monotonic()
        self._cost = self._saved - start

    def require_room(self) -> None:
        """Raise RunError if the disk has no room for a checkpoint: better before an epoch than after it."""
        arrays = [*self._variables().values(), *self._weights().values()]  # of the last step, and the best so far
        needed = 4 * sum(math.prod(array.shape) for array in arrays)
        free = shutil.disk_usage(self._file.parents[1]).free
        if needed > free:
            raise RunError(
                f"A checkpoint of this run takes {needed / 1e6:,.0f} MB, and the disk has {free / 1e6:,.0f} MB left. "
                "Free some space, then resume this run."
            )

    def load(self) -> None:
        """Restore what was saved, if anything was. Raises RunError where names or shapes differ from the model's."""
        if not self._file.is_file():
            return
        try:
            with np.load(self._file) as saved:
                self._restore(saved)
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise RunError(
                "The checkpoint of this run does not fit this version of LeukoDash or Keras, or is damaged. "
                "Start a new run with the same settings."
            ) from error

    def _restore(self, saved: Mapping[str, np.ndarray]) -> None:
        old = "v0" in saved  # up to LeukoDash 0.1, arrays were numbered
        variables = {f"v{n}" if old else name: v for n, (name, v) in enumerate(self._variables().items())}
        best = {f"b{n}" if old else f"best/{name}": name for n, name in enumerate(self._weights())}
        self.state = State(**{field.name: saved[field.name].item() for field in fields(State)})
        best = best if self.state.best_epoch else {}
        if set(saved) != {*asdict(self.state), *variables, *best}:
            raise ValueError("other names")
        for key, variable in variables.items():
            variable.assign(saved[key])
        self._best = {name: saved[key] for key, name in best.items()}

    def _weights(self) -> dict[str, keras.Variable]:
        return dict(self._named("weights"))

    def _variables(self) -> dict[str, keras.Variable]:
        """Weights, moving statistics, random streams and optimizer state."""
        optimizer = {
            f"optimizer/{number}_{variable.name.rpartition('_')[2]}": variable
            for number, variable in enumerate(self._model.optimizer.variables)
        }
        return dict(self._named("variables")) | optimizer

    def _named(self, attribute: str) -> Iterator[tuple[str, keras.Variable]]:
        """Name variables by place and kind: the number in ``conv2d_93`` depends on what the process built before."""
        for place, layer in enumerate(self._model.layers):
            if layer.trainable:
                stem = re.sub(r"_\d+$", "", layer.name)
                for number, variable in enumerate(getattr(layer, attribute)):
                    yield f"{place}_{stem}/{number}_{variable.name}", variable
