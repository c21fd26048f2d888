"""What strangers' pages and hostile files try on a real server; a test for every line of Security in docs/app.md."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import struct
import tempfile
import zlib
from pathlib import Path

import pytest

from seehear.app.media import media_id
from seehear.media.identity import file_fingerprint
from tests.app.conftest import SCRIPT_NAME
from tests.corpus import make_video

PATHS = ["/", "/static/docs.js", "/api/run", "/api/docs", "/api/openapi.json", "/api/edits", "/media/videos/x",
         "/media/segments/0/strip.jpg"]  # fmt: skip


# ---------------------------------------------------------------- who may ask


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_the_token(server, path):
    reply = server.ask(path, token=False)
    assert reply.status == 401
    assert server.token not in reply.body.decode()


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_with_a_wrong_token(server, path):
    assert server.ask(path, Authorization="Bearer " + "x" * 43).status == 401
    assert server.ask(f"{path}?token={'x' * 43}", token=False).status == 401


def test_the_address_that_was_printed_leads_to_a_cookie_that_lets_in(server):
    reply = server.ask(f"/?token={server.token}", token=False)
    assert (reply.status, reply.headers["location"]) == (303, "/")
    cookie = reply.headers["set-cookie"].split(";")[0]
    assert server.ask("/api/run", token=False, Cookie=cookie).status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:{port}"])
def test_a_name_that_was_made_to_point_here_is_refused(server, host):
    assert server.ask("/api/run", Host=host.format(port=server.port)).status == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_another_page_cannot_edit(server, origin):
    before = server.get("/api/changes")
    body = {"generation": before["generation"], "kind": "name", "cluster": "0", "text": "hacked"}
    assert server.ask("/api/edits", "POST", body, Origin=origin).status == 403
    assert server.ask("/api/edits", "POST", body, Sec_Fetch_Site="same-site").status == 403
    assert server.get("/api/changes") == before


def test_another_page_cannot_see_media_nor_read_the_interface(server):
    video = server.video("clip_00")
    for path in (f"/media/videos/{video}", "/media/segments/0/strip.jpg", "/api/run"):
        for site in ("cross-site", "same-site"):
            assert server.ask(path, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors").status == 403
        assert server.ask(path, Origin="http://evil.example").status == 403
        reply = server.ask(path)
        assert reply.status == 200
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in reply.headers


def test_a_preflight_is_not_answered_with_leave(server):
    reply = server.ask("/api/edits", "OPTIONS", Origin="http://evil.example", Access_Control_Request_Method="POST")
    assert reply.status == 403
    assert not any(name.startswith("access-control") for name in reply.headers)


def test_only_this_machine_reaches_it(server):
    """All of 127.0.0.0/8 is this machine: a server on every address would answer here too."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.port), timeout=5)


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/api/nothing"])
def test_every_reply_forbids_the_page_what_it_does_not_need(server, path):
    for reply in (server.ask(path), server.ask(path, token=False)):
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"


def test_the_token_is_printed_once_and_never_logged(server):
    server.ask(f"/?token={server.token}", token=False)
    server.ask("/api/nothing")
    assert sum(server.token in line for line in server.lines) == 1
    assert not any(server.token in line for line in server.errors)


# ---------------------------------------------------------------- files

