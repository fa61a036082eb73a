"""A public demo with fifty visitors for five minutes: answer times by page, errors, and the memory of the server.

Each visitor speaks the server's own protocol over a WebSocket, as a browser tab does, without drawing. It opens pages
in random order, reads each for some seconds, asks for other cells, classifies sample cells and now and then a picture
of its own, and closes the tab after a while for a new one. The server runs with ``LEUKODASH_PUBLIC=1`` in folders of
its own.
"""

import asyncio
import hashlib
import random
import time
import urllib.request
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg  # noqa: TID251  (the other side of the line)
from streamlit.proto.Common_pb2 import FileURLs  # noqa: TID251
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg  # noqa: TID251

from benchmarks.harness import ROOT, Options
from benchmarks.server import Server
from leukodash import settings
from leukodash.data.dataset import cnmc_name

SESSIONS, SECONDS = 50, 300.0
FEW, SHORT = 6, 60.0  # with --quick
PAGES = ("", "classify", "compare", "classify", "data", "train", "lesson")  # paths; cells are what most come for
VISIT, READING = 8, (5.0, 25.0)  # pages of a visit, and seconds that each is read
UPLOADS = 0.2  # share of visits to Classify with a picture of one's own
PATIENCE = 60.0  # seconds for an answer


class Tab:
    """A browser tab, without drawing.

    Attributes:
        answers: (what was asked for, seconds until it was there).
        errors: what went wrong, in words.
    """

    def __init__(self, url: str, seed: int) -> None:
        self.url, self.random = url, random.Random(seed)
        self.answers: list[tuple[str, float]] = []
        self.errors: list[str] = []
        self._finished, self._files = asyncio.Event(), asyncio.Event()

    async def browse(self, until: float) -> None:
        """Visit the app again and again, until a moment of `time.monotonic`."""
        await asyncio.sleep(self.random.uniform(0, 10))
        while time.monotonic() < until:
            stream = f"{self.url.replace('http', 'ws')}/_stcore/stream"
            try:
                async with websockets.connect(stream, max_size=None, subprotocols=["streamlit"]) as self._socket:
                    reader = asyncio.create_task(self._read())
                    await self._visit(until)
                    reader.cancel()
            except (OSError, TimeoutError, websockets.WebSocketException) as error:
                self.errors.append(f"{type(error).__name__}: {error}")

    async def _visit(self, until: float) -> None:
        self._session = self._button = self._uploader = ""
        for page in [self.random.choice(PAGES) for _ in range(VISIT)]:
            if time.monotonic() > until:
                return
            query = {}
            if page == "classify":
                query["cells"] = ",".join(self.random.sample(_cell_keys(), self.random.randint(1, 3)))
                query |= {"own": "true"} if self.random.random() < UPLOADS else {}
            await self._ask(page, query)
            await asyncio.sleep(self.random.uniform(*READING))
            if page == "" and self._button:
                await self._ask(page, query, press=self._button, named="home, another cell")
            if "own" in query and self._uploader:
                await self._upload(page, query)

    async def _ask(self, page: str, query: dict[str, str], press: str = "", named: str = "", files: tuple = ()) -> None:
        """Ask for a page, or for what follows a click or an upload on it, and note how long the answer took."""
        message = BackMsg()
        message.rerun_script.page_name = page
        message.rerun_script.query_string = urlencode(query)
        if press:
            message.rerun_script.widget_states.widgets.add(id=press, trigger_value=True)
        if files:
            state = message.rerun_script.widget_states.widgets.add(id=self._uploader).file_uploader_state_value
            for name, size, urls in files:
                state.uploaded_file_info.add(name=name, size=size, file_id=urls.file_id, file_urls=urls)
        self._finished.clear()
        since = time.monotonic()
        await self._socket.send(message.SerializeToString())
        await asyncio.wait_for(self._finished.wait(), PATIENCE)
        self.answers.append((named or page or "home", time.monotonic() - since))

    async def _upload(self, page: str, query: dict[str, str]) -> None:
        path = self.random.choice(_pictures())
        message, content = BackMsg(), path.read_bytes()
        message.file_urls_request.request_id = "one"
        message.file_urls_request.session_id = self._session
        message.file_urls_request.file_names.append(path.name)
        self._files.clear()
        await self._socket.send(message.SerializeToString())
        await asyncio.wait_for(self._files.wait(), PATIENCE)
        await asyncio.to_thread(self._put, path.name, content, self._urls)
        await self._ask(page, query, named="classify, an upload", files=((path.name, len(content), self._urls),))

    def _put(self, name: str, content: bytes, urls: FileURLs) -> None:
        """Send a file as a browser does, with the token against forged requests."""
        with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=PATIENCE) as answer:
            cookie = answer.headers["Set-Cookie"].split(";")[0]
        head = f'--cut\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + b"\r\n--cut--\r\n"
        headers = {"Cookie": cookie, "X-Xsrftoken": cookie.partition("=")[2]}
        headers["Content-Type"] = "multipart/form-data; boundary=cut"
        request = urllib.request.Request(f"{self.url}{urls.upload_url}", body, headers, method="PUT")
        urllib.request.urlopen(request, timeout=PATIENCE).close()

    async def _read(self) -> None:
        async for data in self._socket:
            message = ForwardMsg()
            message.ParseFromString(data)
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self._session = message.new_session.initialize.session_id
                self._button = self._uploader = ""
            elif kind == "file_urls_response":
                self._urls = message.file_urls_response.file_urls[0]
                self._files.set()
            elif kind == "delta":
                self._look(message.delta.new_element)
            elif kind == "script_finished" and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                self._finished.set()

    def _look(self, element: object) -> None:
        kind = element.WhichOneof("type")
        if kind == "exception":
            self.errors.append(f"{element.exception.type}: {element.exception.message}")
        elif kind == "button" and element.button.label == "Another cell":
            self._button = element.button.id
        elif kind == "file_uploader" and not self._uploader:
            self._uploader = element.file_uploader.id


