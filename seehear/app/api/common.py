"""What the routes share: the session of a request, answers that need no checking, errors as JSON."""

from __future__ import annotations

import json
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from seehear.app.api.models import By, Problem
from seehear.app.session import NotFoundError, ReadOnlyError, Session, StaleError
from seehear.errors import ConflictError, DestinationError, MediaError, RunError, SeehearError, UsageError

PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text}
    for code, text in {
        400: "the request asks for something impossible",
        401: "the token of this start is missing",
        404: "there is no such thing",
        409: "the page speaks of an index or an edit that is no longer the last one (kinds `generation`, `conflict`)",
        410: "the file is gone, or is not the one that was scanned",
        422: "a field has a wrong type, or a file cannot be used",
    }.items()
}
"""What may be answered in the place of a result, for the documentation."""

_STATUS: tuple[tuple[type[SeehearError], int, str], ...] = (
    (StaleError, 409, "generation"),
    (NotFoundError, 404, "not_found"),
    (ReadOnlyError, 403, "read_only"),
    (ConflictError, 409, "conflict"),
    (DestinationError, 507, "destination"),
    (UsageError, 400, "usage"),
    (RunError, 409, "run"),
)
_GONE = frozenset({"missing", "permission", "unreadable", "changed"})
_LACKING = frozenset({"no_video", "no_audio"})


def session_of(request: Request) -> Session:
    """The session that the application holds."""
    session: Session = request.app.state.session
    return session


Held = Annotated[Session, Depends(session_of)]


def labelling_of(held: Held, by: By | None = None) -> str:
    """The labelling that a request is about; the one that is shown first by default."""
    name = by or held.by
    held.check_labelling(name)
    return name


Labelling = Annotated[str, Depends(labelling_of)]
Generation = Annotated[str | None, Query(max_length=200)]


def quick_json(content: Any) -> Response:
    """JSON of long lists of numbers, which need no checking."""
    return Response(json.dumps(content, separators=(",", ":"), allow_nan=False), media_type="application/json")


def rounded(values: np.ndarray, places: int = 4) -> list[float]:
    """Numbers for JSON, as short as a page needs them."""
    numbers: list[float] = np.asarray(values, np.float64).round(places).tolist()
    return numbers


def answer_errors(app: FastAPI) -> None:
    """Let every error of the application become a `Problem`."""

    @app.exception_handler(SeehearError)
    async def seehear_error(_request: Request, error: SeehearError) -> JSONResponse:
        return problem_of(error)

    @app.exception_handler(RequestValidationError)
    async def wrong_fields(_request: Request, error: RequestValidationError) -> JSONResponse:
        told = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()[:5])
        return problem(422, f"the request is not understood: {told}", "see /api/docs", "usage")

    @app.exception_handler(HTTPException)
    async def http_error(_request: Request, error: HTTPException) -> JSONResponse:
        kinds = {404: "not_found", 405: "method"}
        return problem(error.status_code, str(error.detail), None, kinds.get(error.status_code, "http"))

    @app.exception_handler(Exception)
    async def fault(_request: Request, error: Exception) -> JSONResponse:
        return problem(500, f"a fault in seehear: {type(error).__name__}", "the terminal shows where", "fault")


def problem_of(error: SeehearError) -> JSONResponse:
    """An error of seehear as an answer."""
    if isinstance(error, MediaError):
        # Pages know videos by their titles: where they lie on the disk is no business of theirs.
        status = 410 if error.reason in _GONE else 404 if error.reason in _LACKING else 422
        return problem(status, error.detail, error.remedy, error.reason)
    for kind, status, name in _STATUS:
        if isinstance(error, kind):
            return problem(status, error.message, error.remedy, name)
    return problem(422, error.message, error.remedy, "data")


def problem(status: int, detail: str, remedy: str | None, kind: str) -> JSONResponse:
    """An answer that says what went wrong."""
    return JSONResponse({"detail": detail, "remedy": remedy, "kind": kind}, status)
