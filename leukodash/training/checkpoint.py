"""All that a training step changes, in one file, so that a killed run goes on exactly where it was."""

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from leukodash.atomic_write import write_atomic
from leukodash.errors import RunError

if TYPE_CHECKING:
    from leukodash.training.batches import Batches

SHARE = 0.05  # of the training time that may go into saving
STEPS_PER_EPOCH = 2**20  # room between the random streams of two epochs
_PLACE = ("epoch", "step", "best_epoch", "best_loss", "seen", "loss", "accuracy")


class Checkpoint:
    """Place in the training, and the best weights so far.

    Attributes:
        epoch: number of epochs that are over.
        step: steps of the next epoch that are done already.
        best_epoch, best_loss: epoch of the lowest validation loss, and that loss; 0 and infinity before the first.
        seen: cells seen in this epoch.
        loss, accuracy: means over those cells, as they stood when they were seen.
    """

    def __init__(self, folder: Path, model: keras.Model) -> None:
        model.optimizer.build(model.trainable_variables)
        self._file, self._model = folder / "state.npz", model
        self.epoch = self.step = self.best_epoch = self.seen = 0
        self.best_loss, self.loss, self.accuracy = np.inf, 0.0, 0.0
        self._best: list[np.ndarray] = []
        self._saved, self._cost = time.monotonic(), 0.0

    def steps_done(self, batches: "Batches") -> int:
        """Return the number of steps since the start of the run."""
        return self.epoch * batches.steps() + self.step

    def patience_over(self, patience: int) -> bool:
        """Whether `patience` epochs went by without a lower validation loss; 0 waits forever."""
        return bool(patience) and self.epoch - self.best_epoch >= patience

    def begin_epoch(self) -> None:
        """Start the means anew, and give every dropout layer the random stream of this epoch."""
        self.seen, self.loss, self.accuracy = 0, 0.0, 0.0
        for layer in self._model.layers:
            generator = getattr(layer, "seed_generator", None)
            if generator is not None:
                seed = int(keras.ops.convert_to_numpy(generator.state)[0])
                generator.state.assign(np.array([seed, (self.epoch + 1) * STEPS_PER_EPOCH], generator.state.dtype))

    def end_step(self, cells: int, loss: float, accuracy: float) -> None:
        """Count a step and take its cells into the means."""
        self.step += 1
        self.seen += cells
        self.loss += (float(loss) - self.loss) * cells / self.seen
        self.accuracy += (float(accuracy) - self.accuracy) * cells / self.seen

    def end_epoch(self, validation_loss: float) -> None:
        """Count the epoch, and keep its weights if its validation loss is the lowest so far."""
        self.epoch, self.step = self.epoch + 1, 0
        if validation_loss < self.best_loss:
            self.best_epoch, self.best_loss = self.epoch, validation_loss
            self._best = [np.array(keras.ops.convert_to_numpy(variable)) for variable in self._weights()]

    def restore_best(self) -> None:
        """Put the best weights into the model."""
        for variable, value in zip(self._weights(), self._best, strict=True):
            variable.assign(value)

    def save_if_due(self) -> None:
        """Save if that keeps the time spent on saving below its share."""
        if time.monotonic() - self._saved >= max(1.0, self._cost / SHARE):
            self.save()

    def save(self) -> None:
        """Write the state as one file, whole."""
        start = time.monotonic()
        place = {name: getattr(self, name) for name in _PLACE}
        variables = {
            f"v{number}": keras.ops.convert_to_numpy(variable) for number, variable in enumerate(self._variables())
        }
        best = {f"b{number}": value for number, value in enumerate(self._best)}
        buffer = io.BytesIO()
        np.savez(buffer, **place, **variables, **best)
        write_atomic(self._file, buffer.getbuffer())
        self._saved = time.monotonic()
        self._cost = self._saved - start

    def load(self) -> None:
        """Take up a saved state, if there is one. Raises RunError where it does not fit the model."""
        if not self._file.is_file():
            return
        with np.load(self._file) as saved:
            variables, best = self._variables(), self._weights()
            try:
                for number, variable in enumerate(variables):
                    variable.assign(saved[f"v{number}"])
                for name in _PLACE:
                    setattr(self, name, saved[name].item())
                self._best = [saved[f"b{number}"] for number in range(len(best))] if self.best_epoch else []
            except (KeyError, ValueError) as error:
                raise RunError(
                    "This run's checkpoint does not fit this version of LeukoDash or Keras. Start the run anew."
                ) from error

    def _weights(self) -> list[keras.Variable]:
        return [variable for layer in self._model.layers if layer.trainable for variable in layer.weights]

    def _variables(self) -> list[keras.Variable]:
        """Weights, moving statistics, random streams and optimizer state."""
        layers = [variable for layer in self._model.layers if layer.trainable for variable in layer.variables]
        return [*layers, *self._model.optimizer.variables]
