"""The server as a person starts, stops and kills it, and what it keeps."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from seehear.app.server import DEFAULT_PORT
from tests.app.conftest import Server
from tests.corpus import make_video


def start(*words):
    """A `seehear` that is expected to end by itself: (exit code, output, errors)."""
    done = subprocess.run(
        [sys.executable, "-m", "seehear", *map(str, words)], capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


# ---------------------------------------------------------------- starting and ending


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(made_app, number):
    server = Server(made_app.run)
    server.get("/api/run")
    assert server.stop(number) == 0
    assert len(server.lines) == 1
    assert server.errors == []


def test_a_signal_ends_it_while_something_is_being_made_and_sent(made_app):
    server = Server(made_app.run)
    video = server.video("clip_00")
    asking = [
        threading.Thread(target=lambda i=i: _quietly(server, f"/media/videos/{video}/stretch?start={i / 50}&end=4"))
        for i in range(1, 20)
    ]
    for thread in asking:
        thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 15
    for thread in asking:
        thread.join()


def _quietly(server, path):
    with contextlib.suppress(OSError, http.client.HTTPException):
        server.ask(path)


def test_the_default_port_gives_way_but_a_named_one_is_taken(made_app):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError:
            pass  # somebody has it already: as good
        else:
            taken.listen()
        server = Server(made_app.run, "--by", "audio")
        assert DEFAULT_PORT < server.port < DEFAULT_PORT + 50
        assert server.get("/api/run")["by"] == "audio"
        code, _, errors = start("serve", made_app.run, "--no-open", "--port", server.port)
        assert code == 2
        assert "taken" in errors
        assert "--port" in errors
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["{empty}"], 4, "not a run folder"),
        (["{begun}"], 4, "--resume"),
        (["{tuned}"], 4, "finetuned"),
        (["{run}", "--by", "smell"], 2, "both"),
        (["{run}", "--port", "99999"], 2, "port"),
        (["{run}", "--host", "192.0.2.1"], 2, "--host"),
        (["{run}", "--cache-gib", "-1"], 2, "cache"),
    ],
)
def test_what_cannot_be_served_is_explained(made_app, tmp_path, options, code, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    for name in ("config.yaml", "manifest.parquet"):
        (tmp_path / "begun" / name).write_bytes((made_app.run / name).read_bytes())
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "config.yaml").write_bytes((made_app.run / "config.yaml").read_bytes())
    (tmp_path / "tuned" / "result.json").write_text("{}")
    places = {
        "tuned": tmp_path / "tuned",
        "run": made_app.run,
        "empty": tmp_path / "empty",
        "begun": tmp_path / "begun",
    }
    found, output, errors = start("serve", *(option.format(**places) for option in options), "--no-open")
    assert found == code, errors
    assert words in output + errors
    assert "Traceback" not in errors


def test_another_host_is_said_to_be_reachable_by_others_and_asks_for_the_token(made_app):
    server = Server(made_app.run, "--host", "0.0.0.0", "--port", "0")
    assert "not encrypted" in server.lines[0]
    assert server.ask("/api/run", token=False).status == 401
    assert server.ask("/api/run", Host=f"evil.example:{server.port}").status == 421
    assert server.get("/api/run", Host=f"127.0.0.1:{server.port}")
    assert server.stop() == 0


def test_a_run_without_an_index_gets_one_of_its_own_clips(app):
    shutil.rmtree(app.run / "index")
    server = Server(app.run)
    told = server.get("/api/run")
    assert told["segments"] == 16
    assert told["indexed_every"] is None
    assert server.stop() == 0


def test_a_run_that_cannot_be_written_to_is_only_shown(app):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    Server(app.run).stop()  # so that all is there that is made once
    app.run.chmod(0o500)
    try:
        server = Server(app.run)
        assert server.get("/api/run")["read_only"]
        assert server.edit(kind="name", cluster="0", text="x").status == 403
        assert server.stop() == 0
    finally:
        app.run.chmod(0o700)


# ---------------------------------------------------------------- edits


def test_edits_are_there_after_a_kill(app):
    server = Server(app.run)
    ids = [cluster["id"] for cluster in server.get("/api/clusters")["clusters"]]
    for number, cluster in enumerate(ids):
        assert server.edit(kind="name", cluster=cluster, text=f"name {number}").status == 200
    assert server.edit(kind="reject", rows=[3]).status == 200
    server.process.kill()
    server.process.wait()
    again = Server(app.run, "--port", str(server.port))
    assert again.token != server.token
    assert again.ask("/api/run", Authorization=f"Bearer {server.token}").status == 401
    told = again.get("/api/clusters")
    assert {cluster["name"] for cluster in told["clusters"]} == {f"name {n}" for n in range(len(ids))}
    assert told["rejected"] == 1
    assert told["revision"] == len(ids) + 1
    assert again.edit(kind="undo").json["edit"]["kind"] == "undo"
    assert again.get("/api/clusters")["rejected"] == 0
    assert again.stop() == 0


def test_an_answered_edit_survives_a_kill_in_the_midst_of_many(app):
    """Kill while edits stream in: all that were answered are there, and the log opens."""
    server = Server(app.run)
    answered: list[str] = []

    def edit():
        try:
            for number in range(500):
                reply = server.edit(kind="name", cluster="0", text=f"name {number}")
                assert reply.status == 200
                answered.append(reply.json["edit"]["id"])
        except (OSError, http.client.HTTPException):
            pass  # it was killed

    thread = threading.Thread(target=edit)
    thread.start()
    while len(answered) < 20:
        time.sleep(0.01)
    server.process.kill()
    thread.join()
    server.process.wait()
    again = Server(app.run)
    kept = {one["id"] for one in again.get("/api/edits?limit=1000")["edits"]}
    assert set(answered) <= kept
    assert len(kept) <= len(answered) + 1
    assert again.stop() == 0


def test_two_pages_at_once_lose_nothing_and_neither_takes_back_the_others_edit(app):
    server = Server(app.run)
    ids = [cluster["id"] for cluster in server.get("/api/clusters")["clusters"]]

    def name(cluster):
        for number in range(10):
            assert server.edit(kind="name", cluster=cluster, text=f"{cluster} {number}").status == 200

    threads = [threading.Thread(target=name, args=(cluster,)) for cluster in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = server.get("/api/clusters")
    assert told["revision"] == 10 * len(ids)
    assert {cluster["name"] for cluster in told["clusters"]} == {f"{cluster} 9" for cluster in ids}
    mine = server.edit(kind="reject", rows=[0]).json["undo"]["id"]
    server.edit(kind="reject", rows=[1])
    reply = server.edit(kind="undo", expected=mine)
    assert (reply.status, reply.json["kind"]) == (409, "conflict")
    assert server.get("/api/clusters")["rejected"] == 2
    assert server.stop() == 0


def test_two_servers_and_python_on_one_run_see_each_others_edits(app):
    from seehear.collection.collection import Collection

    first, second = Server(app.run), Server(app.run)
    assert first.edit(kind="name", cluster="0", text="rain").status == 200
    assert second.get("/api/changes")["revision"] == 1
    assert "rain" in [cluster["name"] for cluster in second.get("/api/clusters")["clusters"]]
    Collection(app.run).name("1", "wind")
    assert first.get("/api/changes")["revision"] == 2
    assert {"rain", "wind"} <= {cluster["name"] for cluster in first.get("/api/clusters")["clusters"]}
    assert first.stop() == second.stop() == 0


# ---------------------------------------------------------------- the index changes meanwhile


def test_a_new_index_is_taken_up_and_rows_of_the_old_one_are_refused(app, tmp_path):
    from seehear.search.building import build_index

    server = Server(app.run)
    before = server.get("/api/run")
    assert server.ask(f"/media/segments/0/strip.jpg?generation={before['generation']}").status == 200
    build_index(app.run, every_seconds=1.0, workers=1)
    after = server.get("/api/changes")
    assert after["generation"] != before["generation"]
    assert server.get("/api/run")["segments"] == 2 * before["segments"]
    old = {"generation": before["generation"]}
    for reply in (
        server.ask("/api/edits", "POST", old | {"kind": "reject", "rows": [0]}),
        server.ask("/api/search", "POST", old | {"row": 0}),
        server.ask(f"/media/segments/0/strip.jpg?generation={before['generation']}"),
        server.ask(f"/api/segments?rows=0&generation={before['generation']}"),
    ):
        assert (reply.status, reply.json["kind"]) == (409, "generation")
    assert server.stop() == 0


# ---------------------------------------------------------------- what is made of media


def test_what_many_ask_for_is_made_once_and_kept(app, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server = Server(app.run)
    path = f"/media/videos/{server.video('clip_01')}/stretch?start=0.5&end=3.5"
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(server.ask(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reply.status for reply in replies] == [200] * 8
    assert len({reply.body for reply in replies}) == 1
    files = [p for p in (tmp_path / "cache" / "seehear" / "app").rglob("*") if p.is_file()]
    assert [p.suffix for p in files] == [".mp4"]
    made = files[0].stat().st_mtime_ns
    part = server.ask(path, Range="bytes=4-7")
    assert (part.status, part.body) == (206, b"ftyp")
    assert files[0].stat().st_mtime_ns > made  # used, so that others go first
    assert server.stop() == 0


def test_a_video_that_browsers_cannot_play_is_had_in_parts(tmp_path):
    import seehear
    from tests.conftest import TINY_SETTINGS
    from tests.corpus import make_collection

    table = make_collection(tmp_path / "mpeg4", n=8, classes=2)
    seehear.pretrain(table, tmp_path / "run", settings=(*TINY_SETTINGS, "cluster.k=2"), quiet=True)
    server = Server(tmp_path / "run")
    video = server.get("/api/videos")["videos"][0]["video"]
    told = server.get(f"/api/videos/{video}")
    assert not told["playable"]
    assert "mpeg4" in told["why_not"]
    refused = server.ask(f"/media/videos/{video}")
    assert refused.status == 404
    assert "stretch" in refused.json["remedy"]
    copy = server.ask(f"/media/videos/{video}/stretch?start=0&end=2")
    (tmp_path / "copy.mp4").write_bytes(copy.body)
    import av

    with av.open(str(tmp_path / "copy.mp4")) as container:
        assert {s.codec_context.name for s in container.streams} == {"h264", "aac"}
    assert server.stop() == 0


def test_a_stretch_without_sound_or_too_long_is_explained(server):
    video = server.video("clip_02")
    for asked, status in (("start=0&end=31", 400), ("start=3&end=2", 400), ("start=90&end=95", 400),
                          ("start=nan&end=2", 422), ("start=0", 422)):  # fmt: skip
        reply = server.ask(f"/media/videos/{video}/stretch?{asked}")
        assert reply.status == status, asked
        assert reply.json["detail"]


def test_the_server_imports_no_torch_to_show_a_run(made_app):
    code = (
        "import sys, pathlib\n"
        "from seehear.app.session import Session\nfrom seehear.app.server import build_app\n"
        "from seehear.app.api import reading\n"
        f"session = Session({str(made_app.run)!r})\nbuild_app(session)\n"
        "reading.clusters(session, 'both'); reading.rows(session, 'both'); reading.run_info(session)\n"
        "reading.segment_list(session, 'both', '0,1,2'); session.close()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_file_that_breaks_after_the_scan_costs_only_itself(app, tmp_path):
    """The segment of a broken file says why there is no picture; the server goes on."""
    server = Server(app.run)
    video = server.video("clip_04")
    path = app.videos / "clip_04.mp4"
    data = path.read_bytes()
    try:
        path.write_bytes(make_video(tmp_path / "other.mp4", seconds=2).read_bytes())
        reply = server.ask(f"/media/videos/{video}/stretch?start=0.05&end=1")
        assert (reply.status, reply.json["kind"]) == (410, "changed")
    finally:
        path.write_bytes(data)
    assert server.ask(f"/media/videos/{video}/stretch?start=0.05&end=1").status == 200
    assert server.stop() == 0
