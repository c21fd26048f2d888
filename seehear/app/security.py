"""Who may speak to the server: this machine's own pages with the token of this start, and nobody else.

A browser on this machine runs the pages of strangers too, and they can send requests to 127.0.0.1. So a request must

- name this server as its `Host`: a stranger's name that was made to point at this machine (DNS rebinding) does not,
- carry the token of this start, in a cookie that no other site's page can make a browser send, or as a bearer,
- come from a page of this server where a browser says where it comes from (`Origin`, `Sec-Fetch-Site`). Cookies do not
  tell two ports of one machine apart; these headers do.

The replies forbid the page everything that it does not need, so that a name or a file's metadata that some slip would
let through as markup could neither run nor fetch anything.
"""

from __future__ import annotations

import functools
import hmac
import html
import ipaddress
import secrets
import socket
from http.cookies import CookieError, SimpleCookie
from importlib import resources
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""The content security policy: nothing from elsewhere, nothing inline, nobody's frame."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), usb=()",
}
"""Sent with every reply."""

BODY_LIMIT_BYTES = 16 << 20
"""Of a request's body, where `LARGE_BODIES` says nothing else."""

LARGE_BODIES = {"/api/search/file": 200 << 20}
"""Paths that take more, and how much."""

_READS = frozenset({"GET", "HEAD"})
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Hosts:
    """The names by which this server may be called, with its port: what a request's `Host` must be."""

    def __init__(self, host: str, port: int) -> None:
        self.port = port
        self.any_address = host in ("0.0.0.0", "::", "")
        """Bound to all addresses of the machine: it may be called by any of them, but never by a stranger's name."""
        named = f"[{host}]" if ":" in host else host.lower()
        own = {socket.gethostname().lower(), socket.getfqdn().lower()} if self.any_address else {named}
        self.names = frozenset({*_LOOPBACK_NAMES, *own})

    def __contains__(self, given: str) -> bool:
        name, port = _parted(given.lower())
        if port != str(self.port) and not (port == "" and self.port == 80):
            return False
        return name in self.names or (self.any_address and _is_address(name))


class Guard:
    """The outermost layer of the application (pure ASGI): checks each request, and puts `HEADERS` on each reply.

    token: what a request must carry; None makes one. Every start has another
    host, port: where the server listens
    """

    def __init__(self, app: ASGIApp, *, port: int, host: str = "127.0.0.1", token: str | None = None) -> None:
        self.app = app
        self.token = token or secrets.token_urlsafe(32)
        self.hosts = Hosts(host, port)
        self.cookie = f"seehear_{port}"
        """Named by the port: all ports of a machine share cookies, and two servers must not log each other out."""
        self._tickets: set[str] = set()

    def ticket(self) -> str:
        """A token that lets in once.

        For the URL that a browser is started with: other users of the machine see it among the arguments of processes.
        """
        made = secrets.token_urlsafe(32)
        self._tickets.add(made)
        return made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no websockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        refusal = self._refuse_stranger(headers, scope) or self._let_in(headers, scope)
        if refusal is None and not self._known(headers):
            refusal = _page(401, "This page needs the key of this start", _HOW_TO_GET_IN, scope)
        limit = LARGE_BODIES.get(scope["path"], BODY_LIMIT_BYTES)
        if refusal is None and _stated_length(headers) > limit:
            refusal = _too_large(limit)
        body = _LimitedBody(receive, limit)
        reply = _Reply(send, body)
        if refusal is not None:
            await refusal(scope, receive, reply)
            return
        try:
            await self.app(scope, body, reply)
        except Exception:
            if not body.exceeded:
                raise
        if body.exceeded and not reply.started:
            body.taken = 0
            await _too_large(limit)(scope, receive, reply)

    def _refuse_stranger(self, headers: Headers, scope: Scope) -> Response | None:
        """The reply to a request that is not meant for this server, or comes from the page of another."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            return _page(421, "This server is not called that", _HOW_TO_CALL.format(port=self.hosts.port), scope)
        own = f"http://{hosts[0].lower()}"
        origins = headers.getlist("origin")
        if any(origin.lower() != own for origin in origins):
            return _page(403, "Another page asked for this", _ANOTHER_PAGE, scope)
        if headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none"):
            return None
        # Of what other pages ask for, only following a link to the first page is harmless.
        if scope["method"] in _READS and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate":
            return None
        return _page(403, "Another page asked for this", _ANOTHER_PAGE, scope)

    def _let_in(self, headers: Headers, scope: Scope) -> Response | None:
        """The reply to `/?token=...`: a cookie and the way on, if the token is right."""
        if scope["path"] != "/" or scope["method"] not in _READS:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if not given:
            return None
        used = next((ticket for ticket in self._tickets if _same(ticket, given[0])), None)
        if used is None and not _same(self.token, given[0]):
            return _page(401, "This key is of another start", _HOW_TO_GET_IN, scope)
        self._tickets.discard(used or "")
        reply: Response = RedirectResponse("/", 303)
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            # A browser does not send the cookie on a redirect that began on another page: this page leads on itself.
            reply = HTMLResponse(_template("welcome.html"))
        reply.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return reply

    def _known(self, headers: Headers) -> bool:
        """Whether a request carries the token."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(self.token, bearer.strip()):
            return True
        for text in headers.getlist("cookie"):
            try:
                found = SimpleCookie(text).get(self.cookie)
            except CookieError:
                continue
            if found is not None and _same(self.token, found.value):
                return True
        return False


