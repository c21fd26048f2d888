"""The guard alone, request by request; `test_attacks` has the same through a real server."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from seehear.app.security import BODY_LIMIT_BYTES, HEADERS, Guard, Hosts, is_loopback

TOKEN = "right-token"
COOKIE = f"seehear_8765={TOKEN}"


async def _app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def finished(coroutine):
    """What a coroutine returns, run in a thread of its own: the browser's driver keeps a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def ask(path="/", method="GET", query="", body=(b"",), app=_app, guard=None, **headers):
    """(status, headers as list, body) of one request."""
    guard = guard or Guard(app, port=8765, token=TOKEN)
    given = {"host": "127.0.0.1:8765"} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in given.items() if value is not None]
    messages, parts = [], list(body)

    async def receive():
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message):
        messages.append(message)

    scope = {"type": "http", "path": path, "method": method, "query_string": query.encode(), "headers": raw}
    finished(guard(scope, receive, send))
    found = [(name.decode(), value.decode()) for name, value in messages[0]["headers"]]
    return messages[0]["status"], found, b"".join(m.get("body", b"") for m in messages[1:])


@pytest.mark.parametrize(
    "path", ["/", "/static/app.js", "/api/run", "/api/openapi.json", "/media/videos/x", "/nothing"]
)
def test_without_the_token_nothing_is_let_in(path):
    status, _, body = ask(path)
    assert status == 401
    assert b"inside" not in body
    assert b"seehear serve" in body


@pytest.mark.parametrize(
    "headers",
    [
        {"cookie": "seehear_8765=wrong"},
        {"cookie": f"seehear_9999={TOKEN}"},
        {"cookie": f"other={TOKEN}"},
        {"authorization": "Bearer wrong"},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer "},
        {"cookie": "seehear_8765="},
        {"cookie": '\x7f"=,;seehear_8765'},
    ],
)
def test_a_wrong_token_is_none(headers):
    assert ask("/api/run", **headers)[0] == 401


@pytest.mark.parametrize(
    "headers", [{"cookie": COOKIE}, {"cookie": f"a=b; {COOKIE}"}, {"authorization": f"bearer {TOKEN}"}]
)
def test_the_token_lets_in(headers):
    assert ask("/api/run", **headers)[0] == 200


def test_the_address_with_the_token_sets_a_cookie_and_leads_on():
    status, headers, _ = ask("/", query=f"token={TOKEN}")
    found = dict(headers)
    assert (status, found["location"]) == (303, "/")
    cookie = found["set-cookie"].lower()
    assert cookie.startswith(f"seehear_8765={TOKEN}".lower())
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "domain" not in cookie


def test_a_link_from_another_page_leads_on_by_a_page_of_its_own():
    status, headers, body = ask("/", query=f"token={TOKEN}", sec_fetch_site="cross-site", sec_fetch_mode="navigate")
    assert status == 200
    assert "set-cookie" in dict(headers)
    assert b"url=/" in body
    assert TOKEN.encode() not in body


def test_a_ticket_lets_in_once():
    guard = Guard(_app, port=8765, token=TOKEN)
    ticket = guard.ticket()
    assert ticket != TOKEN
    assert ask("/", query=f"token={ticket}", guard=guard)[0] == 303
    assert ask("/", query=f"token={ticket}", guard=guard)[0] == 401
    assert ask("/api/run", authorization=f"Bearer {guard.ticket()}", guard=guard)[0] == 401


def test_every_start_has_another_token():
    assert Guard(_app, port=1).token != Guard(_app, port=1).token
    assert len(Guard(_app, port=1).token) >= 40


@pytest.mark.parametrize(
    "host",
    ["evil.example:8765", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8765.evil.example", "localhost:8765@evil", "", None,
     "[::1]", "[::1]8765", "localhost.evil.example:8765", "127.0.0.2:8765"],
)  # fmt: skip
def test_a_foreign_host_is_refused_even_with_the_token(host):
    assert ask("/api/run", host=host, cookie=COOKIE)[0] == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765", "LOCALHOST:8765"])
def test_the_own_names_are_answered(host):
    assert ask("/api/run", host=host, cookie=COOKIE)[0] == 200