TRAVERSALS = [
    "/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py", "/static/%2e%2e%2fserver.py",
    "/static/....//server.py", "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/static//etc/passwd",
    "/static/%2fetc%2fpasswd", "/static/..%5cserver.py", "/static/docs.js%00", "/static/%252e%252e/server.py",
    "/../../../../etc/passwd", "/media/videos/..%2f..%2f..%2f..%2fetc%2fpasswd", "/media/videos/%2fetc%2fpasswd",
    "/media/videos/../../../etc/passwd", "/media/segments/..%2f0/strip.jpg", "/media/segments/-1/strip.jpg",
    "/media/segments/99999999999999999999/strip.jpg", "/media/videos/%00", "/media/videos/clip_00.mp4",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_leads_out(server, path):
    reply = server.ask(path)
    assert reply.status in (400, 404, 405, 422), reply
    assert b"root:" not in reply.body
    assert b"uvicorn" not in reply.body


def test_a_file_that_is_not_in_the_index_has_no_address(server, made_app):
    path = made_app.videos / "silent.mp4"
    name = media_id("silent.mp4", file_fingerprint(path))
    assert server.ask(f"/media/videos/{name}").status == 404
    assert server.ask(f"/media/videos/{made_app.videos / 'clip_00.mp4'}").status == 404


def test_an_address_tells_no_path(server, made_app):
    for path in ("/api/videos", "/api/segments?rows=0,1", "/api/run", f"/api/videos/{server.video('clip_00')}"):
        assert str(made_app.videos.parent) not in server.ask(path).body.decode()


@pytest.fixture
def swapped(made_app):
    """A video's path, its file out of the way until the test has ended."""
    path, aside = made_app.videos / "clip_03.mp4", made_app.videos.parent / "aside.mp4"
    path.rename(aside)
    yield path, aside
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    aside.rename(path)


def _ask_all(server, video, start):
    """The file and what would be made of it; each start another stretch, which nobody has made before."""
    stretch = f"start={start}&end={start + 1}"
    return [
        server.ask(f"/media/videos/{video}"),
        server.ask(f"/media/videos/{video}", Range="bytes=0-9"),
        server.ask(f"/media/videos/{video}/stretch?{stretch}"),
        server.ask(f"/media/videos/{video}/wave.json?{stretch}"),
        server.ask(f"/media/videos/{video}/spectrogram.png?{stretch}"),
    ]


def test_a_link_to_another_file_in_the_place_of_a_video_is_refused(server, swapped, tmp_path):
    path, aside = swapped
    video = server.video("clip_03")
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret" + bytes(aside.stat().st_size - 6))
    os.utime(secret, ns=(aside.stat().st_atime_ns, aside.stat().st_mtime_ns))  # size and time of the one scanned
    path.symlink_to(secret)
    for reply in _ask_all(server, video, 0.1):
        assert (reply.status, reply.json["kind"]) == (410, "changed")
        assert b"secret" not in reply.body
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert {reply.status for reply in _ask_all(server, video, 0.2)} == {410}


def test_a_link_to_the_very_content_is_followed(server, swapped):
    path, aside = swapped
    path.symlink_to(aside)
    assert [reply.status for reply in _ask_all(server, server.video("clip_03"), 0.3)] == [200, 206, 200, 200, 200]


def test_another_file_in_the_place_of_a_video_is_refused(server, swapped):
    path, aside = swapped
    data = bytearray(aside.read_bytes())
    data[-1] ^= 1  # of the same size
    path.write_bytes(data)
    for reply in _ask_all(server, server.video("clip_03"), 0.4):
        assert (reply.status, reply.json["kind"]) == (410, "changed")
        assert "scanned" in reply.json["detail"]


@pytest.mark.parametrize("kind", ["gone", "folder", "pipe"])
def test_what_is_no_file_any_more_is_refused_at_once(server, swapped, kind):
    path, _ = swapped
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    for reply in _ask_all(server, server.video("clip_03"), {"gone": 0.5, "folder": 0.6, "pipe": 0.7}[kind]):
        assert reply.status == 410


def test_a_file_that_was_only_touched_is_played(server, swapped):
    path, aside = swapped
    shutil.copyfile(aside, path)
    assert [reply.status for reply in _ask_all(server, server.video("clip_03"), 0.8)] == [200, 206, 200, 200, 200]


def test_ranges_of_a_video(server, made_app):
    data = (made_app.videos / "clip_00.mp4").read_bytes()
    path = f"/media/videos/{server.video('clip_00')}"
    whole = server.ask(path)
    assert (whole.status, whole.body, whole.headers["content-type"]) == (200, data, "video/mp4")
    assert whole.headers["accept-ranges"] == "bytes"
    part = server.ask(path, Range="bytes=10-19")
    assert (part.status, part.body) == (206, data[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(data)}"
    assert server.ask(path, Range="bytes=-7").body == data[-7:]
    assert server.ask(path, Range=f"bytes={len(data) - 3}-").body == data[-3:]
    beyond = server.ask(path, Range=f"bytes={len(data)}-")
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(data)}")
    assert server.ask(path, Range="bytes=0-1,4-5").body == data
    assert server.ask(path, Range="bytes=1-2", If_Range=whole.headers["etag"]).status == 206
    assert server.ask(path, Range="bytes=1-2", If_Range='"another"').status == 200
    assert server.ask(path, If_None_Match=whole.headers["etag"]).status == 304
    head = server.ask(path, "HEAD", Range="bytes=1-2")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(data)))


# ---------------------------------------------------------------- what is sent to it


def _leftovers():
    return list(Path(tempfile.gettempdir()).glob("seehear-query-*"))


def _upload(server, data, name, **options):
    asked = "&".join(f"{key}={value}" for key, value in options.items())
    reply = server.ask(f"/api/search/file?name={name}&{asked}", "POST", data)
    assert not _leftovers()
    return reply


