"""The application put together, and the server that runs it on this machine."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import resources
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

import seehear
from seehear.app.api import editing, playing, reading, searching
from seehear.app.api.common import answer_errors
from seehear.app.security import Guard, is_loopback
from seehear.app.session import Session
from seehear.errors import UsageError
from seehear.report import templates

DEFAULT_PORT = 8765
_TRIED_PORTS = 50
_GRACE_SECONDS = 2
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml", ".css": "text/css"}


class _Files(StaticFiles):
    """The pages' own files; looked at again at every load, as an update of seehear may change them."""

    async def get_response(self, path: str, scope: object) -> Response:
        reply = await super().get_response(path, scope)  # type: ignore[arg-type]
        if reply.status_code == 200 and (kind := _TYPES.get(Path(path).suffix)):
            # Not as the machine's tables of types have it: scripts of another type are refused.
            reply.headers["content-type"] = f"{kind}; charset=utf-8"
        reply.headers["cache-control"] = "no-cache"
        return reply


def build_app(session: Session) -> FastAPI:
    """All routes, without the guard that stands before them. Closes the session when it ends."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        session.close()

    app = FastAPI(
        title="seehear", version=seehear.__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json",
        description="Look through a run's clusters, name and correct them, search. See docs/app.md.", lifespan=lifespan,
    )  # fmt: skip
    app.state.session = session
    answer_errors(app)
    for module in (reading, editing, searching, playing):
        app.include_router(module.router)
    _add_pages(app)
    return app


def _add_pages(app: FastAPI) -> None:
    static = Path(str(resources.files("seehear.app"))) / "static"
    pages = resources.files("seehear.app") / "pages"

    @app.get("/", include_in_schema=False)
    def index() -> HTMLResponse:
        page = static / "index.html"
        if not page.is_file():
            raise HTTPException(404, "this installation lacks the pages")
        return HTMLResponse(page.read_text(encoding="utf-8"), headers={"cache-control": "no-cache"})

    @app.get("/static/tokens.css", include_in_schema=False)
    def tokens() -> Response:
        try:
            text = templates.asset("tokens.css")
        except FileNotFoundError:
            raise HTTPException(404, "Not Found") from None
        return Response(text, media_type="text/css", headers={"cache-control": "no-cache"})

    @app.get("/api/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse((pages / "docs.html").read_text(encoding="utf-8"))

    @app.get("/api/docs.css", include_in_schema=False)
    def docs_style() -> Response:
        return Response((pages / "docs.css").read_text(encoding="utf-8"), media_type="text/css")

    @app.api_route("/api/{_rest:path}", methods=["GET", "HEAD", "POST", "PUT", "DELETE"], include_in_schema=False)
    def nothing(_rest: str) -> JSONResponse:
        raise HTTPException(404, "there is no such address; see /api/docs")

    app.mount("/static", _Files(directory=static, check_dir=False, follow_symlink=False))


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens; with no port given, on the first free one from `DEFAULT_PORT` on.

    Raises `UsageError` if the port that was named is taken, or the address is none of this machine.
    """
    if port is not None and not 0 <= port < 1 << 16:
        raise UsageError(f"there is no port {port}", "choose one from 1024 to 65535")
    wanted = [port] if port is not None else [*range(DEFAULT_PORT, DEFAULT_PORT + _TRIED_PORTS), 0]
    for candidate in wanted:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0]
            made = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise UsageError(f"cannot listen on {host}: {error.strerror}", "leave --host out") from error
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(128)
            return made
        except OSError as error:
            made.close()
            if port is None and error.errno == errno.EADDRINUSE:
                continue
            raise _cannot_listen(host, candidate, error) from error
    raise UsageError(f"no free port on {host}", "name one: --port N")


def check_address(host: str, port: int | None) -> None:
    """Raise what `listen` raises, before any work is done."""
    if port != 0:
        listen(host, port).close()


def _cannot_listen(host: str, port: int, error: OSError) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"port {port} is taken", "leave --port out, or choose another")
    if error.errno == errno.EACCES:
        return UsageError(f"port {port} may not be used by this user", "choose one from 1024 on")
    return UsageError(f"cannot listen on {host}:{port}: {error.strerror}", "leave --host out")


def run_server(
    session: Session, *, host: str = "127.0.0.1", port: int | None = None, open_browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:  # fmt: skip
    """Serve until Ctrl-C or SIGTERM, which end it cleanly; closes the session.

    `say` gets the line with the address as soon as it answers, and before it what another `host` than loopback means.
    """
    try:
        listening = listen(host, port)
    except BaseException:
        session.close()
        raise
    number = listening.getsockname()[1]
    guard = Guard(build_app(session), port=number, host=host)
    shown = (
        "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else f"[{host}]" if ":" in host else host
    )
    address = f"http://{shown}:{number}/"
    if not is_loopback(host):
        say(
            f"Listening on {host}: whoever can reach this machine over the network and has the address below can see "
            "and change this collection, and what is sent is not encrypted."
        )

    def ready() -> None:
        say(f"seehear shows {session.run} at {address}?token={guard.token} (Ctrl-C ends it)")
        if open_browser and has_display():
            threading.Thread(target=webbrowser.open, args=(f"{address}?token={guard.ticket()}",), daemon=True).start()

    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    # No access log: it would hold the token.
    config = uvicorn.Config(
        guard, access_log=False, log_config=None, lifespan="on", proxy_headers=False, server_header=False, ws="none",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )  # fmt: skip
    with _ended_by_signals(), listening:
        _Server(config, ready).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Says when it is there."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM mean no more than that the server ends: uvicorn raises them again when it has."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def has_display() -> bool:
    """Whether a browser can show anything here; where not, one that opens in the terminal would take it over."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
