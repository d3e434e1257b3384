"""Problems → HTTP. The only place in the repository where an HTTP status is set (behaviour.md §1.5)."""

import logging
import math
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from shared.errors import BadRequest, Internal, NotFound, Problem, TooLarge, WrongMethod

logger = logging.getLogger(__name__)

_JSON = "application/json"


def problem_response(problem: Problem) -> Response:
    """The unified error: `{"detail": {type, message, code, origin}}`."""
    headers = {}
    if problem.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after_seconds)))
    detail = {
        "type": problem.code,
        "message": problem.message,
        "code": problem.status,
        "origin": problem.origin,
    }
    return Response(to_json({"detail": detail}), problem.status, headers, media_type=_JSON)


def validation_error_response(error: RequestValidationError) -> Response:
    """Request validation: `{"detail": [{loc, msg, type}]}`. What the caller sent is not repeated: it may be secret."""
    detail = [
        {"loc": _where(item["loc"], item["type"], error.body), "msg": item["msg"], "type": item["type"]}
        for item in error.errors()
    ]
    return Response(to_json({"detail": detail}), 422, media_type=_JSON)


def _where(loc: Sequence[str | int], kind: str, body: Any) -> list[str | int]:  # noqa: ANN401 - any JSON
    """The way through what the caller sent, without pydantic's own stations: alternatives of a union, validators."""
    if loc[0] != "body":
        return list(loc)
    way: list[str | int] = [loc[0]]
    here = body
    for place, part in enumerate(loc[1:], start=2):
        if isinstance(part, int):
            here = here[part] if isinstance(here, list) else None
        elif isinstance(here, dict) and part in here:
            here = here[part]
        elif not (isinstance(here, dict) and kind == "missing" and place == len(loc)):
            continue
        way.append(part)
    return way


async def _problem(_: Request, error: Exception) -> Response:
    return problem_response(error if isinstance(error, Problem) else Internal(str(error)))


async def _validation(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return validation_error_response(error)


async def _http(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: an unknown path, a wrong method, a body too large or unreadable."""
    if not isinstance(error, HTTPException):
        raise error
    what = f"{request.method} {request.url.path}"
    problem: Problem
    if isinstance(error.__cause__, Problem):  # FastAPI makes a 400 of whatever reading a body raises
        return problem_response(error.__cause__)
    match error.status_code:
        case 404:
            problem = NotFound(f"There is no {what}.")
        case 405:
            problem = WrongMethod(f"{what} is not an operation; the path takes {_allowed(error)}.")
        case 413:
            problem = TooLarge(f"The body of {what} is over the limit; send less at once.")
        case _:
            problem = BadRequest(f"{error.detail}: {what}")
    response = problem_response(problem)
    response.headers.update(error.headers or {})
    return response


def _allowed(error: HTTPException) -> str:
    return (error.headers or {}).get("Allow", "other methods")


async def _defect(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem_response(
        Internal("Something went wrong on our side; the log has the details under this request's trace.")
    )


def install(app: FastAPI) -> None:
    """Register the mapping."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)
