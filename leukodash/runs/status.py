"""Writing ``status.json``. Waiting processes import this module: few imports."""

import json
import time
from pathlib import Path
from typing import Any

from leukodash.atomic_write import write_atomic

WRITE_SECONDS = 0.25  # minimum time between two writes of mere progress


class Status:
    """Writes a run's ``status.json``; only the run's own process does.

    Fields: state, stage, progress (0 to 1 of the stage), message, seconds_left (of the stage, or None), device, pid,
    created, started, updated (Unix seconds), and further fields given to `set` (epoch, error, traceback …).
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "status.json"
        try:
            self.fields: dict[str, Any] = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            self.fields = {}
        self.fields.pop("starting", None)
        self._written = self._stage_start = 0.0
        self._stage_start_progress = 0.0
        self._unwritten = True

    def set(self, **fields: Any) -> None:
        """Change fields and write them immediately."""
        if "stage" in fields and fields["stage"] != self.fields.get("stage"):
            self.fields |= {"progress": 0.0, "message": "", "seconds_left": None}
            self._stage_start, self._stage_start_progress = time.monotonic(), fields.get("progress", 0.0)
        self.fields |= fields
        self._write()

    def progress(self, fraction: float, message: str = "", **fields: Any) -> None:
        """Set the progress of the stage (0 to 1) and estimate the time left from its pace so far.

        Written at most every `WRITE_SECONDS`, and only if something has changed: thirty waiting runs that write three
        times a second would slow the pages down.
        """
        now = time.monotonic()
        done = fraction - self._stage_start_progress
        pace = (now - self._stage_start) / done if done > 0 else None
        left = None if pace is None else max(0.0, pace * (1 - fraction))
        told = {"progress": round(fraction, 4), "message": message, "seconds_left": left, **fields}
        self._unwritten |= not told.items() <= self.fields.items()
        self.fields |= told
        if self._unwritten and (now - self._written >= WRITE_SECONDS or fraction >= 1):
            self._write()

    def _write(self) -> None:
        self._written, self._unwritten = time.monotonic(), False
        self.fields["updated"] = time.time()
        write_atomic(self.path, json.dumps(self.fields, indent=1).encode())
