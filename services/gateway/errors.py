"""Maps errors to HTTP responses. The only place in the repository where the status of a failure is set.

Two shapes (behaviour.md §1.5): A, a list, for request validation; B, the unified error, for everything else.
"""

import json
import logging
import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.routing import Match, Router
from starlette.types import Scope

from shared.errors import BadRequest, Internal, NotFound, Problem, TooLarge, WrongMethod

logger = logging.getLogger(__name__)

_JSON = "application/json"
MAX_ERRORS = 20
"""Of an invalid request, in one response."""
MAX_KEY_CHARACTERS = 100
"""Of the name of a field in an error."""
MAX_MESSAGE_CHARACTERS = 4000
"""Of the message of an error. It may quote what a provider says, or a name that the caller sent."""
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
"""Those that routes have."""


class InvalidJson(json.JSONDecodeError):
    """A body that cannot be read. FastAPI, which knows the base class, makes a validation error of it."""

    def __init__(self, message: str, path: list[str | int]) -> None:
        super().__init__(message, "", 0)
        self.path = path
        """Keys and indices that lead to the place."""


def problem_response(problem: Problem) -> Response:
    """Return shape B, the unified error: `{"detail": {type, message, code, origin}}`, with `Retry-After` if set."""
    headers = {}
    if problem.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after_seconds)))
    detail = {
        "type": problem.code,
        "message": shorten(problem.message, MAX_MESSAGE_CHARACTERS),
        "code": problem.status,
        "origin": problem.origin,
    }
    return Response(to_json({"detail": detail}), problem.status, headers, media_type=_JSON)


def validation_error_response(error: RequestValidationError) -> Response:
    """Return shape A, status 422: `{"detail": [{loc, msg, type}]}`, of at most `MAX_ERRORS` errors.

    If there are more, the message of the last one says so. Pydantic's `input` is left out: what the caller sent may be
    secret.
    """
    detail: list[dict[str, Any]]
    if isinstance(error.__cause__, InvalidJson):
        cause = error.__cause__
        detail = [{"loc": ["body", *cause.path], "msg": cause.msg, "type": "json_invalid"}]
        return Response(to_json({"detail": detail}), 422, media_type=_JSON)
    if isinstance(error.body, bytes):  # FastAPI did not take it for JSON
        message = "The body was not read: send it with the header Content-Type: application/json."
        detail = [{"loc": ["header", "content-type"], "msg": message, "type": "content_type"}]
        return Response(to_json({"detail": detail}), 422, media_type=_JSON)
    errors = error.errors()
    detail = [
        {
            "loc": [_shorten(key) for key in _location(item["loc"], item["type"], error.body)],
            "msg": shorten(item["msg"], MAX_MESSAGE_CHARACTERS),
            "type": item["type"],
        }
        for item in errors[:MAX_ERRORS]
    ]
    if len(errors) > MAX_ERRORS:
        detail[-1]["msg"] += f" ({len(errors) - MAX_ERRORS:,} more errors are not told.)"
    return Response(to_json({"detail": detail}), 422, media_type=_JSON)


def shorten(text: str, length: int) -> str:
    """Return `text`, of which at most `length` characters are kept, with a sign that something is left out."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _shorten(key: str | int) -> str | int:
    return shorten(key, MAX_KEY_CHARACTERS) if isinstance(key, str) else key


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
    operation = f"{request.method} {request.scope['path']}"
    problem: Problem
    if isinstance(error.__cause__, Problem):  # FastAPI makes a 400 of whatever reading a body raises
        return problem_response(error.__cause__)
    match error.status_code:
        case 404:
            if (location := _path_without_slash(request)) is not None:
                return Response(status_code=307, headers={"Location": location})
            problem = NotFound(f"There is no {operation}.")
        case 405:
            return _wrong_method_response(request, operation)
        case 413:
            problem = TooLarge(f"The body of {operation} is over the limit; send less at once.")
        case _:
            problem = BadRequest(f"{error.detail}: {operation}")
    response = problem_response(problem)
    response.headers.update(error.headers or {})
    return response


def _wrong_method_response(request: Request, operation: str) -> Response:
    """Return 405 with every method that the path takes; 204 if that is what was asked (`OPTIONS`)."""
    headers = {"Allow": ", ".join(_allowed_methods(request))}
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=headers)
    response = problem_response(WrongMethod(f"{operation} is not an operation; the path takes {headers['Allow']}."))
    response.headers.update(headers)
    return response


def _allowed_methods(request: Request) -> list[str]:
    """Return every method that some router has for the path of `request`; `HEAD` with `GET`, and `OPTIONS` always."""
    router: Router = request.app.router
    taken = [method for method in _METHODS if _is_taken(router, {**request.scope, "method": method})]
    return sorted([*taken, "OPTIONS", *(["HEAD"] if "GET" in taken else [])])


def _path_without_slash(request: Request) -> str | None:
    """Return path and query without the slashes at the end of the path, if that is a path of the application.

    Without scheme and host, so that a caller behind a proxy stays on its own.
    """
    path: str = request.scope["path"].rstrip("/")
    if path == request.scope["path"] or not path:
        return None
    router: Router = request.app.router
    if all(route.matches({**request.scope, "path": path})[0] is Match.NONE for route in router.routes):
        return None
    query = request.scope["query_string"].decode("latin-1")
    return f"{quote(path)}?{query}" if query else quote(path)


def _is_taken(router: Router, scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in router.routes)


async def _handle_unexpected_error(request: Request, error: Exception) -> Response:
    # The path itself may hold what nobody else may read.
    logger.error("%s %s failed", request.method, getattr(request.scope.get("route"), "path", "?"), exc_info=error)
    problem = Internal("Something went wrong on our side; the log has the details under this request's trace.")
    return problem_response(problem)


def install(app: FastAPI) -> None:
    """Register the exception handlers of this module in `app`."""
    app.add_exception_handler(Problem, _handle_problem)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(Exception, _handle_unexpected_error)
