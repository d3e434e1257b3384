"""What makes two configs the same version (behaviour.md §2)."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from services.generation.projects.versions import version_id
from shared import ids
from shared.contracts.generation.projects import Config

CONFIG: TypeAdapter[Config] = TypeAdapter(Config)
SYSTEM = {"role": "system", "content": "Be dry."}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def model(**fields: Any) -> str:
    """The id of a chat config with these fields."""
    base = {"type": "model", "model": "gpt-4", "endpoint": "chat", "chat_template": [SYSTEM]}
    return version_id("pr_1", CONFIG.validate_python(base | fields))


def tool(**fields: Any) -> str:
    """The id of a tool config with these fields."""
    return version_id("pr_1", CONFIG.validate_python({"type": "tool", "name": "search"} | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1},
        {"temperature": 1.0},
        {"name": "renamed", "description": "described"},
        {"other": {}, "tools": None, "seed": None, "max_tokens": -1},
        {"tools": []},
        {"chat_template": [SYSTEM | {"name": None, "tool_calls": None}]},
        {"chat_template": [dict(reversed(SYSTEM.items()))]},
    ],
)
def test_other_ways_to_write_the_same_config_are_the_same_version(fields: dict[str, Any]) -> None:
    assert model(**fields) == model()


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 1},
        {"response_format": {"type": "json_object"}},
        {"temperature": 0.5},
        {"stop": "x"},
        {"other": {"a": None}},
        {"provider": "mock"},
        {"endpoint": "complete"},
        {"tools": [{"name": "f"}]},
        {"chat_template": [SYSTEM, SYSTEM]},
        {"prompt_template": ""},
    ],
)
def test_a_config_that_behaves_otherwise_is_a_new_version(fields: dict[str, Any]) -> None:
    assert model(**fields) != model()


def test_the_order_of_keys_says_nothing_and_that_of_lists_does() -> None:
    assert model(other={"a": 1, "b": {"c": 2, "d": 3}}) == model(other={"b": {"d": 3, "c": 2}, "a": 1.0})
    assert model(stop=["a", "b"]) != model(stop=["b", "a"])
    assert model(tools=[{"name": "f"}, {"name": "g"}]) != model(tools=[{"name": "g"}, {"name": "f"}])


def test_nulls_in_open_json_are_part_of_the_identity() -> None:
    with_default = {"name": "f", "parameters": {"properties": {"a": {"default": None}}}}
    without = {"name": "f", "parameters": {"properties": {"a": {}}}}
    assert model(tools=[with_default]) != model(tools=[without])


def test_a_linked_tool_counts_by_its_id_alone() -> None:
    linked = {"id": "oc_1", "source": "organization"}
    assert model(tools=[linked]) == model(tools=[linked | {"description": "as it was when it was read"}])
    assert model(tools=[linked]) != model(tools=[linked | {"id": "oc_2"}])


def test_the_source_of_an_inline_tool_is_not_part_of_the_identity() -> None:
    assert model(tools=[{"name": "f"}]) == model(tools=[{"name": "f", "source": "inline"}])
    assert model(tools=[{"name": "f"}]) == model(tools=[{"name": "f", "source": "organization"}])
    assert model(tools=[{"name": "f"}]) != model(tools=[{"name": "f", "source_code": "x"}])


@pytest.mark.parametrize(
    "field", ["description", "source_code", "preset_name", "source", "parameters", "other", "strict"]
)
def test_every_field_of_a_tool_config_is_part_of_its_identity(field: str) -> None:
    values: dict[str, Any] = {"source": "inline", "parameters": {"a": 1}, "other": {"a": 1}, "strict": True}
    assert tool(**{field: values.get(field, "text")}) != tool()
    assert tool(**{field: None}) == tool()


@pytest.mark.parametrize("make", [tool, lambda **fields: model(tools=[{"name": "f"} | fields])])
def test_a_source_that_is_code_is_the_source_code(make: Callable[..., str]) -> None:
    assert make(source="def f(): ...") == make(source_code="def f(): ...")
    assert make(source="def f(): ...") == make(source="def f(): ...", source_code="def f(): ...")
    assert make(source="") == make()
    with pytest.raises(ValidationError, match="source"):
        make(source="def f(): ...", source_code="def g(): ...")


def test_an_agent_is_identified_by_what_it_does() -> None:
    inner = {"type": "model", "model": "gpt-4", "tools": [{"name": "f"}]}
    agent = {"type": "agent", "agent_class": "A", "model": inner}

    def version(**fields: Any) -> str:
        return version_id("pr_1", CONFIG.validate_python(agent | fields))

    described = inner | {"name": "n", "description": "d", "tools": [{"name": "f", "source": "inline"}]}
    same: list[dict[str, Any]] = [
        {"name": "n", "description": "d"},
        {"tools": []},
        {"other": None},
        {"model": described},
    ]
    others: list[dict[str, Any]] = [
        {"agent_class": "B"},
        {"tools": [{"name": "f"}]},
        {"other": {}},
        {"model": inner | {"seed": 1}},
    ]
    assert {version(**fields) for fields in same} == {version()}
    assert len({version(), *(version(**fields) for fields in others)}) == 5


def test_any_other_config_is_identified_by_all_it_has() -> None:
    given: list[dict[str, Any]] = [{}, {"name": "n"}, {"description": "n"}, {"other": {}}, {"other": {"a": 1}}]
    versions = {version_id("pr_1", CONFIG.validate_python({"type": "generic"} | fields)) for fields in given}
    assert len(versions) == 5


def test_a_version_belongs_to_its_project() -> None:
    config = CONFIG.validate_python({"type": "tool", "name": "f"})
    assert version_id("pr_1", config) != version_id("pr_2", config)
    assert ids.is_id("config", version_id("pr_1", config))


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_config_that_was_stored_and_read_again_is_the_same_version(other: dict[str, Any]) -> None:
    stored = CONFIG.validate_json(
        CONFIG.validate_python({"type": "model", "model": "m", "other": other}).model_dump_json()
    )
    shuffled = dict(reversed(from_json(to_json(other)).items()))
    assert version_id("pr_1", stored) == version_id(
        "pr_1", CONFIG.validate_python({"type": "model", "model": "m", "other": shuffled})
    )
