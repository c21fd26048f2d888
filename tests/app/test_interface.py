"""The interface over a small run: what each address tells, against the collection and the arrays behind it."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from seehear.app.api import editing
from seehear.app.api.models import EditRequest
from seehear.app.session import ReadOnlyError, Session
from seehear.collection.collection import Collection
from tests.app.conftest import DOUBTED, Server


@pytest.fixture(scope="module")
def truth(made_app):
    """The same run through Python."""
    return Collection(made_app.run)


def test_the_run_is_told(server, truth):
    told = server.get("/api/run")
    assert (told["segments"], told["videos"], told["indexed_every"]) == (len(truth.index.segments), 16, 2.0)
    assert told["labellings"] == ["both", "video", "audio"]
    assert told["method"] == "xdc"
    assert told["seconds"] == pytest.approx(64, abs=1)


def test_clusters_are_those_of_the_collection(server, truth):
    told = server.get("/api/clusters")["clusters"]
    assert [one["id"] for one in told] == [cluster.id for cluster in truth.clusters]
    for one, cluster in zip(told, truth.clusters, strict=True):
        assert one["size"] == len(cluster.rows)
        assert one["exemplars"] == cluster.rows[:12].tolist()
        assert 0 <= one["hue"] < 360
    hues = sorted(one["hue"] for one in told)
    assert min(np.diff([*hues, hues[0] + 360])) > 20
    by_sound = server.get("/api/clusters?by=audio")["clusters"]
    assert sum(one["size"] for one in by_sound) == len(truth.index.segments)


def rows(server, **asked):
    return server.get("/api/rows?" + "&".join(f"{key}={value}" for key, value in asked.items()))["rows"]


def test_rows_are_in_the_order_asked_for(server, truth):
    count = len(truth.index.segments)
    assert rows(server, order="time") == list(range(count))
    sure = truth.confidence
    assert np.all(np.diff(sure[rows(server, order="surest")]) <= 1e-6)
    assert np.all(np.diff(sure[rows(server, order="unsurest")]) >= -1e-6)
    assert rows(server) == np.concatenate([cluster.rows for cluster in truth.clusters]).tolist()


def test_conditions_combine(server, truth):
    cluster = truth.clusters[0]
    assert sorted(rows(server, cluster=cluster.id)) == sorted(cluster.rows.tolist())
    sure = truth.confidence
    middle = float(np.median(sure[cluster.rows]))
    expected = {row for row in cluster.rows.tolist() if sure[row] >= middle}
    assert set(rows(server, cluster=cluster.id, min_confidence=middle)) == expected
    video = server.video("clip_07")
    own = {row for row in range(len(sure)) if truth.index.segments.video_of(row).video_id == "clip_07.mp4"}
    assert set(rows(server, video=video)) == own
    assert set(rows(server, text="CLIP_07")) == own
    assert set(rows(server, text="clip_07", cluster=cluster.id)) == own & set(cluster.rows.tolist())
    assert rows(server, named="yes") == []
    assert rows(server, cluster=cluster.id, state="confirmed") == []
    assert server.ask("/api/rows?cluster=nothing").status == 404


def test_named_and_rejected_segments_are_found(app):
    server = Server(app.run)
    cluster = server.get("/api/clusters")["clusters"][0]
    server.edit(kind="name", cluster=cluster["id"], text="Chainsaw")
    server.edit(kind="reject", rows=cluster["exemplars"][:1])
    assert len(rows(server, named="yes")) == cluster["size"] - 1
    assert len(rows(server, text="chainsaw")) == cluster["size"] - 1
    assert rows(server, state="rejected") == cluster["exemplars"][:1]
    assert cluster["exemplars"][0] not in rows(server)
    server.edit(kind="move", rows=cluster["exemplars"][1:3], new=True, name="odd")
    assert set(rows(server, state="confirmed")) == set(cluster["exemplars"][1:3])
    told = server.get(f"/api/segments?rows={cluster['exemplars'][1]}")["segments"][0]
    assert (told["name"], told["confirmed"], told["rejected"]) == ("odd", True, False)
    assert server.stop() == 0


def test_doubtful_segments_are_told_found_and_decided_on(doubted, server):
    index = Collection(doubted.run).index
    names = [index.segments.video_of(row).video_id for row in range(len(index))]
    wanted = {row for row, name in enumerate(names) if name in DOUBTED}
    assert len(wanted) == 4
    started = Server(doubted.run)
    told = started.get("/api/clusters")
    assert told["doubtful"] == 4 == sum(one["doubtful"] for one in told["clusters"])
    assert set(rows(started, doubtful="yes")) == wanted
    assert set(rows(started, doubtful="no")) == set(range(len(index))) - wanted
    order = rows(started, order="doubt")
    doubt = [DOUBTED.get(names[row], None if names[row] == "clip_01.mp4" else 0.1) for row in order]
    assert [d for d in doubt if d is not None] == sorted((d for d in doubt if d is not None), reverse=True)
    assert doubt[-2:] == [None, None] and len(order) == len(index)
    first, other = order[0], order[1]
    for row, given in zip((first, order[-1], order[6]), (1.2, None, 0.1), strict=True):
        segment = started.get(f"/api/segments?rows={row}")["segments"][0]
        assert (segment["doubt"], segment["doubtful"]) == (given, given == 1.2)
    cluster = started.get(f"/api/segments?rows={first}")["segments"][0]["cluster"]
    inside = set(rows(started, cluster=cluster))
    assert set(rows(started, doubtful="yes", cluster=cluster)) == inside & wanted
    started.edit(kind="answer", rows=[first], cluster=cluster, yes=True)
    segment = started.get(f"/api/segments?rows={first}")["segments"][0]
    assert (segment["doubt"], segment["doubtful"], segment["confirmed"]) == (0, False, True)
    started.edit(kind="reject", rows=[other])
    assert set(rows(started, doubtful="yes")) == wanted - {first, other}
    assert rows(started, state="rejected", doubtful="yes") == []
    assert started.get("/api/clusters")["doubtful"] == 2
    exported = list(csv.DictReader(io.StringIO(started.ask("/api/export?format=csv").body.decode())))
    assert float(exported[other]["doubt"]) == 1.2 and float(exported[first]["doubt"]) == 0
    assert started.stop() == 0

    told = server.get("/api/clusters")  # of a run that says nothing
    assert told["doubtful"] is None and {one["doubtful"] for one in told["clusters"]} == {0}
    segment = server.get("/api/segments?rows=0")["segments"][0]
    assert (segment["doubt"], segment["doubtful"]) == (None, False)
    assert rows(server, doubtful="yes") == [] and sorted(rows(server, order="doubt")) == list(range(len(index)))


def test_every_kind_of_edit_goes_through_and_back(app):
    server = Server(app.run)
    first, second = (one["id"] for one in server.get("/api/clusters")["clusters"][:2])
    size = server.get("/api/clusters")["clusters"][0]["size"]
    row = rows(server, cluster=first)[0]
    asked = [
        {"kind": "name", "cluster": first, "text": "a"},
        {"kind": "name", "cluster": second, "text": "b"},
        {"kind": "answer", "row": row, "cluster": first, "yes": True},
        {"kind": "answer", "row": rows(server, cluster=second)[0], "cluster": second, "yes": False},
        {"kind": "answer", "rows": rows(server, cluster=second)[1:3], "cluster": first, "yes": True},
        {"kind": "propagate", "min_probability": 0.5},
        {"kind": "split", "cluster": first, "parts": 2},
        {"kind": "merge", "clusters": [first, second]},
        {"kind": "reject", "rows": [row]},
        {"kind": "restore", "rows": [row]},
        {"kind": "move", "rows": [row], "new": True},
    ]
    done = 0
    for one in asked:
        reply = server.edit(**one)
        if reply.status == 400 and one["kind"] == "propagate":
            continue  # nothing would move
        assert reply.status == 200, (one, reply)
        assert reply.json["undo"]["id"] == reply.json["edit"]["id"]
        about = reply.json["edit"]["cluster"]
        if one["kind"] in ("name", "merge", "answer"):
            assert about in (first, second)
        if one["kind"] == "split" or one.get("new"):
            assert about not in (None, first, second)
        done += 1
    for _ in range(done):
        assert server.edit(kind="undo").status == 200
    assert server.edit(kind="undo").status == 400
    told = server.get("/api/clusters")
    assert (told["undo"], told["clusters"][0]["name"], told["clusters"][0]["size"]) == (None, None, size)
    for _ in range(done):
        assert server.edit(kind="redo").status == 200
    assert server.get("/api/clusters")["redo"] is None
    history = server.get("/api/edits?limit=1000")["edits"]
    assert len(history) == 3 * done
    assert all(one["author"] and one["when"] and one["text"] for one in history)
    assert server.stop() == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "name", "text": "x"},
        {"kind": "name", "cluster": "nothing", "text": "x"},
        {"kind": "merge", "clusters": []},
        {"kind": "move", "rows": [0]},
        {"kind": "reject"},
        {"kind": "reject", "rows": [10**6]},
        {"kind": "answer", "row": 0, "cluster": "0"},
        {"kind": "split", "cluster": "0", "parts": 1},
        {"kind": "propagate", "min_probability": 7},
        {"kind": "undo", "colour": "red"},
    ],
)
def test_an_edit_that_makes_no_sense_changes_nothing(server, asked):
    before = server.get("/api/changes")
    reply = server.edit(**asked)
    assert reply.status in (400, 404, 422)
    assert reply.json["detail"]
    assert server.get("/api/changes") == before


def test_videos_and_their_segments_along_time(server, truth):
    told = server.get("/api/videos?limit=3&offset=2")
    assert (told["total"], len(told["videos"])) == (16, 3)
    detail = server.get(f"/api/videos/{told['videos'][0]['video']}")
    assert detail["playable"]
    assert detail["why_not"] is None
    assert [one["start"] for one in detail["segments"]] == [0.0, 2.0]
    assert server.ask("/api/videos/0123456789").status == 404


def test_the_map_has_a_place_for_every_segment(server, truth):
    told = server.get("/api/map")
    count = len(truth.index.segments)
    assert len(told["x"]) == len(told["y"]) == len(told["cluster"]) == len(told["confidence"]) == count
    assert max(map(abs, told["x"] + told["y"])) <= 1
    assert [told["ids"][place] for place in told["cluster"]] == [truth.ids[place] for place in truth.cluster_of]


def test_questions_are_about_the_least_certain(server):
    told = server.get("/api/review?limit=5")
    assert len(told["questions"]) == 5
    for question in told["questions"]:
        assert 0 <= question["probability"] <= 1
        assert question["cluster"] not in [other["cluster"] for other in question["others"]]
    assert told["answered"] == 0


@pytest.mark.parametrize("by", ["both", "sight", "sound", "across"])
def test_a_search_by_a_segment_finds_its_kind(server, by, truth):
    generation = server.get("/api/changes")["generation"]
    reply = server.ask("/api/search", "POST", {"generation": generation, "row": 4, "by": by, "k": 6})
    assert reply.status == 200, reply
    told = reply.json
    assert len(told["hits"]) == 6
    scores = [hit["score"] for hit in told["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert told["through"]
    if by != "across":
        segments = server.get("/api/segments?rows=" + ",".join(str(hit["row"]) for hit in told["hits"][:3]))["segments"]
        kind = int(truth.index.segments.video_of(4).video_id[5:7]) % 4
        assert any(s["title"][5:7].isdigit() and int(s["title"][5:7]) % 4 == kind for s in segments)


def test_a_search_by_a_stretch_and_within_a_cluster(server, truth):
    generation, video = server.get("/api/changes")["generation"], server.video("clip_02")
    cluster = truth.clusters[0]
    asked = {"generation": generation, "video": video, "start": 0.5, "end": 2.5, "cluster": cluster.id, "k": 100}
    told = server.ask("/api/search", "POST", asked).json
    assert {hit["row"] for hit in told["hits"]} <= set(cluster.rows.tolist())
    for wrong in ({}, {"row": 1, "video": video}, {"video": video}, {"video": video, "start": 3, "end": 2},
                  {"row": 10**6}):  # fmt: skip
        assert server.ask("/api/search", "POST", {"generation": generation} | wrong).status in (400, 404)


def test_the_collection_is_exported_as_a_download(server, truth):
    reply = server.ask("/api/export?format=csv")
    assert reply.status == 200
    assert "attachment" in reply.headers["content-disposition"]
    found = list(csv.DictReader(io.StringIO(reply.body.decode())))
    assert len(found) == len(truth.index.segments)
    assert server.ask("/api/export?format=../../etc/passwd").status == 422


def test_copies_among_the_videos_are_found(server):
    told = server.get("/api/duplicates")
    assert told["compared"] == 16
    assert isinstance(told["groups"], list)


def test_the_interface_describes_itself(server):
    schema = server.get("/api/openapi.json")
    paths = {"/api/run", "/api/clusters", "/api/rows", "/api/segments", "/api/map", "/api/videos", "/api/edits",
             "/api/review", "/api/search", "/api/search/file", "/api/changes", "/api/duplicates", "/api/export",
             "/media/videos/{video}", "/media/videos/{video}/stretch", "/media/segments/{row}/strip.jpg",
             "/media/segments/{row}/sound.m4a", "/media/segments/{row}/wave.json"}  # fmt: skip
    assert paths <= set(schema["paths"])
    for path, methods in schema["paths"].items():
        for method, what in methods.items():
            assert what["summary"], path
            assert what.get("description"), (path, method)
            content = what["responses"]["200"].get("content", {})
            if path.startswith("/api/") and path not in ("/api/export",):
                assert content["application/json"]["schema"], path
    page = server.ask("/api/docs").body.decode()
    assert "http:" not in page
    assert "https:" not in page
    assert "<script>" not in page
    assert "style=" not in page
    for asset in ("/api/docs.css", "/static/docs.js"):
        assert asset in page
        assert server.ask(asset).status == 200


def test_a_run_that_cannot_be_written_to_is_not_edited(made_app, monkeypatch):
    session = Session(made_app.run)
    try:
        monkeypatch.setattr("seehear.app.api.reading.os.access", lambda *_: False)
        asked = EditRequest(generation=session.generation, kind="name", cluster="0", text="x")
        with pytest.raises(ReadOnlyError):
            editing.edit(session, "both", asked)
    finally:
        session.close()
