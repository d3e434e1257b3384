"""Our OpenAPI against the published one: what a v4 client may send is accepted, what it expects is answered.

The published contract lies beside the project, not in it.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from services.gateway.main import create_app
from services.gateway.settings import Settings

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "contract" / "humanloop-v4.openapi.json"
METHODS = ("get", "post", "patch", "delete")

Json = dict[str, Any]

REVIVED = {("PATCH", "/projects/{id}/feedback-types")}
"""Taken out of service by the final contract, which says nothing of its body any more (behaviour.md §7)."""


@cache
def published() -> Json:
    loaded: Json = json.loads(PUBLISHED.read_text())
    return loaded


@cache
def ours() -> Json:
    return create_app(Settings(secret="x" * 43)).openapi()  # type: ignore[arg-type]


def operations() -> list[tuple[str, str]]:
    """The v4 operations this installation has."""
    return [
        (method.upper(), path.removeprefix("/v4"))
        for path, item in ours()["paths"].items()
        if path.startswith("/v4/")
        for method in METHODS
        if method in item
    ]


def pair(method: str, path: str) -> tuple[Json, Json]:
    """The operation as published, and ours."""
    return published()["paths"][path][method.lower()], ours()["paths"][f"/v4{path}"][method.lower()]


def resolve(document: Json, schema: Json) -> Json:
    """Follow references."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def objects(document: Json, schema: Json) -> list[Json]:
    """The object schemas a body may be, array items and alternatives included."""
    schema = resolve(document, schema)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return [found for option in schema[key] for found in objects(document, option)]
    if schema.get("type") == "array":
        return objects(document, schema.get("items", {}))
    return [schema] if "properties" in schema else []


def properties(document: Json, schema: Json) -> dict[str, list[Json]]:
    """Property name → the schemas it has in any of the alternatives."""
    found: dict[str, list[Json]] = {}
    for item in objects(document, schema):
        for name, value in item["properties"].items():
            found.setdefault(name, []).append(value)
    return found


def body(operation: Json) -> Json | None:
    content = operation.get("requestBody", {}).get("content", {})
    schema: Json | None = content.get("application/json", {}).get("schema")
    return schema


def answer(operation: Json) -> tuple[str, Json | None]:
    status = next(code for code in operation["responses"] if code.startswith("2"))
    content = operation["responses"][status].get("content", {})
    return status, content.get("application/json", {}).get("schema")


def test_the_contract_has_every_v4_operation_of_ours() -> None:
    assert len(operations()) >= 16
    for method, path in operations():
        assert method.lower() in published()["paths"].get(path, {}), f"{method} {path} is not in the contract"


@pytest.mark.parametrize(("method", "path"), operations())
def test_status_code_of(method: str, path: str) -> None:
    theirs, mine = pair(method, path)
    assert answer(mine)[0] == answer(theirs)[0]


@pytest.mark.parametrize(("method", "path"), operations())
def test_every_published_parameter_is_taken_by(method: str, path: str) -> None:
    theirs, mine = pair(method, path)
    taken = {(item["in"], item["name"]) for item in mine.get("parameters", ())}
    for item in theirs.get("parameters", ()):
        assert (item["in"], item["name"]) in taken
        if not item.get("required"):
            (own,) = (each for each in mine["parameters"] if each["name"] == item["name"])
            assert not own.get("required"), f"{item['name']} is optional in the contract"
            assert own["schema"].get("default") == item["schema"].get("default", own["schema"].get("default"))


@pytest.mark.parametrize(("method", "path"), operations())
def test_every_published_body_field_is_taken_by(method: str, path: str) -> None:
    theirs, mine = pair(method, path)
    wanted_schema, own_schema = body(theirs), body(mine)
    if wanted_schema is None:
        assert own_schema is None or (method, path) in REVIVED
        return
    assert own_schema is not None
    wanted, own = properties(published(), wanted_schema), properties(ours(), own_schema)
    assert set(wanted) <= set(own), f"not taken: {set(wanted) - set(own)}"
    required = {name for item in objects(published(), wanted_schema) for name in item.get("required", ())}
    demanded = {name for item in objects(ours(), own_schema) for name in item.get("required", ())}
    assert demanded <= required, f"demanded beyond the contract: {demanded - required}"
    for name, schemas in wanted.items():
        inner = {key for schema in schemas for key in properties(published(), schema)}
        mine_inner = {key for schema in own[name] for key in properties(ours(), schema)}
        assert inner <= mine_inner | ({"data_id"} if name == "feedback" else set()), f"{name}: {inner - mine_inner}"


@pytest.mark.parametrize(("method", "path"), operations())
def test_every_published_answer_field_is_given_by(method: str, path: str) -> None:
    theirs, mine = pair(method, path)
    wanted_schema, own_schema = answer(theirs)[1], answer(mine)[1]
    if wanted_schema is None:
        assert own_schema is None
        return
    assert own_schema is not None
    wanted, own = properties(published(), wanted_schema), properties(ours(), own_schema)
    missing = set(wanted) - set(own) - {"evaluation_aggregates"}
    assert not missing, f"not answered: {missing}"
