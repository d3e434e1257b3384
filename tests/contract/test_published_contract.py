"""Our OpenAPI against the published one: what a v4 client may send is accepted, what it expects is answered.

What is known of the published contract stands in `published_facts.json`, made by `make_facts.py`.
"""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl

import pytest
from pydantic import BaseModel

from services.gateway.main import create_app
from services.gateway.schemas.logs import LogsQuery
from services.gateway.settings import Settings
from shared.contracts.logs import SearchLogs
from shared.contracts.principal import Principal
from shared.errors import Invalid
from tests.contract.make_facts import FACTS, facts_of, written
from tests.contract.schema_comparison import ComparedSchema, find_incompatible, find_missing
from tests.gateway_routes import ROUTES

BESIDE = Path(__file__).parents[2].parent / "shared" / "contract" / "humanloop-v4.openapi.json"
"""Where the published document lies on the machines of those who have it."""
NOT_IN_ARRAYS_OF_LOGS = {"feedback.data_id"}
"""Feedback that comes with a log is about that log."""
OTHER_KINDS = {"config", "tool_configs"}
"""Below these the contract has evaluators' configs, which are answered nowhere yet, and what only preset tools have."""

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


def test_the_readme_names_the_operations_that_are_not_there() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    _, _, section = text.partition("### Not there yet")
    section, _, _ = section.partition("\n## ")
    rows = re.findall(r"^\| `(/\S+)` \| ([A-Z, ]+) \|$", section, re.MULTILINE)
    named = [f"{method} {path}" for path, methods in rows for method in methods.split(", ")]
    assert sorted(named) == sorted(set(published()["operations"]) - set(operations()))


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


LOGS_FILTERS = (
    "source_filter=a&source_filter=b", "model_filter=a", "feedback-rating_filter=a", "evaluator-evfn_1_filter=1",
)  # fmt: skip
"""The forms of filters that the contract describes in its text only."""
LOGS_SORTS = ("source.asc", "model.desc", "timestamp.asc", "feedback-rating.desc", "evaluator-evfn_1.asc")


def _endpoint(operation: str) -> Any:
    method, _, path = operation.partition(" ")
    (route,) = (it for it in ROUTES if it.path == f"/v4{path}" and method in it.methods)
    return inspect.unwrap(route.endpoint)


@pytest.mark.parametrize(
    ("operation", "parameter"),
    [
        (operation, parameter["name"])
        for operation in operations()
        for parameter in published()["operations"][operation]["parameters"]
        if parameter["in"] == "query"
    ],
)
def test_no_published_query_parameter_is_ignored(operation: str, parameter: str) -> None:
    """The endpoint, or the model of its query, does something with it: the tests of the operation say what."""
    endpoint = _endpoint(operation)
    functions = [ast.parse(textwrap.dedent(inspect.getsource(endpoint)))]
    for annotation in inspect.get_annotations(endpoint, eval_str=True).values():
        model = get_args(annotation)[0] if get_args(annotation) else annotation
        if isinstance(model, type) and issubclass(model, BaseModel) and parameter in model.model_fields:
            methods = [
                it for it in vars(model).values() if inspect.isfunction(it) and it.__module__ == model.__module__
            ]
            functions += [ast.parse(textwrap.dedent(inspect.getsource(it))) for it in methods]
    used = {
        node.id if isinstance(node, ast.Name) else node.attr
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load)
    }
    assert parameter in used


@pytest.mark.parametrize("query", [*LOGS_FILTERS, *(f"sort={sort}" for sort in LOGS_SORTS)])
def test_no_described_filter_or_sort_of_logs_is_ignored(query: str) -> None:
    """It changes the search, or is refused by its name."""
    caller = Principal(organisation="tm_1", role="Member")

    def search(text: str) -> SearchLogs | None:
        values: dict[str, list[str]] = {}
        for name, value in parse_qsl(text):
            values.setdefault(name, []).append(value)
        return LogsQuery.model_validate({"project_id": "pr_1", **values}).to_search(caller)

    if "evaluator" in query:
        with pytest.raises(Invalid, match="evaluator-evfn_1"):
            search(query)
    else:
        assert search(query) not in (None, search(""))


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
    assert lacking == set()
    assert [each for each in find_incompatible(own, wanted) if not each.endswith(": null")] == []
