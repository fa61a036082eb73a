"""The app as a person meets it: a server of its own, and pages in Chromium."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from leukodash.runs.folder import list_runs

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


class Server:
    """The app, as ``make app`` starts it, on a port and in folders of its own."""

    def __init__(self, folder, **environment):
        weights = ROOT.parent / "shared" / "weights"  # a newcomer with network downloads these
        self.environment = {
            **os.environ,
            "LEUKODASH_DATA": str(folder / "data"),
            "LEUKODASH_CHECKPOINTS": str(folder / "checkpoints"),
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

    def start(self):
        command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", "--server.headless=true"]
        command += [f"--server.port={self.port}", "--server.address=127.0.0.1"]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1)
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text())

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def runs(self):
        return list_runs(self.folder / "checkpoints")

    def end(self):
        """Kill the server and whatever still trains."""
        for pid in (run.status.get("pid") for run in self.runs() if run.alive()):
            os.kill(pid, signal.SIGKILL)
        self.kill()


def settled(page):
    """Wait until Streamlit has stopped running the script and everything stands."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")
    page.wait_for_timeout(1200)