def test_a_file_that_is_dropped_finds_itself(server, made_app):
    reply = _upload(server, (made_app.videos / "clip_05.mp4").read_bytes(), "clip.mp4", by="both")
    assert reply.status == 200, reply
    rows = ",".join(str(hit["row"]) for hit in reply.json["hits"][:2])
    titles = {s["title"] for s in server.get(f"/api/segments?rows={rows}")["segments"]}
    assert "clip_05.mp4" in titles


def test_an_upload_that_says_it_is_huge_is_refused_before_it_is_read(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/api/search/file?name=x.mp4")
    connection.putheader("Authorization", f"Bearer {server.token}")
    connection.putheader("Content-Length", str(10 << 30))
    connection.endheaders()
    reply = connection.getresponse()
    assert reply.status == 413
    connection.close()


def test_an_upload_without_an_end_is_stopped(server):
    """Chunk after chunk, no length stated: it ends at the limit, and nothing is left of it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("POST", "/api/search/file?name=x.mp4")
    connection.putheader("Authorization", f"Bearer {server.token}")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    chunk, sent = bytes(4 << 20), 0
    with contextlib.suppress(OSError):  # it closes the connection
        while sent < 600 << 20:
            connection.send(b"%x\r\n" % len(chunk) + chunk + b"\r\n")
            sent += len(chunk)
    assert 190 << 20 <= sent <= 300 << 20
    connection.close()
    assert server.get("/api/changes")
    assert not _leftovers()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "list.mp4"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/\n", "list.m3u8"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "list.mp4"),
        (b"<MPD><BaseURL>/etc/passwd</BaseURL></MPD>", "list.mkv"),
    ],
)
def test_a_playlist_is_refused(server, data, name):
    reply = _upload(server, data, name)
    assert (reply.status, reply.json["kind"]) == (422, "unsafe")
    assert b"root:" not in reply.body


def _bomb(side: int) -> bytes:
    """A PNG of a few hundred kilobytes that is `side` by `side` pixels when it is unpacked."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    line = bytes(1 + side // 8)
    data = b"".join(packer.compress(line * 256) for _ in range(side // 256)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_picture_that_would_unpack_to_gigabytes_is_refused(server):
    data = _bomb(65536)
    assert len(data) < 2 << 20
    reply = _upload(server, data, "bomb.png")
    assert (reply.status, reply.json["kind"]) == (422, "too_large")


@pytest.mark.parametrize("name", ["x.mp4", "x.png", "x.wav", "x", "x.exe", "../../x.mp4", "%00.mp4", "x.mp4%0d%0aA:b"])
def test_what_is_no_media_is_refused_whatever_its_name(server, name):
    reply = _upload(server, b"no media at all " * 100, name)
    assert reply.status == 422
    assert str(tempfile.gettempdir()) not in reply.body.decode()


def test_an_empty_upload_is_explained(server):
    assert _upload(server, b"", "x.mp4").status == 400


def test_a_file_that_cannot_be_used_says_why(server, tmp_path):
    cut = make_video(tmp_path / "x.mp4", seconds=3).read_bytes()[:2000]
    reply = _upload(server, cut, "x.mp4")
    assert reply.status == 422
    assert reply.json["detail"]


def test_an_edit_that_is_too_large_is_refused(server):
    body = b'{"kind": "name", "text": "' + b"x" * (17 << 20) + b'"}'
    with contextlib.suppress(OSError):  # the connection may be closed while it is sent
        assert server.ask("/api/edits", "POST", body, Content_Type="application/json").status == 413


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"kind": "name"}', b'{"kind": "drop"}', b"\xff\xfe"])
def test_an_edit_that_is_not_understood_is_explained(server, body):
    reply = server.ask("/api/edits", "POST", body, Content_Type="application/json")
    assert reply.status == 422
    assert reply.json["kind"] == "usage"


# ---------------------------------------------------------------- names are data

SCRIPT = "<script>alert('x')</script><img src=x onerror=alert(1)>\"}&quot;"


def test_a_name_with_markup_comes_back_as_the_text_it_is(server):
    cluster = server.get("/api/clusters")["clusters"][0]["id"]
    assert server.edit(kind="name", cluster=cluster, text=SCRIPT).status == 200
    reply = server.ask("/api/clusters")
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.json["clusters"][0]["name"] == SCRIPT
    assert server.edit(kind="undo").status == 200


def test_a_file_name_with_markup_comes_back_as_the_text_it_is(server):
    found = server.get("/api/videos?text=%3Cscript%3E")["videos"]
    assert [video["title"] for video in found] == [SCRIPT_NAME]
    reply = server.ask(f"/media/videos/{found[0]['video']}", Range="bytes=0-0")
    assert reply.headers["content-type"] == "video/mp4"