def _pictures() -> list[Path]:
    return sorted(settings.asset("cells").rglob("*.webp"))


def _cell_keys() -> list[str]:
    """Return the keys by which an address names sample cells."""
    return [hashlib.sha256((cnmc_name(path.name) or "").encode()).hexdigest()[:8] for path in _pictures()]


def measure(options: Options) -> dict[str, object]:
    """Start the server and the visitors; returns what was seen."""
    sessions, seconds = (FEW, SHORT) if options.quick else (SESSIONS, SECONDS)
    published = {"LEUKODASH_PUBLISHED": str(ROOT / "checkpoints" / "published")}
    server = Server(options.folder, LEUKODASH_PUBLIC="1", CUDA_VISIBLE_DEVICES="-1", **published)
    try:
        server.start()
        tabs, memory = asyncio.run(_crowd(server, sessions, seconds))
    finally:
        server.kill()
    return {"sessions": sessions, "seconds": seconds, **_seen(tabs, memory)}


async def _crowd(server: Server, sessions: int, seconds: float) -> tuple[list[Tab], list[int]]:
    """Let visitors browse; returns them, and the server's memory in MiB, once a second."""
    first = Tab(server.url, -1)  # the first visitor waits until archives are unpacked and demo cells are drawn
    await first.browse(time.monotonic() + 11)
    until = time.monotonic() + seconds
    tabs = [Tab(server.url, seed) for seed in range(sessions)]
    tasks = [asyncio.create_task(tab.browse(until)) for tab in tabs]
    memory = []
    while time.monotonic() < until:
        memory.append(_mebibytes(server.process.pid))
        await asyncio.sleep(1)
    await asyncio.gather(*tasks)
    return tabs, memory


def _mebibytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) // 1024


def _seen(tabs: list[Tab], memory: list[int]) -> dict[str, object]:
    by_page = defaultdict(list)
    for page, seconds in (answer for tab in tabs for answer in tab.answers):
        by_page[page].append(seconds)
    everything = sorted(seconds for answers in by_page.values() for seconds in answers)
    tenth = max(1, len(memory) // 10)
    middle = median(memory[len(memory) // 2 - tenth // 2 :][:tenth])
    end = median(memory[-tenth:])
    pages = {
        page: {"answers": len(times), "median": _quantile(times, 0.5), "p95": _quantile(times, 0.95)}
        for page, times in sorted(by_page.items())
    }
    return {
        "answers": len(everything),
        "median": _quantile(everything, 0.5),
        "p95": _quantile(everything, 0.95),
        "slowest": round(everything[-1], 2),
        "pages": pages,
        "errors": Counter(error for tab in tabs for error in tab.errors).most_common(10),
        "MiB in the middle": middle,
        "MiB at the end": end,
        "growth": round(end / middle - 1, 3),
        "peak MiB": max(memory),
    }


def _quantile(times: list[float], share: float) -> float:
    return round(sorted(times)[int(share * (len(times) - 1))], 2)
