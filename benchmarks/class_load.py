"""A class on two cores: thirty runs started within ten seconds from ten sessions, and how the server bears it.

One client, the teacher's, has opened the page before. Ten more speak the server's own protocol over WebSockets, as
browsers do: each opens the train page, presses Start three times, and asks for the live part again every second, as
long as the page tells it to. Browsers themselves are left out: ten of them would take the two cores for drawing, which
in a class other machines do.

Measures whether all runs finished, in which order, how often features were computed, how long the server took to
answer, and how much memory all processes took together (proportional set size, so that shared pages count once).
"""

import asyncio
import threading
import time
from itertools import pairwise
from pathlib import Path

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg  # noqa: TID251  (the other side of the line)
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg  # noqa: TID251

from benchmarks.harness import Options
from benchmarks.server import Server
from leukodash.runs.run_folder import Run, list_runs

SESSIONS, EACH, WITHIN = 10, 3, 10.0
_BEGUN = time.monotonic()


class Client:
    """One session: what a browser tab does, without drawing."""

    def __init__(self, url: str, number: int) -> None:
        self.url, self.number = url, number
        self.button, self.fragment = "", ""
        self.answers: list[tuple[float, float, str]] = []  # seconds, when, to what
        self._ended = asyncio.Event()

    async def run(self, presses: list[float], until: asyncio.Event) -> None:
        """Open the page, press Start at the given moments (of `time.monotonic`), and poll until told to end."""
        async with websockets.connect(self.url, max_size=None, subprotocols=["streamlit"]) as self._socket:
            reader = asyncio.create_task(self._read())
            await self._ask()
            presses = list(presses)
            while not until.is_set():
                if presses and time.monotonic() >= presses[0]:
                    presses.pop(0)
                    await self._ask(self.button)
                elif self.fragment:
                    await self._ask(fragment=self.fragment)
                await asyncio.sleep(max(0.05, min([1.0, *(at - time.monotonic() for at in presses[:1])])))
            reader.cancel()

    async def _ask(self, press: str = "", fragment: str = "") -> None:
        message = BackMsg()
        message.rerun_script.query_string = "data=demo"
        message.rerun_script.fragment_id = fragment
        if press:
            message.rerun_script.widget_states.widgets.add(id=press, trigger_value=True)
        if not fragment:
            self.fragment = ""  # the page will tell again whether it wants to be asked
        self._ended.clear()
        since = time.monotonic()
        await self._socket.send(message.SerializeToString())
        await asyncio.wait_for(self._ended.wait(), 60)
        kind = "a press of Start" if press else "the live part" if fragment else "the page"
        self.answers.append((time.monotonic() - since, since, kind))

    async def _read(self) -> None:
        async for data in self._socket:
            message = ForwardMsg()
            message.ParseFromString(data)
            kind = message.WhichOneof("type")
            if kind == "auto_rerun":
                self.fragment = message.auto_rerun.fragment_id
            elif kind == "stop_auto_rerun":
                self.fragment = ""
            elif kind == "delta" and message.delta.new_element.WhichOneof("type") == "button":
                button = message.delta.new_element.button
                if button.label.startswith("Start"):
                    self.button = button.id
            elif kind == "script_finished" and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                self._ended.set()


def memory(pids: set[int]) -> int:
    """Bytes of these processes together, shared pages counted once (Linux)."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has just ended
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def measure(options: Options) -> dict[str, object]:
    """Start the server, the sessions and the runs; returns what was seen."""
    return asyncio.run(_load(options.folder))


async def _load(folder: Path) -> dict[str, object]:
    from leukodash.data.demo_cells import make_demo

    make_demo(folder / "data" / "demo")
    server = Server(folder, CUDA_VISIBLE_DEVICES="-1", LEUKODASH_CPU_SLOTS="1")
    try:
        await asyncio.to_thread(server.start)
        return await _class(folder, server.process.pid, f"{server.url.replace('http', 'ws')}/_stcore/stream")
    finally:
        server.kill()


async def _class(folder: Path, server: int, url: str) -> dict[str, object]:
    clients, over = [Client(url, number) for number in range(SESSIONS)], asyncio.Event()
    teacher = Client(url, SESSIONS)
    ready = asyncio.Event()
    ready.set()
    await teacher.run([], ready)
    first = time.monotonic() + 8.0  # the pages are open by then
    step = WITHIN / (SESSIONS * EACH)
    moments = [[first + step * (n + SESSIONS * turn) for turn in range(EACH)] for n in range(SESSIONS)]
    tasks = [asyncio.create_task(c.run(at, over)) for c, at in zip(clients, moments, strict=True)]
    peaks, stop = [0, 0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            pids = {run.status.get("pid") for run in _runs(folder) if run.status["state"] in ("queued", "running")}
            peaks[0] = max(peaks[0], memory({server, *(pids - {None})}))
            peaks[1] = max(peaks[1], memory({server}))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        await asyncio.sleep(1)
        for task in tasks:
            if task.done():
                task.result()
        runs = _runs(folder)
        if len(runs) == SESSIONS * EACH and all(run.state not in ("queued", "running") for run in runs):
            break
    over.set()
    stop.set()
    await asyncio.gather(*tasks)
    watcher.join()
    return _seen(_runs(folder), clients, peaks)


def _runs(folder: Path) -> list[Run]:
    return list_runs(folder / "checkpoints")


def _seen(runs: list[Run], clients: list[Client], peaks: list[int]) -> dict[str, object]:
    asked = sorted(runs, key=lambda run: (run.path / "config.json").stat().st_mtime_ns)
    times = [(run.path / "config.json").stat().st_mtime for run in asked]
    begun = [run.status.get("started", 0) for run in asked]
    everything = sorted(answer for client in clients for answer in client.answers)
    answers = [seconds for seconds, *_ in everything]
    slowest = [f"{seconds:.2f} s, {kind}, {since - _BEGUN:.0f} s in" for seconds, since, kind in everything[-12:]]
    return {
        "runs": len(runs),
        "started within seconds": round(times[-1] - times[0], 1),
        "finished": sum(run.state == "finished" for run in runs),
        "started out of order": sum(a > b for a, b in pairwise(begun)),
        "features computed": sum(run.metrics.get("features_computed", False) for run in runs),
        "seconds until all had finished": round(max(run.status.get("ended", 0) for run in runs) - times[0]),
        "answers": len(answers),
        "answer, median seconds": round(answers[len(answers) // 2], 3),
        "answer, 99 of 100 below": round(answers[int(len(answers) * 0.99)], 3),
        "answers over 2 s": sum(seconds > 2 for seconds in answers),
        "slowest seconds": round(answers[-1], 2),
        "slowest": slowest,
        "peak GB of all processes": round(peaks[0] / 1e9, 2),
        "peak GB of the server": round(peaks[1] / 1e9, 2),
    }
