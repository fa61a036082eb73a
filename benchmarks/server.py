"""A server of the app, with folders of its own: what benchmarks and browser tests talk to."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from leukodash.runs.run_folder import Run, list_runs

ROOT = Path(__file__).resolve().parents[1]


class Server:
    """The app, as ``make app`` starts it, on a port and in folders of its own."""

    program = ("-m", "streamlit")  # what Python is given before "run"
    prefix: tuple[str, ...] = ()  # a command that starts Python in another environment

    def __init__(self, folder: Path, **environment: str) -> None:
        weights = ROOT.parent / "shared" / "weights"  # a newcomer with network downloads these
        self.environment = {
            **os.environ,
            "LEUKODASH_DATA": str(folder / "data"),
            "LEUKODASH_CHECKPOINTS": str(folder / "checkpoints"),
            "LEUKODASH_PUBLISHED": str(folder / "published"),
            "LEUKODASH_CACHE": str(folder / "cache"),
            "KERAS_HOME": str(folder / "keras"),
            **({"LEUKODASH_WEIGHTS": str(weights)} if weights.is_dir() else {}),
            **environment,
        }
        self.folder, self.process = folder, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it answers. Raises RuntimeError with its log."""
        command = [*self.prefix, sys.executable, *self.program, "run", "streamlit_app.py", "--server.headless=true"]
        command += [f"--server.port={self.port}", "--server.address=127.0.0.1"]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1)
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        """Kill the server alone; runs go on."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def runs(self) -> list[Run]:
        """Return all runs, newest first."""
        return list_runs(self.folder / "checkpoints")

    def end(self) -> None:
        """Kill the server and whatever still trains; a run that is just starting, once it has told its process."""
        self.kill()
        until = time.monotonic() + 60
        while (alive := [run for run in self.runs() if run.alive()]) and time.monotonic() < until:
            for pid in (run.status.get("pid") for run in alive):
                with contextlib.suppress(ProcessLookupError):
                    _ = pid and os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
