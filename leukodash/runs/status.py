"""Writing ``status.json``. Waiting processes import this module: few imports."""

import json
import time
from pathlib import Path
from typing import Any

from leukodash.atomic_write import is_full, replacing

WRITE_SECONDS = 0.25  # minimum time between two writes of mere progress
PACE_SECONDS = 1.0  # that the pace of a stage is measured before it says what is left


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
        self._written = 0.0
        self._first: tuple[float, float] | None = None  # time and progress of the stage's first report
        self._unwritten = True

    def set(self, **fields: Any) -> None:
        """Change fields and write them immediately."""
        if "stage" in fields and fields["stage"] != self.fields.get("stage"):
            self.fields |= {"progress": 0.0, "message": "", "seconds_left": None}
            self._first = None
        self.fields |= fields
        self._write()

    def progress(self, fraction: float, message: str = "", **fields: Any) -> None:
        """Set the progress of the stage (0 to 1) and estimate the time left from its pace since the first report.

        What comes before the first report is not counted: the first step also compiles the network.
        Written at most every `WRITE_SECONDS`, and only if something has changed: thirty waiting runs that write three
        times a second would slow the pages down.
        """
        now = time.monotonic()
        self._first = self._first or (now, fraction)
        took, done = now - self._first[0], fraction - self._first[1]
        left = max(0.0, took / done * (1 - fraction)) if took >= PACE_SECONDS and done > 0 else None
        told = {"progress": round(fraction, 4), "message": message, "seconds_left": left, **fields}
        self._unwritten |= not told.items() <= self.fields.items()
        self.fields |= told
        if self._unwritten and (now - self._written >= WRITE_SECONDS or fraction >= 1):
            self._write()

    def _write(self) -> None:
        self._written, self._unwritten = time.monotonic(), False
        self.fields["updated"] = time.time()
        content = json.dumps(self.fields, indent=1).encode()
        try:
            with replacing(self.path, durable=False) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            if not is_full(error):
                raise
            with self.path.open("r+b") as file:  # in place, which takes no space: the reason of the end must be said
                file.write(content.ljust(self.path.stat().st_size))