class _TooLarge(Exception):
    """More of a body came than may."""


class _LimitedBody:
    """Receives a request's body and stops it where it grows too large, whatever length was stated."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self.receive, self.limit, self.taken = receive, limit, 0

    @property
    def exceeded(self) -> bool:
        return self.taken > self.limit

    async def __call__(self) -> Message:
        message = await self.receive()
        self.taken += len(message.get("body", b""))
        if self.exceeded:
            raise _TooLarge
        return message


class _Reply:
    """Sends a reply with `HEADERS`; nothing where the body was too large, which the application takes for a fault."""

    def __init__(self, send: Send, body: _LimitedBody) -> None:
        self.send, self.body, self.started = send, body, False

    async def __call__(self, message: Message) -> None:
        if self.body.exceeded and not self.started:
            return
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await self.send(message)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _same(secret: str, given: str) -> bool:
    return hmac.compare_digest(secret.encode(), given.encode("utf-8", "surrogateescape"))


def _parted(host: str) -> tuple[str, str]:
    """Name and port of a `Host`, the port "" where there is none."""
    if host.startswith("["):
        name, _, rest = host.partition("]")
        return f"{name}]", rest.removeprefix(":") if rest.startswith(":") or not rest else "?"
    name, _, port = host.partition(":")
    return name, port


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _stated_length(headers: Headers) -> int:
    """What `Content-Length` says; 0 where it says nothing, as the body is counted in any case."""
    text = headers.get("content-length", "0")
    return int(text) if text.isdecimal() and len(text) < 20 else 0


def _too_large(limit: int) -> Response:
    detail = f"the request is larger than {limit >> 20} MiB"
    body = {"detail": detail, "remedy": "send a shorter stretch, or search from the command line", "kind": "too_large"}
    return JSONResponse(body, 413, headers={"connection": "close"})


_HOW_TO_GET_IN = (
    "Open the address that `seehear serve` printed when it started, the whole of it with its token; if that terminal "
    "is closed, give the command again. A program sends the token as `Authorization: Bearer TOKEN`."
)
_HOW_TO_CALL = (
    "It answers to 127.0.0.1:{port} and localhost:{port}, and to the name that was given as --host. Through a tunnel, "
    "use the same port at both ends."
)
_ANOTHER_PAGE = "Only the pages of this server may ask it for anything. Open it in a tab of its own."


def _page(status: int, title: str, text: str, scope: Scope) -> Response:
    """A refusal: a page for a person who came by the address bar, JSON for all else."""
    if status == 401 and not scope["path"].startswith(("/api/", "/media/")):
        page = _template("refused.html").replace("{title}", html.escape(title)).replace("{text}", html.escape(text))
        return HTMLResponse(page, status)
    kind = "token" if status == 401 else "refused"
    return JSONResponse({"detail": title, "remedy": text, "kind": kind}, status)


@functools.cache
def _template(name: str) -> str:
    return resources.files("seehear.app").joinpath("pages", name).read_text(encoding="utf-8")
