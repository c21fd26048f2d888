"""Models of the hub: fetched when asked, pinned to a commit, and found in the cache without a network."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import seehear
from seehear.encoders import open_encoder, pinned
from seehear.errors import DataError, UsageError
from tests.encoders.tiny import saved

COMMIT = "0123456789abcdef0123456789abcdef01234567"
README = "---\nlicense: apache-2.0\ntags: [tiny]\n---\n# Tiny\n"


class Hub:
    """As much of the hub's protocol as fetching a model takes, over a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, []  # type: ignore[var-annotated]
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, content = hub.answer(urlsplit(self.path).path)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        files = {file.name: file.read_bytes() for file in self.folder.iterdir()}
        if path in (f"/api/models/me/tiny/revision/{rev}" for rev in ("main", COMMIT)) or path == "/api/models/me/tiny":
            return 200, {}, json.dumps({"id": "me/tiny", "sha": COMMIT}).encode()
        if path.startswith(f"/api/models/me/tiny/tree/{COMMIT}"):
            listed = [{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in files.items()]
            return 200, {}, json.dumps(listed).encode()
        if path.startswith("/api/models/me/tiny/"):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if path.startswith("/api/models/"):
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        name = path.rpartition("/")[2]
        if path != f"/me/tiny/resolve/{COMMIT}/{name}" or name not in files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        return 200, {"ETag": f'"{_oid(files[name])}"', "X-Repo-Commit": COMMIT}, files[name]


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = saved("clip", tmp_path)
    (folder / "README.md").write_text(README)
    (folder / "model.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    served = Hub(folder)
    for name, value in (("ENDPOINT", served.address), ("HF_HUB_CACHE", str(tmp_path / "cache"))):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        served.address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    yield served
    served.server.shutdown()


def test_a_model_is_fetched_when_asked_and_found_without_a_network(hub: Hub) -> None:
    with pytest.raises(UsageError, match="nothing is fetched unasked"):
        open_encoder("hf:me/tiny", "video")
    assert not hub.asked
    found = seehear.fetch_encoder("hf:me/tiny@main")
    assert found["spec"] == f"hf:me/tiny@{COMMIT}"
    fetched = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert fetched == {"config.json", "preprocessor_config.json", "model.safetensors", "README.md"}, (
        "no code, no pickle"
    )

    hub.asked.clear()
    encoder = open_encoder(found["spec"], "video")
    assert encoder.content() == open_encoder(f"hf:{hub.folder}", "video").content()
    assert encoder.description()["licence"] == "apache-2.0"
    assert (encoder.description()["from"], encoder.description()["revision"]) == ("me/tiny", COMMIT)
    assert pinned(found["spec"]) == found["spec"]
    with pytest.raises(UsageError, match="nothing is fetched unasked"):
        open_encoder("hf:me/tiny@other", "video")
    assert not hub.asked, "to open one asks for nothing"


def test_what_cannot_be_fetched_is_said(hub: Hub) -> None:
    for spec, said in (
        ("hf:me/other@main", "has no model me/other"),
        ("hf:me/tiny@other", "but not its revision other"),
    ):
        with pytest.raises(DataError, match=said):
            seehear.fetch_encoder(spec)
    with pytest.raises(UsageError, match="no model of the hub"):
        seehear.fetch_encoder("run:runs/a")
    (hub.folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match="no weights in safetensors"):
        seehear.fetch_encoder("hf:me/tiny@main")
    hub.server.shutdown()
    hub.server.server_close()
    with pytest.raises(DataError, match="cannot be fetched"):
        seehear.fetch_encoder("hf:me/third@main")


def test_an_id_is_pinned_to_the_commit_that_lies_in_the_cache(hub: Hub, tmp_path: Path) -> None:
    seehear.fetch_encoder(f"hf:me/tiny@{COMMIT}")
    ref = tmp_path / "cache" / "models--me--tiny" / "refs" / "main"
    ref.parent.mkdir(exist_ok=True)
    ref.write_text(COMMIT)
    assert pinned("hf:me/tiny") == f"hf:me/tiny@{COMMIT}"
    assert pinned(f"hf:{hub.folder}") == f"hf:{hub.folder}"
    assert pinned("onnx:a.onnx") == "onnx:a.onnx"
