"""Maps errors to HTTP responses. The only place in the repository where the status of a failure is set.

Two shapes (behaviour.md §1.5): A, a list, for request validation; B, the unified error, for everything else.
"""

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
    """Return shape B, the unified error: `{"detail": {type, message, code, origin}}`, with `Retry-After` if set."""
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
    """Return shape A, status 422: `{"detail": [{loc, msg, type}]}`.

    Pydantic's `input` is left out: what the caller sent may be secret.
    """
    detail = [
        {"loc": _location(item["loc"], item["type"], error.body), "msg": item["msg"], "type": item["type"]}
        for item in error.errors()
    ]
    return Response(to_json({"detail": detail}), 422, media_type=_JSON)


def _location(loc: Sequence[str | int], error_type: str, body: Any) -> list[str | int]:  # noqa: ANN401 - any JSON
    """Return the keys and indices of `loc` that exist in `body`, without those of pydantic: union tags, validators.

    The last key of a `missing` error stays, although it does not exist.
    """
    if loc[0] != "body":
        return list(loc)
    location: list[str | int] = [loc[0]]
    value = body
    for length, key in enumerate(loc[1:], start=2):
        if isinstance(key, int):
            value = value[key] if isinstance(value, list) else None
        elif isinstance(value, dict) and key in value:
            value = value[key]
        elif not (isinstance(value, dict) and error_type == "missing" and length == len(loc)):
            continue
        location.append(key)
    return location


async def _handle_problem(_: Request, error: Exception) -> Response:
    return problem_response(error if isinstance(error, Problem) else Internal(str(error)))


async def _handle_validation_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return validation_error_response(error)


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    """Map what FastAPI itself refuses: an unknown path, a wrong method, a body that is too large or unreadable."""
    if not isinstance(error, HTTPException):
        raise error
    operation = f"{request.method} {request.url.path}"
    problem: Problem
    if isinstance(error.__cause__, Problem):  # FastAPI makes a 400 of whatever reading a body raises
        return problem_response(error.__cause__)
    match error.status_code:
        case 404:
            problem = NotFound(f"There is no {operation}.")
        case 405:
            problem = WrongMethod(f"{operation} is not an operation; the path takes {_allowed_methods(error)}.")
        case 413:
            problem = TooLarge(f"The body of {operation} is over the limit; send less at once.")
        case _:
            problem = BadRequest(f"{error.detail}: {operation}")
    response = problem_response(problem)
    response.headers.update(error.headers or {})
    return response


def _allowed_methods(error: HTTPException) -> str:
    return (error.headers or {}).get("Allow", "other methods")


async def _handle_unexpected_error(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    problem = Internal("Something went wrong on our side; the log has the details under this request's trace.")
    return problem_response(problem)


def install(app: FastAPI) -> None:
    """Register the exception handlers of this module in `app`."""
    app.add_exception_handler(Problem, _handle_problem)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(Exception, _handle_unexpected_error)
