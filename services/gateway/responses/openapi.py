"""The OpenAPI document: FastAPI's, and in it the error responses of every operation.

Which errors an operation has is derived from what it takes: a key, parameters, a body. A router declares only what no
rule can know: `PROVIDER_FAILURES` of the operations that call other servers.
"""

from http import HTTPMethod
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from shared import errors
from shared.errors import Problem

PROVIDER_FAILURES: dict[int | str, dict[str, Any]] = {
    errors.RateLimited.status: {},
    errors.UpstreamFailed.status: {},
}
"""The `responses` of a router or route whose operations call a provider or another server."""

_Json = dict[str, Any]
_EVERY_OPERATION = (
    errors.RequestTimeout,
    errors.UriTooLong,
    errors.HeadersTooLarge,
    errors.Internal,
    errors.Unavailable,
)
_WITH_KEY = (errors.Unauthenticated, errors.Denied, errors.TooLarge)
"""413 also of an answer that is over the limit."""
_WITH_PARAMETERS = (errors.NotFound, errors.Invalid)
_WITH_BODY = (errors.BadRequest, errors.NotFound, errors.TooLarge, errors.Unsupported, errors.Invalid)
_SIGNING_IN = (errors.Unauthenticated, errors.Denied, errors.RateLimited)
"""Without a key, whoever sends anything proves by it who they are; after many failures they have to wait."""
_CHANGES = (errors.Conflict,)
_FASTAPIS_OWN = str(errors.Invalid.status)
"""FastAPI declares it with one of its two shapes."""
_PROBLEMS = {str(problem.status): problem for problem in Problem.__subclasses__()}
_RETRY_AFTER = {"description": "Seconds until the request may succeed.", "schema": {"type": "integer", "minimum": 1}}


class ErrorDetail(BaseModel):
    """What went wrong. `code` repeats the HTTP status; `origin` is `Humanloop`, or the provider that failed."""

    type: str
    message: str
    code: int
    origin: str


class ErrorResponse(BaseModel):
    """Every error but those of the validation of a request, which are `HTTPValidationError`."""

    detail: ErrorDetail


def install(app: FastAPI) -> None:
    """Let the document of `app` declare the errors of its operations."""
    generate = app.openapi

    def generate_with_errors() -> _Json:
        if app.openapi_schema is None:
            app.openapi_schema = _declare_errors(generate())
        return app.openapi_schema

    app.openapi = generate_with_errors  # type: ignore[method-assign]  # the override that FastAPI documents


def _declare_errors(document: _Json) -> _Json:
    for operations in document["paths"].values():
        for method, operation in operations.items():
            _declare_errors_of(operation, method)
    components = document["components"]
    components["schemas"] |= {
        model.__name__: model.model_json_schema(ref_template="#/components/schemas/{model}")
        for model in (ErrorDetail, ErrorResponse)
    }
    del components["schemas"]["ErrorResponse"]["$defs"]
    components["responses"] = {problem.__name__: _response(problem) for problem in _PROBLEMS.values()}
    return document


def _declare_errors_of(operation: _Json, method: str) -> None:
    problems = [*_EVERY_OPERATION]
    if "security" in operation:
        problems += _WITH_KEY
    if "parameters" in operation:
        problems += _WITH_PARAMETERS
    if "requestBody" in operation:
        problems += _WITH_BODY
    if "security" not in operation and {"parameters", "requestBody"} & set(operation):
        problems += _SIGNING_IN
    if method.upper() != HTTPMethod.GET:
        problems += _CHANGES
    responses = {status: response for status, response in operation["responses"].items() if status != _FASTAPIS_OWN}
    problems += [
        _PROBLEMS[status] for status, response in responses.items() if "content" not in response and status in _PROBLEMS
    ]
    declared = {str(problem.status): {"$ref": f"#/components/responses/{problem.__name__}"} for problem in problems}
    own = {
        status: response for status, response in responses.items() if "content" in response or status not in declared
    }
    operation["responses"] = dict(sorted((declared | own).items()))


def _response(problem: type[Problem]) -> _Json:
    """Return the response object of a problem; 422 has both shapes of errors (`errors.py`)."""
    constants = {"type": {"const": problem.code}, "code": {"const": problem.status}}
    schema: _Json = {
        "allOf": [{"$ref": "#/components/schemas/ErrorResponse"}],
        "properties": {"detail": {"properties": constants}},
    }
    if problem is errors.Invalid:
        schema = {"anyOf": [{"$ref": "#/components/schemas/HTTPValidationError"}, schema]}
    response: _Json = {
        "description": (problem.__doc__ or "").partition("\n")[0],
        "content": {"application/json": {"schema": schema}},
    }
    if problem.retryable:
        response["headers"] = {"Retry-After": _RETRY_AFTER}
    return response
