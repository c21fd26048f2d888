"""A server of a folder on the loopback, with the faults of a bad day."""

from __future__ import annotations

import fcntl
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Server:
    """Serves the files of a folder, and ranges of them, at `url`.

    slow: seconds before each answer
    cut_every: of every so many answers with a body one ends half-way, the connection cut
    busy_every: of every so many requests one is answered 503
    redirect: where all requests are sent on to
    ranges: whether ranges are sent; otherwise always whole files
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slow, self.cut_every, self.busy_every = 0.0, 0, 0
        self.redirect: str | None = None
        self.ranges = True
        self.code: int | None = None
        self.at: dict[int, Callable[[], object]] = {}
        """What happens when the request of a number has come."""
        self.requests: list[tuple[str, str | None]] = []
        """Path and range of each request."""
        self.cuts = self.refusals = 0
        self._count, self._port = itertools.count(1), 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Come up, at the port that it had before."""
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Go away: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def restart(self, after_seconds: float) -> None:
        """Go away now and come back."""
        self.stop()
        threading.Timer(after_seconds, self.start).start()

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        number = next(self._count)
        wanted = asked.headers.get("Range")
        self.requests.append((asked.path, wanted))
        if number in self.at:
            threading.Thread(target=self.at[number]).start()
        time.sleep(self.slow)
        path = self.folder / asked.path.lstrip("/")
        if self.redirect is not None:
            asked.send_response(302)
            asked.send_header("Location", self.redirect + asked.path)
            asked.end_headers()
            return
        if self.code is not None or (self.busy_every and number % self.busy_every == 0):
            self.refusals += 1
            asked.send_error(self.code or 503)
            return
        if not path.is_file():
            asked.send_error(404)
            return
        data, status = path.read_bytes(), 200
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or "")
        headers = {"ETag": f'"{path.stat().st_mtime_ns}"'}
        if found is not None and self.ranges:
            first, last = int(found[1]), min(int(found[2]), len(data) - 1)
            if first >= len(data):
                asked.send_error(416)
                return
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        asked.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            asked.send_header(name, value)
        asked.end_headers()
        if self.cut_every and number % self.cut_every == 0:
            self.cuts += 1
            data = data[: len(data) // 2]
        asked.wfile.write(data)


@contextmanager
def watching(folder: Path) -> Iterator[list[int]]:
    """While the block runs: the bytes of all files below the folders of a folder, those being written included."""
    found: list[int] = []
    done = threading.Event()

    def size(path: Path) -> int:
        with suppress(FileNotFoundError):
            return path.stat().st_size
        return 0

    def watch() -> None:
        while not done.wait(0.005):
            with suppress(FileNotFoundError), open(folder / ".bytes", "rb") as ledger:
                fcntl.flock(ledger, fcntl.LOCK_EX)  # nothing is begun or deleted between two looks
                found.append(sum(map(size, folder.glob("??/*"))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server of a folder that goes when the block ends."""
    server = Server(folder)
    try:
        yield server
    finally:
        server.stop()
