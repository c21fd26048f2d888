"""A run of videos that browsers play, and real servers over it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.app.browsing import ARGUMENTS, Visit, find_chromium
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_video, tone

START_SECONDS = 120.0
DOUBTED = {"clip_02.mp4": 0.6, "clip_06.mp4": 1.2}
SCRIPT_NAME = "<script>alert(1)<&quot;'.mp4"


@dataclass
class Reply:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """`seehear serve` in a process of its own."""

    def __init__(self, run: Path, *options: str, command: tuple[str, ...] = ()) -> None:
        words = command or ("serve", str(run), "--no-open", *(options or ("--port", "0")))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "seehear", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.token = ""
        self.port = 0
        self._ready = threading.Event()
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()
        if not self._ready.wait(START_SECONDS) or not self.port:
            self.process.kill()
            raise AssertionError(f"no server: {self.lines} {self.errors}")

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(r"http://[^/]*?:(\d+)/\?token=(\S+)", line):
                self.port, self.token = int(found[1]), found[2]
                self._ready.set()
        self._ready.set()

    def _read_errors(self) -> None:
        self.errors += self.process.stderr

    def ask(self, path: str, method: str = "GET", body: Any = None, *, token: bool = True, **headers: str) -> Reply:
        """One request, its path as it is."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            given.setdefault("Authorization", f"Bearer {self.token}")
        if isinstance(body, dict):
            body = json.dumps(body)
            given["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host="Host" in given)
            if isinstance(body, str):
                body = body.encode()
            if body is not None:
                given.setdefault("Content-Length", str(len(body)))
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Any:
        """JSON of a request that must succeed."""
        reply = self.ask(path, **headers)
        assert reply.status == 200, reply
        return reply.json

    def edit(self, **asked: Any) -> Reply:
        """An edit of the rows and clusters that there are now."""
        return self.ask("/api/edits", "POST", {"generation": self.get("/api/changes")["generation"]} | asked)

    def video(self, title: str) -> str:
        """A video's id."""
        return self.get(f"/api/videos?text={title}")["videos"][0]["video"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        for reader in self._readers:
            reader.join(10)
        return code


def make_h264(folder: Path, count: int = 16, seconds: float = 4.0) -> Path:
    """Videos of four kinds that browsers play."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        kind = index % 4
        colour = np.array([(250, 40, 40), (40, 250, 40), (40, 40, 250), (230, 230, 30)][kind])
        frames = [
            (colour * rng.uniform(0.5, 1.0) + rng.normal(0, 12, (48, 64, 1))).clip(0, 255).astype(np.uint8)
            for _ in range(round(seconds * 15))
        ]
        wave = tone(seconds, 24000, hz=200.0 * 2**kind) + rng.normal(0, 0.01, (1, round(seconds * 24000)))
        name = SCRIPT_NAME if index == 15 else f"clip_{index:02d}.mp4"
        make_video(folder / name, seconds=seconds, fps=15, frames=frames, wave=wave.astype(np.float32))
    return folder


@dataclass
class App:
    """A run and its videos, which tests may change if they put them back."""

    run: Path
    videos: Path


@pytest.fixture(scope="session")
def made_app(tmp_path_factory: pytest.TempPathFactory) -> App:
    """A finished run with an index of segments of 2 s. Not to be changed."""
    import seehear
    from seehear.search.building import build_index

    folder = tmp_path_factory.mktemp("app")
    videos = make_h264(folder / "videos")
    make_video(videos / "silent.mp4", seconds=2, has_audio=False)  # not usable: not to be had either
    seehear.pretrain(videos, folder / "run", settings=TINY_SETTINGS, quiet=True)
    build_index(folder / "run", every_seconds=2.0, workers=1)
    return App(folder / "run", videos)


@pytest.fixture
def app(made_app: App, tmp_path: Path) -> App:
    """A copy of the run, to edit."""
    shutil.copytree(made_app.run, tmp_path / "run")
    return App(tmp_path / "run", made_app.videos)


@pytest.fixture
def doubted(made_app: App, tmp_path: Path) -> App:
    """A copy of the run whose labels doubt the videos of `DOUBTED`, say nothing of one and find the rest usual."""
    from seehear.search.building import build_index

    run = shutil.copytree(made_app.run, tmp_path / "run")
    labels = pq.read_table(run / "labels.parquet")
    given = [DOUBTED.get(video, None if video == "clip_01.mp4" else 0.1) for video in labels["video_id"].to_pylist()]
    pq.write_table(labels.append_column("doubt", pa.array(given, pa.float32())), run / "labels.parquet")
    build_index(run, every_seconds=2.0, workers=1)
    return App(run, made_app.videos)


@pytest.fixture(scope="module")
def server(made_app: App, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests of a module share; each leaves it as it was, or edits what no other counts on."""
    run = tmp_path_factory.mktemp("shared") / "run"
    shutil.copytree(made_app.run, run)
    started = Server(run)
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; tests that ask for it are skipped where there is none."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Visit]:
    """A window on the shared server; what was edited is taken back afterwards."""
    made = Visit(browser, server)
    yield made
    made.leave()
    while (last := server.get("/api/clusters")["undo"]) is not None:
        assert server.edit(kind="undo", expected=last["id"]).status == 200
