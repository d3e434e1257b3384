"""The OpenAPI document declares the errors of every operation, by what the operation takes."""

from typing import Any

import pytest

from services.gateway.main import create_app
from services.gateway.routes import OPEN_PATHS
from services.gateway.schemas.bodies import MAX_PAGE_NUMBER, MAX_PAGE_SIZE
from services.gateway.settings import Settings
from shared.errors import Problem

DOCUMENT: dict[str, Any] = create_app(Settings(secret="x" * 44)).openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
OF_THE_SERVER = {"408", "414", "431", "500", "503"}
OF_THE_KEY = {"401", "403", "413"}
OF_A_BODY = {"400", "404", "415", "422"}


@pytest.mark.parametrize(
    ("operation", "errors"),
    [
        ("GET /healthz", OF_THE_SERVER),
        ("GET /api/me", OF_THE_SERVER | OF_THE_KEY),
        ("GET /v4/logs/{id}", OF_THE_SERVER | OF_THE_KEY | {"404", "422"}),
        ("POST /v4/sessions", OF_THE_SERVER | OF_THE_KEY | {"409"}),
        ("POST /v4/logs", OF_THE_SERVER | OF_THE_KEY | OF_A_BODY | {"409"}),
        ("POST /api/auth/login", OF_THE_SERVER | OF_THE_KEY | OF_A_BODY | {"409", "429"}),
        ("GET /api/auth/oidc/callback", OF_THE_SERVER | {"401", "403", "404", "422", "429", "502"}),
        ("POST /api/auth/password", OF_THE_SERVER | OF_THE_KEY | OF_A_BODY | {"409", "429"}),
        ("POST /v4/chat", OF_THE_SERVER | OF_THE_KEY | OF_A_BODY | {"409", "429", "502"}),
    ],
)
def test_an_operation_declares_the_errors_of_what_it_takes(operation: str, errors: set[str]) -> None:
    assert {status for status in OPERATIONS[operation]["responses"] if status >= "400"} == errors


def test_every_operation_that_needs_a_key_says_so_and_is_refused_without_it() -> None:
    for name, operation in OPERATIONS.items():
        needs_key = name.partition(" ")[2] not in OPEN_PATHS
        assert ("security" in operation) is needs_key, name
        assert not needs_key or "401" in operation["responses"], name


def test_an_error_is_declared_once_with_its_code_and_type() -> None:
    responses = DOCUMENT["components"]["responses"]
    assert set(responses) == {problem.__name__ for problem in Problem.__subclasses__()}
    schema = responses["NotFound"]["content"]["application/json"]["schema"]
    assert schema["properties"]["detail"]["properties"] == {
        "type": {"const": "not_found_error"},
        "code": {"const": 404},
    }
    assert OPERATIONS["GET /v4/logs/{id}"]["responses"]["404"] == {"$ref": "#/components/responses/NotFound"}


def test_an_invalid_request_has_one_of_two_shapes() -> None:
    schema = DOCUMENT["components"]["responses"]["Invalid"]["content"]["application/json"]["schema"]
    validation, unified = schema["anyOf"]
    assert validation == {"$ref": "#/components/schemas/HTTPValidationError"}
    assert unified["allOf"] == [{"$ref": "#/components/schemas/ErrorResponse"}]


def test_what_a_route_declares_itself_stays() -> None:
    unready = OPERATIONS["GET /readyz"]["responses"]["503"]
    assert unready["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Readiness"}


def test_a_chat_may_be_answered_by_a_stream() -> None:
    answer = OPERATIONS["POST /v4/chat"]["responses"]["200"]
    assert set(answer["content"]) == {"application/json", "text/event-stream"}
    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ChatResponse"}


@pytest.mark.parametrize(("name", "most"), [("page", MAX_PAGE_NUMBER), ("size", MAX_PAGE_SIZE)])
def test_every_page_is_bounded(name: str, most: int) -> None:
    """Without a bound the number is refused by what it is passed to, which is a defect to the caller."""
    bounds = {
        operation: parameter["schema"].get("maximum")
        for operation, declared in OPERATIONS.items()
        for parameter in declared.get("parameters", ())
        if parameter["name"] == name
    }
    assert len(bounds) > 4
    assert set(bounds.values()) == {most}, bounds
