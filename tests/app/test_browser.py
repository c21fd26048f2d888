"""What people do in the browser, done in a real one: every action, reload, two tabs and a server that is killed."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.app.browsing import CONTRAST, NAMELESS, NO_BROWSER, Visit, find_chromium, free_port, until
from tests.app.conftest import App, Server
from tests.corpus import make_video, tone

pytest.importorskip("playwright.sync_api", reason="playwright is missing: make setup installs it")
pytestmark = pytest.mark.skipif(find_chromium() is None, reason=NO_BROWSER)


def clusters(server: Server) -> list[dict[str, Any]]:
    """As the page orders them: the largest first."""
    return sorted(server.get("/api/clusters")["clusters"], key=lambda one: -one["size"])


def big(server: Server) -> dict[str, Any]:
    return clusters(server)[0]


def rows(server: Server, **query: Any) -> list[int]:
    return server.get("/api/rows?" + "&".join(f"{k}={v}" for k, v in query.items()))["rows"]


def shown(page: Any) -> list[int]:
    """Rows of the tiles, in their order."""
    return page.evaluate("[...document.querySelectorAll('.tile')].map((t) => [+t.dataset.index, +t.dataset.row])"
                         ".sort((a, b) => a[0] - b[0]).map((t) => t[1])")  # fmt: skip


def chosen(page: Any) -> int:
    return page.locator(".tile[aria-selected=true]").count()


def open_cluster(visit: Visit, cluster: str) -> Any:
    page = visit.go(f"cluster/{cluster}")
    page.wait_for_selector(".tile")
    return page


# ---- clusters


def test_the_first_page_shows_every_cluster_with_moving_pictures(visit: Visit, server: Server) -> None:
    page = visit.page
    expected = clusters(server)
    assert page.locator(".card").count() == len(expected)
    sizes = page.locator(".card-facts > :first-child").all_inner_texts()
    assert [int(text) for text in sizes] == [one["size"] for one in expected]
    page.wait_for_selector(".card .strip img.there")
    where = "getComputedStyle(document.querySelector('.card .strip img.there')).transform"
    first = page.evaluate(where)
    until(lambda: page.evaluate(where) != first, page)
    visit.keys(".")  # hold them still
    assert len({page.evaluate(where) for _ in range(8) if not page.wait_for_timeout(120)}) == 1


def test_a_name_given_in_place_survives_a_reload(visit: Visit, server: Server) -> None:
    page, first = visit.page, big(server)
    page.locator(".card").first.locator("button.name").click()
    page.keyboard.type("forgotten")
    visit.keys("Escape")
    assert server.get("/api/clusters")["undo"] is None
    visit.keys("n")
    page.keyboard.type("red <b>things</b>")
    visit.keys("Enter")
    visit.toast("red <b>things</b>")
    page.reload()
    page.wait_for_selector("button.name:has-text('red <b>things</b>')")
    assert next(c["name"] for c in clusters(server) if c["id"] == first["id"]) == "red <b>things</b>"
    assert page.locator("main b, main i").count() == 0  # a name is text, whatever is in it


def test_filters_and_order_of_clusters_are_in_the_address(visit: Visit, server: Server) -> None:
    page, first = visit.page, big(server)
    server.edit(kind="name", cluster=first["id"], text="sirens")
    page.get_by_role("radio", name="Named", exact=True).check()
    page.wait_for_selector(".card >> nth=0")
    until(lambda: page.locator(".card").count() == 1, page)
    page.get_by_role("combobox", name="Order").select_option("confidence")
    visit.keys("/")
    page.keyboard.type("siren")
    until(lambda: all(part in page.url for part in ("named=yes", "sort=confidence", "text=siren")), page)
    page.reload()
    page.wait_for_selector("button.name:has-text('sirens')")
    assert page.get_by_label("Find a cluster").input_value() == "siren"
    page.get_by_role("radio", name="Unnamed", exact=True).check()
    page.wait_for_selector("text=No cluster is like that")
    page.go_back()


def test_giving_a_taken_name_offers_to_merge(visit: Visit, server: Server) -> None:
    page = visit.page
    first, second = clusters(server)[:2]
    server.edit(kind="name", cluster=first["id"], text="bells")
    page.wait_for_selector("button.name:has-text('bells')")
    page.locator(f"[data-card='{second['id']}'] button.name").click()
    page.keyboard.type("Bells")
    visit.keys("Enter")
    page.get_by_role("button", name="Merge the two").click()
    visit.toast("erged")
    merged = next(c for c in clusters(server) if c["name"] == "bells")
    assert merged["size"] == first["size"] + second["size"] and merged["id"] == first["id"]


def test_merge_split_undo_and_redo_by_keys(visit: Visit, server: Server) -> None:
    page, before = visit.page, clusters(server)
    page.locator(f"[data-card='{before[1]['id']}'] .card-open").focus()
    visit.keys("m")
    page.get_by_label("Find a cluster").last.fill(f"cluster {before[0]['id']}")
    visit.keys("Enter")
    until(lambda: len(clusters(server)) == len(before) - 1, page)
    assert big(server)["size"] == before[0]["size"] + before[1]["size"]
    page.locator(f"[data-card='{before[0]['id']}'] .card-open").focus()
    visit.keys("s")
    page.wait_for_selector("text=Split into 2")
    visit.keys("ArrowRight")
    page.get_by_role("button", name="Split into 3").click()
    until(lambda: len(clusters(server)) == len(before) + 1, page)
    page.wait_for_selector(".toast")
    visit.keys("Control+z")
    until(lambda: len(clusters(server)) == len(before) - 1, page)
    until(lambda: page.locator(".card").count() == len(before) - 1, page)
    visit.keys("Control+z")
    until(lambda: [c["id"] for c in clusters(server)] == [c["id"] for c in before], page)
    until(lambda: page.get_by_role("button", name="Redo").is_enabled(), page)
    visit.keys("Control+Shift+z")
    until(lambda: len(clusters(server)) == len(before) - 1, page)
    visit.toast("erged")


def test_several_clusters_are_merged_at_once(visit: Visit, server: Server) -> None:
    page, before = visit.page, clusters(server)
    for one in before[1:3]:
        page.locator(f"[data-card='{one['id']}']").hover()
        page.get_by_role("checkbox", name=f"Choose cluster {one['id']}").check()
    page.locator(".chosen-count").get_by_role("button", name="Merge").click()
    page.get_by_role("option", name=f"cluster {before[0]['id']}").click()
    until(lambda: len(clusters(server)) == len(before) - 2, page)
    assert big(server)["size"] == sum(one["size"] for one in before[:3])


def test_pointing_at_a_picture_plays_its_sound(visit: Visit, server: Server) -> None:
    page = visit.page
    with page.expect_response(re.compile(r"/media/segments/\d+/sound\.m4a")) as heard:
        page.locator(".card .cell").first.hover()
    assert heard.value.status in (200, 206)
    page.wait_for_selector(".card.heard")
    page.mouse.move(2, 2)
    until(lambda: page.locator(".card.heard").count() == 0, page)
    visit.keys("Shift+L")  # off
    page.locator(".card .cell").nth(1).hover()
    page.wait_for_timeout(500)
    assert page.locator(".card.heard").count() == 0
    page.locator(".card-open").first.focus()
    visit.keys("Space")  # asked for by a key, it is heard all the same
    page.wait_for_selector(".card.heard")


# ---- segments


def test_segments_are_chosen_by_click_range_frame_and_all(visit: Visit, server: Server) -> None:
    one = big(server)
    page = open_cluster(visit, one["id"])
    expected = rows(server, cluster=one["id"])
    assert shown(page) == expected
    tiles = page.locator(".tile")
    tiles.nth(0).click()
    assert chosen(page) == 1
    page.locator(f"[data-row='{expected[3]}']").click(modifiers=["Shift"])
    assert chosen(page) == 4
    page.locator(f"[data-row='{expected[1]}']").click(modifiers=["Control"])
    assert chosen(page) == 3
    visit.keys("Control+a")
    assert chosen(page) == len(expected)
    page.wait_for_selector(f".action-bar:has-text('{len(expected)} segments')")
    visit.keys("Escape")
    assert chosen(page) == 0
    a, b = (page.locator(f"[data-row='{expected[i]}']").bounding_box() for i in (0, 2))
    page.mouse.move(a["x"] + 20, a["y"] + 20)
    page.mouse.down()
    page.mouse.move(b["x"] + 40, b["y"] + 60, steps=6)
    page.mouse.up()
    assert chosen(page) == 3
    visit.keys("ArrowRight", "Shift+ArrowRight")  # from the keyboard as well
    assert chosen(page) >= 2


def test_segments_are_confirmed_moved_rejected_and_restored(visit: Visit, server: Server) -> None:
    first, second = clusters(server)[:2]
    page = open_cluster(visit, first["id"])
    members = rows(server, cluster=first["id"])
    page.locator(f"[data-row='{members[0]}']").click()
    visit.keys("y")
    until(lambda: rows(server, cluster=first["id"], state="confirmed") == [members[0]], page)
    page.wait_for_selector(f"[data-row='{members[0]}'] .badge.good")

    page.locator(f"[data-row='{members[1]}']").click()
    page.locator(f"[data-row='{members[2]}']").click(modifiers=["Control"])
    visit.keys("v")
    page.get_by_label("Find a cluster").last.fill(f"cluster {second['id']}")
    visit.keys("Enter")
    until(lambda: {members[1], members[2]} <= set(rows(server, cluster=second["id"])), page)
    until(lambda: members[1] not in shown(page), page)

    page.locator(f"[data-row='{members[0]}']").click()
    visit.keys("x")
    until(lambda: rows(server, state="rejected") == [members[0]], page)
    page.get_by_role("radio", name="Rejected", exact=True).check()
    page.goto(page.url.split("#")[0] + "#/segments?state=rejected")
    page.wait_for_selector(f".tile.rejected[data-row='{members[0]}']")
    page.locator(f"[data-row='{members[0]}']").click()
    page.get_by_role("button", name="Restore").click()
    until(lambda: rows(server, state="rejected") == [], page)

    page.goto(page.url.split("#")[0] + f"#/cluster/{second['id']}")
    page.wait_for_selector(".view-head")
    until(lambda: set(shown(page)) == set(rows(server, cluster=second["id"])), page)
    page.locator(f"[data-row='{members[1]}']").click()
    visit.keys("Shift+N")
    page.get_by_label("Name of the cluster").fill("a new kind")
    visit.keys("Enter")
    until(lambda: any(c["name"] == "a new kind" and c["size"] == 1 for c in clusters(server)), page)


def test_filters_of_segments_combine_and_are_in_the_address(visit: Visit, server: Server) -> None:
    page = visit.go("segments?order=surest&text=clip_0&min=0.05")
    expected = rows(server, order="surest", text="clip_0", min_confidence=0.05)
    assert expected
    until(lambda: shown(page)[:6] == expected[:6], page)
    slide = """(e) => { e.value = 60;
        for (const name of ["input", "change"]) e.dispatchEvent(new Event(name, { bubbles: true })); }"""
    page.get_by_label("Confidence, at most").evaluate(slide)
    expected = rows(server, order="surest", text="clip_0", min_confidence=0.05, max_confidence=0.6)
    until(lambda: shown(page)[:6] == expected[:6] and "max=0.6" in page.url, page)
    page.reload()
    until(lambda: shown(page)[:6] == expected[:6], page)
    page.get_by_role("button", name="Show all").click()
    until(lambda: "max=" not in page.url and "text=" not in page.url, page)
    page.goto(page.url.split("#")[0] + f"#/segments?video={server.video('clip_03')}&order=time")
    until(lambda: shown(page) == rows(server, video=server.video("clip_03"), order="time"), page)


def test_doubtful_segments_are_shown_filtered_and_decided_on(browser: Any, doubted: App) -> None:
    server = Server(doubted.run)
    visit = Visit(browser, server)
    page = visit.page
    page.get_by_role("link", name="4 segments may belong to no kind").click()
    wanted = rows(server, doubtful="yes", order="doubt")
    until(lambda: shown(page) == wanted, page)
    page.wait_for_selector(".tile .badge.doubtful")
    assert page.locator(".tile .badge.doubtful").count() == 4
    assert "may belong to no kind" in page.locator(f"[data-row='{wanted[0]}']").get_attribute("aria-label")
    page.get_by_role("radio", name="Not doubtful").check()
    until(lambda: set(shown(page)).isdisjoint(wanted) and shown(page) != [], page)
    assert page.locator(".tile .badge.doubtful").count() == 0
    page.get_by_role("radio", name="Doubtful", exact=True).check()
    until(lambda: shown(page) == wanted, page)
    assert page.evaluate(NAMELESS) == [] and page.evaluate(CONTRAST) == []

    page.locator(f"[data-row='{wanted[0]}']").dblclick()
    page.wait_for_selector(".about-head:has-text('doubt 100 %') .state.doubtful")
    visit.keys("y")
    page.wait_for_selector(".about-head:has-text('doubt 0 %')")
    assert page.locator(".about-head .state.doubtful").count() == 0
    visit.keys("Escape")
    until(lambda: shown(page) == wanted[1:], page)
    page.locator(f"[data-row='{wanted[1]}']").click()
    visit.keys("x")
    until(lambda: shown(page) == wanted[2:], page)
    cluster = server.get(f"/api/segments?rows={wanted[2]}")["segments"][0]["cluster"]
    left = rows(server, doubtful="yes", cluster=cluster)
    visit.go(f"cluster/{cluster}")
    page.get_by_role("link", name=f"{len(left)} doubtful").click()
    until(lambda: shown(page) == left, page)
    visit.leave()
    assert server.stop() == 0


def test_of_a_run_without_doubts_nothing_is_said_of_them(visit: Visit, server: Server) -> None:
    assert visit.page.get_by_text("may belong to no kind").count() == 0
    page = open_cluster(visit, big(server)["id"])
    assert page.get_by_role("radio", name="Open").count() == 1
    assert page.get_by_text("doubtful").count() == 0


def test_everything_from_clusters_to_the_player_by_keyboard(visit: Visit, server: Server) -> None:
    page = visit.page
    visit.keys("g", "m")
    page.wait_for_selector(".map-frame")
    visit.keys("g", "c")
    page.wait_for_selector(".card")
    visit.keys("ArrowRight", "ArrowRight", "ArrowLeft")
    cluster = big(server)["id"]
    assert page.evaluate("document.activeElement.closest('[data-card]').dataset.card") == cluster
    visit.keys("Enter")
    page.wait_for_selector(".tile")
    visit.keys("ArrowRight", "ArrowRight", "ArrowLeft")
    row = page.evaluate("document.activeElement.dataset.row")
    assert int(row) in rows(server, cluster=cluster)
    visit.keys("Space")
    page.wait_for_selector(f".tile.heard[data-row='{row}']")
    visit.keys("Enter")
    page.wait_for_selector("dialog.player video")
    assert f"play={row}" in page.url
    for _ in range(40):  # the focus goes round within the dialog
        visit.keys("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    visit.keys("Escape")
    page.wait_for_selector("dialog", state="detached")
    until(lambda: page.evaluate("document.activeElement.dataset.row") == row, page)
    visit.keys("?")
    page.wait_for_selector("dialog.keys")
    visit.keys("Escape")


# ---- player


def test_the_player_loops_the_segment_and_shows_its_sound(visit: Visit, server: Server) -> None:
    one = big(server)
    listed = rows(server, cluster=one["id"])
    segment = server.get(f"/api/segments?rows={listed[0]}")["segments"][0]
    page = open_cluster(visit, one["id"])
    page.locator(f"[data-row='{listed[0]}']").dblclick()
    now = "document.querySelector('dialog video')?.currentTime ?? -1"
    until(lambda: page.evaluate(now) > segment["start"] + 0.05, page)
    page.get_by_label("Speed").select_option("2")
    assert page.evaluate("document.querySelector('dialog video').playbackRate") == 2
    times = []
    for _ in range(25):
        times.append(page.evaluate(now))
        page.wait_for_timeout(60)
    assert max(times) <= segment["end"] + 0.4 and min(times) >= segment["start"] - 0.4
    assert any(b < a - 0.5 for a, b in itertools.pairwise(times)), "it never went back to the beginning"
    visit.keys("Space")
    until(lambda: page.evaluate("document.querySelector('dialog video').paused"), page)
    before = page.evaluate(now)
    visit.keys(".")
    until(lambda: abs(page.evaluate(now) - before - 0.04) < 0.02, page)
    page.wait_for_selector(".spectrogram.there")
    drawn = page.evaluate("(() => { const c = document.querySelector('canvas.wave'); return c.getContext('2d')"
                          ".getImageData(0, 0, c.width, c.height).data.some((v) => v > 0); })()")  # fmt: skip
    assert drawn
    page.wait_for_selector(".hits .hit")
    visit.keys("j")
    until(lambda: f"play={listed[1]}" in page.url, page)
    visit.keys("y")
    until(lambda: rows(server, cluster=one["id"], state="confirmed") == [listed[1]], page)
    page.reload()
    page.wait_for_selector("dialog.player video")
    assert f"play={listed[1]}" in page.url
    page.go_back()


def test_a_stretch_drawn_on_the_waveform_is_searched_for(visit: Visit, server: Server) -> None:
    page = visit.go(f"videos?watch={server.video('clip_02')}")
    page.wait_for_selector(".spectrogram.there")
    box = page.locator(".detail").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 30, steps=5)
    page.mouse.up()
    page.get_by_role("button", name="Search this stretch").click()
    page.wait_for_selector(".answer-line:has-text('through')")
    assert re.search(r"start=[\d.]+&end=[\d.]+", page.url)
    page.go_back()


# ---- search


def test_more_like_this_by_sight_sound_weight_and_across(visit: Visit, server: Server) -> None:
    page = visit.go("search?row=0")
    answers = {}
    for how in ("Sight", "Sound", "Across", "Both"):
        page.locator(".how").get_by_role("radio", name=how, exact=True).check()
        by = how.lower()
        until(lambda by=by: f"how={by}" in page.url, page)
        asked = {"row": 0, "by": by, "k": 60, "generation": server.get("/api/changes")["generation"]}
        answer = server.ask("/api/search", "POST", asked).json
        answers[by] = [hit["row"] for hit in answer["hits"] if hit["row"] != 0]
        if answer["nothing_like_it"]:
            page.get_by_role("button", name="Show the nearest anyway").click()
        until(lambda by=by: shown(page)[:5] == answers[by][:5], page)
        assert answer["through"] in page.locator(".answer-line").inner_text()
    page.get_by_label("Weight of sound").fill("100")
    until(lambda: "w=1" in page.url, page)
    asked = {"row": 0, "by": "both", "sound_weight": 1.0, "k": 60, "generation": asked["generation"]}
    expected = [hit["row"] for hit in server.ask("/api/search", "POST", asked).json["hits"] if hit["row"] != 0]
    until(lambda: shown(page)[:5] == expected[:5] or page.get_by_text("Nothing like it here").count() > 0, page)


def test_a_dropped_file_is_searched_and_found_moments_are_saved(visit: Visit, server: Server, tmp_path: Path) -> None:
    red = [np.full((48, 64, 3), (240, 30, 30), np.uint8)] * 45
    make_video(tmp_path / "query.mp4", seconds=3, fps=15, frames=red, wave=tone(3, 24000, hz=200).astype(np.float32))
    Image.new("RGB", (64, 48), (40, 40, 250)).save(tmp_path / "blue.png")
    page = visit.go("search")
    page.set_input_files("input[type=file]", tmp_path / "query.mp4")
    page.wait_for_selector(".answer-line:has-text('through')", timeout=60000)
    if page.get_by_role("button", name="Show the nearest anyway").count():
        page.get_by_role("button", name="Show the nearest anyway").click()
    page.wait_for_selector(".tile")
    all_found = len(shown(page))
    page.get_by_label("Score at least").fill("99")
    until(lambda: len(shown(page)) < all_found, page)
    page.get_by_label("Score at least").fill("0")
    until(lambda: len(shown(page)) == all_found, page)
    saved = shown(page)[:2]
    page.locator(f"[data-row='{saved[0]}']").click()
    page.locator(f"[data-row='{saved[1]}']").click(modifiers=["Control"])
    visit.keys("v")
    page.get_by_label("Find a cluster").last.fill("found by search")
    visit.keys("Enter")
    until(lambda: any(c["name"] == "found by search" and c["size"] == 2 for c in clusters(server)), page)

    data = (tmp_path / "blue.png").read_bytes()
    with page.expect_response(re.compile("/api/search/file.*by=sight")) as answered:
        page.evaluate(
            """(bytes) => { const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(bytes)], "blue.png", { type: "image/png" }));
            for (const kind of ["dragenter", "dragover", "drop"]) document.body.dispatchEvent(
                new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: carried })); }""",
            list(data),
        )
    assert answered.value.status == 200
    page.wait_for_selector("figcaption:has-text('blue.png')")
    page.reload()
    page.wait_for_selector("text=Choose blue.png again")


# ---- review


def test_review_by_keys_and_propagate(visit: Visit, server: Server) -> None:
    before = len(server.get("/api/edits")["edits"])  # those that other tests took back are listed too
    page = visit.go("review")
    page.wait_for_selector(".asked .ask")
    asked = server.get("/api/review?limit=20")["questions"]
    visit.keys("y")
    until(lambda: rows(server, state="confirmed") == [asked[0]["row"]], page)
    visit.keys("n")
    until(lambda: len(server.get("/api/edits")["edits"]) == before + 2, page)
    page.wait_for_selector(".review-head:has-text('1 answer')")
    question = page.locator(".asked .ask").inner_text()
    visit.keys("s")
    until(lambda: page.locator(".asked .ask").inner_text() != question or page.locator(".asked").count() == 0, page)
    visit.keys("1")
    until(lambda: len(server.get("/api/edits")["edits"]) == before + 3, page)
    page.wait_for_selector(".review-head:has-text('2 answers')")  # the page knows it too, and asks the next one
    visit.keys("v")
    page.wait_for_selector("dialog[open] [role=option][aria-selected=true]")
    page.get_by_label("Find a cluster").last.press("Enter")
    until(lambda: len(server.get("/api/edits")["edits"]) == before + 4, page)
    # Of a cluster cut in two, one part gets a name: the other is likeliest of that, and certainly not of another kind.
    first, second = clusters(server)[:2]
    server.edit(kind="split", cluster=first["id"], parts=2)
    part = next(one for one in clusters(server) if one["id"].startswith(f"{first['id']}."))
    for one in (part, second):
        server.edit(kind="name", cluster=one["id"], text=f"kind {one['id']}")
    page.wait_for_selector("button:has-text('Propagate'):not([disabled])")
    page.get_by_role("button", name="Propagate").click()
    page.wait_for_selector(".effect")
    made = server.get("/api/edits")["edits"][0]
    assert made["kind"] == "propagate" and made["text"].lower() in page.locator(".effect").inner_text().lower()


# ---- map


def test_the_map_shows_opens_and_chooses_segments(visit: Visit, server: Server) -> None:
    page = visit.go("map")
    page.wait_for_selector(".scatter canvas")
    where = server.get("/api/map")
    frame = page.locator(".scatter").bounding_box()
    scale = min(frame["width"], frame["height"]) / 2 * 0.88
    x = frame["x"] + frame["width"] / 2 + where["x"][0] * scale
    y = frame["y"] + frame["height"] / 2 - where["y"][0] * scale
    page.mouse.move(x, y, steps=3)
    page.wait_for_selector(".map-tip .strip")
    page.mouse.click(x, y)
    page.wait_for_selector("dialog.player")
    visit.keys("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.get_by_role("button", name="Choose with a box").click()
    page.mouse.move(frame["x"] + 70, frame["y"] + 5)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] - 5, frame["y"] + frame["height"] - 5, steps=5)
    page.mouse.up()
    count = len(where["x"])
    page.wait_for_selector(f".action-bar:has-text('{count} segments')")
    visit.keys("x")
    until(lambda: len(rows(server, state="rejected")) == count, page)
    visit.keys("Control+z")
    until(lambda: len(rows(server, state="rejected")) == 0, page)
    page.get_by_role("button", name="Move the map").click()
    page.mouse.move(frame["x"] + 300, frame["y"] + 300)
    page.mouse.wheel(0, -600)
    until(lambda: "at=" in page.url, page)
    page.locator(".legend").get_by_role("radio", name="Confidence").check()
    page.locator(".legend-list button").first.click()
    until(lambda: "colour=confidence" in page.url and "only=" in page.url, page)
    page.reload()
    page.wait_for_selector(".legend-list button[aria-pressed=true]")
    page.locator(".scatter").focus()
    visit.keys("0", "j")
    page.wait_for_selector(".map-tip")
    visit.keys("Enter")
    page.wait_for_selector("dialog.player")


# ---- videos and history


def test_videos_are_found_and_their_timelines_lead_to_segments(visit: Visit, server: Server) -> None:
    page = visit.go("videos")
    page.wait_for_selector(".video-line")
    page.wait_for_selector("text=<script>")  # a file's name is text, whatever is in it
    visit.keys("/")
    page.keyboard.type("clip_05")
    until(lambda: page.locator(".video-line").count() == 1 and "text=clip_05" in page.url, page)
    page.locator(".video-line .overview canvas").click(position={"x": 5, "y": 5})
    page.wait_for_selector("dialog.player")
    video = server.get(f"/api/videos/{server.video('clip_05')}")
    assert f"play={video['segments'][0]['row']}" in page.url


def test_history_lists_edits_and_takes_them_back(visit: Visit, server: Server) -> None:
    server.edit(kind="name", cluster=big(server)["id"], text="thunder")
    page = visit.go("history")
    page.wait_for_selector(".history li:has-text('thunder')")
    page.locator("main").get_by_role("button", name="Undo").click()
    page.wait_for_selector(".history li.taken-back:has-text('thunder')")
    page.locator("main").get_by_role("button", name="Redo").click()
    until(lambda: big(server)["name"] == "thunder", page)
    page.wait_for_selector(".toast button:has-text('Undo')").click()
    until(lambda: big(server)["name"] is None, page)


def test_what_was_said_is_exported(visit: Visit, server: Server) -> None:
    server.edit(kind="name", cluster=big(server)["id"], text="thunder")
    page = visit.page
    page.get_by_role("button", name="Export").click()
    page.wait_for_selector(".exports a")
    formats = [link.get_attribute("href") for link in page.locator(".exports a").all()]
    with page.expect_download() as download:
        page.locator(".exports a").first.click()
    assert "thunder" in Path(download.value.path()).read_text(encoding="utf-8")
    assert [server.ask(link).status for link in formats] == [200] * len(formats)


# ---- others, and a server that goes away


def test_two_tabs_and_the_command_line_see_each_others_edits(visit: Visit, server: Server) -> None:
    one = big(server)
    page = open_cluster(visit, one["id"])
    page.locator(".tile").first.click()
    other = visit.tab()
    visit.enter(other)
    other.locator(f"[data-card='{one['id']}'] button.name").click()
    other.keyboard.type("from another tab")
    other.keyboard.press("Enter")
    page.wait_for_selector("h1 :text('from another tab')")
    assert chosen(page) == 1  # what was selected stays so
    run = Path(server.process.args[4])
    words = ["name", str(run), one["id"], "from a shell"]
    subprocess.run([sys.executable, "-m", "seehear", *words], check=True, capture_output=True)
    page.wait_for_selector("h1 :text('from a shell')", timeout=10000)
    other.wait_for_selector("button.name:has-text('from a shell')")


def test_a_killed_server_is_found_again_and_no_edit_is_lost(browser: Any, app: App) -> None:
    port = free_port()
    server = Server(app.run, "--port", str(port))
    visit = Visit(browser, server)
    page, first, second = visit.page, *clusters(server)[:2]
    page.locator(f"[data-card='{first['id']}'] button.name").click()
    page.keyboard.type("before the end")
    visit.keys("Enter")
    visit.toast("before the end")
    server.stop(signal.SIGKILL)
    page.locator(f"[data-card='{second['id']}'] button.name").click()
    page.keyboard.type("said to nobody")
    visit.keys("Enter")
    page.wait_for_selector(".banner:has-text('does not answer')")
    page.wait_for_selector(".banner:has-text('1 edit of yours waits')")
    server = visit.server = Server(app.run, "--port", str(port))
    try:
        # Another start has another key: the tab says so, and goes on as soon as the new address was opened in any tab.
        other = visit.tab()
        visit.enter(other)
        page.wait_for_selector(".banner", state="detached")
        until(lambda: {c["name"] for c in clusters(server)} >= {"before the end", "said to nobody"}, page)
        page.wait_for_selector("button.name:has-text('said to nobody')")
        # whichever tab sent it takes it from the queue once the answer is there, after the server has kept the name
        until(lambda: page.evaluate("localStorage.getItem('seehear.unsent')") == "[]", page)
        visit.leave(lambda line: "Failed to load resource" in line)  # while nobody answered
    finally:
        server.stop()


def test_a_rebuilt_index_offers_to_load_anew(browser: Any, app: App) -> None:
    from seehear.search.building import build_index

    server = Server(app.run)
    visit = Visit(browser, server)
    try:
        build_index(app.run, every_seconds=1.0, workers=1)
        visit.page.wait_for_selector(".banner:has-text('rebuilt')", timeout=20000)
        visit.page.get_by_role("button", name="Load anew").click()
        visit.page.wait_for_selector(".card:not(.skeleton)")
        until(lambda: visit.page.locator(".banner").count() == 0, visit.page)
        assert str(server.get("/api/run")["segments"]) in visit.page.locator(".view-head").inner_text()
        visit.leave()
    finally:
        server.stop()