def test_two_hosts_are_refused():
    async def one():
        messages = []

        async def send(message):
            messages.append(message)

        hosts = [(b"host", b"127.0.0.1:8765"), (b"host", b"evil:8765"), (b"cookie", COOKIE.encode())]
        scope = {"type": "http", "path": "/api/run", "method": "GET", "query_string": b"", "headers": hosts}
        await Guard(_app, port=8765, token=TOKEN)(scope, None, send)
        return messages[0]["status"]

    assert finished(one()) == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "GET"])
@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1:8765", "http://localhost:8765"],
)
def test_a_foreign_origin_is_refused_even_with_the_token(method, origin):
    assert ask("/api/edits", method, cookie=COOKIE, origin=origin)[0] == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/edits"), ("GET", "/media/videos/x"), ("GET", "/api/run"),
                                              ("GET", "/static/app.js"), ("POST", "/")])  # fmt: skip
def test_what_another_page_asks_for_is_refused(site, method, path):
    """Another port of this machine is the same site, and gets its cookies sent: the browser's word tells them apart."""
    assert ask(path, method, cookie=COOKIE, sec_fetch_site=site, sec_fetch_mode="no-cors")[0] == 403


def test_the_own_pages_may_ask():
    fetched = {"cookie": COOKIE, "origin": "http://127.0.0.1:8765", "sec_fetch_site": "same-origin"}
    assert ask("/api/edits", "POST", **fetched)[0] == 200


def test_a_link_to_the_first_page_may_be_followed_but_shows_nothing_without_the_cookie():
    from_elsewhere = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert ask("/", **from_elsewhere)[0] == 401
    assert ask("/", cookie=COOKIE, **from_elsewhere)[0] == 200
    assert ask("/", cookie=COOKIE, sec_fetch_site="cross-site", sec_fetch_mode="no-cors")[0] == 403


@pytest.mark.parametrize("headers", [{"cookie": COOKIE}, {}, {"host": "evil"}, {"origin": "http://evil"}])
def test_every_reply_carries_the_policy(headers):
    found = dict(ask("/api/run", **headers)[1])
    for name, value in HEADERS.items():
        assert found[name] == value
    assert found["cache-control"] == "no-store"
    assert not any(name.startswith("access-control") for name in found)


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere():
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "*" not in policy


def test_a_body_that_says_it_is_too_large_is_not_even_read():
    assert ask("/api/edits", "POST", cookie=COOKIE, content_length=str(BODY_LIMIT_BYTES + 1))[0] == 413
    assert ask("/api/search/file", "POST", cookie=COOKIE, content_length=str(BODY_LIMIT_BYTES + 1))[0] == 200
    assert ask("/api/search/file", "POST", cookie=COOKIE, content_length=str(201 << 20))[0] == 413


def test_a_body_that_lies_about_its_size_is_stopped():
    pieces = [bytes(1 << 20)] * (2 + (BODY_LIMIT_BYTES >> 20))
    assert ask("/api/edits", "POST", cookie=COOKIE, body=pieces, content_length="5")[0] == 413


def test_a_body_that_is_too_large_is_413_even_where_the_application_takes_it_for_a_fault():
    async def app(scope, receive, send):
        try:
            await _app(scope, receive, send)
        except Exception:  # noqa: BLE001
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"cannot parse"})

    pieces = [bytes(1 << 20)] * (2 + (BODY_LIMIT_BYTES >> 20))
    status, _, body = ask("/api/edits", "POST", cookie=COOKIE, body=pieces, app=app)
    assert status == 413
    assert b"cannot parse" not in body


def test_a_server_for_the_network_answers_to_addresses_but_to_no_strangers_name():
    hosts = Hosts("0.0.0.0", 8765)
    assert "192.168.1.7:8765" in hosts
    assert "[fe80::1]:8765" in hosts
    assert "evil.example:8765" not in hosts
    named = Hosts("192.168.1.7", 8765)
    assert "192.168.1.7:8765" in named
    assert "192.168.1.8:8765" not in named


def test_port_80_may_be_left_out():
    assert "localhost" in Hosts("127.0.0.1", 80)


def test_loopback_is_known():
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "192.168.1.7", "evil")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
