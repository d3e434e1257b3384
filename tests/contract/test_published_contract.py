"""Our OpenAPI against the published one: what a v4 client may send is accepted, what it expects is answered.

What is known of the published contract stands in `published_facts.json`, made by `make_facts.py`.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from services.gateway.main import create_app
from services.gateway.settings import Settings
from tests.contract.make_facts import FACTS, facts_of, written
from tests.contract.schema_comparison import ComparedSchema, find_incompatible, find_missing

BESIDE = Path(__file__).parents[2].parent / "shared" / "contract" / "humanloop-v4.openapi.json"
"""Where the published document lies on the machines of those who have it."""
NOT_IN_ARRAYS_OF_LOGS = {"feedback.data_id"}
"""Feedback that comes with a log is about that log."""
NOT_COMPUTED = {"evaluation_aggregates"}
OTHER_KINDS = {"config", "tool_configs"}
"""Below these the contract has kinds of configs (agents, evaluators) that are answered nowhere yet."""
ANSWERED_AS_STORED = "source: any other value"
"""What a tool was registered with is given back as it was."""

Json = dict[str, Any]


@cache
def published() -> Json:
    loaded: Json = json.loads(FACTS.read_text())
    return loaded


@cache
def ours() -> Json:
    return facts_of(create_app(Settings(secret="x" * 43)).openapi())


def operations() -> list[str]:
    """The v4 operations this installation has, named as in the contract."""
    return [name.replace(" /v4/", " /") for name in ours()["operations"] if " /v4/" in name]


def pair(operation: str) -> tuple[Json, Json]:
    """The operation as published, and ours."""
    return published()["operations"][operation], ours()["operations"][operation.replace(" /", " /v4/", 1)]


def success(operation: Json) -> tuple[str, Json | None]:
    """Status code and schema of the answer when all goes well."""
    ((status, schema),) = ((code, answer) for code, answer in operation["answers"].items() if code.startswith("2"))
    return status, schema


def test_the_facts_are_of_the_whole_contract() -> None:
    assert len(published()["operations"]) == 60
    assert len(published()["schemas"]) == 110


def test_the_facts_hold_no_sentence() -> None:
    """The published document's prose is not ours: no text in the facts has more than one word."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value
            for each in value.values():
                yield from texts(each)
        elif isinstance(value, list):
            for each in value:
                yield from texts(each)

    for name, operation in published()["operations"].items():
        assert len(name.split()) == 2
        assert [text for text in texts(operation) if len(text.split()) > 1] == []
    assert [text for text in texts(published()["schemas"]) if len(text.split()) > 1] == []


def test_the_facts_are_those_of_the_document_where_one_has_it() -> None:
    """The only test that looks beside the project; what lies there decides nothing else."""
    if BESIDE.exists():
        assert written(facts_of(json.loads(BESIDE.read_text()))) == FACTS.read_text(), (
            f"renew the facts: python -m tests.contract.make_facts {BESIDE}"
        )


def test_the_contract_has_every_v4_operation_of_ours() -> None:
    assert len(operations()) >= 34
    assert set(operations()) <= set(published()["operations"])


@pytest.mark.parametrize("operation", operations())
def test_status_codes_of(operation: str) -> None:
    theirs, mine = pair(operation)
    assert success(mine)[0] == success(theirs)[0]
    takes_something = bool(mine["parameters"] or mine["body"])
    assert set(theirs["answers"]) - ({"422"} if not takes_something else set()) <= set(mine["answers"])


@pytest.mark.parametrize("operation", operations())
def test_every_published_parameter_is_taken_by(operation: str) -> None:
    theirs, mine = pair(operation)
    taken = {(each["in"], each["name"]): each for each in mine["parameters"]}
    for wanted in theirs["parameters"]:
        own = taken.pop((wanted["in"], wanted["name"]))
        assert own["required"] <= wanted["required"], f"{wanted['name']} is optional in the contract"
        if "default" in wanted["schema"]:
            assert own["schema"]["default"] == wanted["schema"]["default"]
        refused = find_incompatible(
            ComparedSchema.resolve(published(), wanted["schema"]), ComparedSchema.resolve(ours(), own["schema"])
        )
        assert not refused, f"{wanted['name']} does not take {refused}"
    assert not [each["name"] for each in taken.values() if each["required"]], "demanded beyond the contract"


@pytest.mark.parametrize("operation", operations())
def test_every_published_body_is_taken_by(operation: str) -> None:
    """Every field, at any depth, with every type and value the contract allows."""
    theirs, mine = pair(operation)
    if theirs["body"] is None:  # may still be sent; PATCH /projects/{id}/feedback-types needs its old one
        assert mine["body"] is None or operation == "PATCH /projects/{id}/feedback-types"
        return
    wanted, own = ComparedSchema.resolve(published(), theirs["body"]), ComparedSchema.resolve(ours(), mine["body"])
    assert set(find_missing(wanted, own)) <= NOT_IN_ARRAYS_OF_LOGS
    assert find_incompatible(wanted, own) == [], "not taken"
    assert own.required <= wanted.required, "demanded beyond the contract"


@pytest.mark.parametrize("operation", operations())
def test_every_published_answer_is_given_by(operation: str) -> None:
    """Every field, and at any depth nothing of a type or value that a client cannot expect, null aside: it stands for
    what is not there.
    """
    theirs, mine = pair(operation)
    wanted_schema, own_schema = success(theirs)[1], success(mine)[1]
    if wanted_schema is None:
        assert own_schema is None
        return
    assert own_schema is not None
    wanted, own = ComparedSchema.resolve(published(), wanted_schema), ComparedSchema.resolve(ours(), own_schema)
    lacking = {path for path in find_missing(wanted, own) if not OTHER_KINDS & set(path.split(".")[:-1])}
    assert {path.rpartition(".")[2] for path in lacking} <= NOT_COMPUTED
    surprising = [each for each in find_incompatible(own, wanted) if not each.endswith(": null")]
    assert [each for each in surprising if not each.endswith(ANSWERED_AS_STORED)] == []
