"""Kinds of tools: parameters, settings, results.

Requests to services are tested in tests/integration/generation/test_guarded_client.py.
"""

import typing
from typing import Any

import pytest

from services.generation.http.guarded_client import GuardedSession
from services.generation.http.response import HttpResponse
from services.generation.tools import google, pinecone
from services.generation.tools.base import Invocation, ToolServices, check_status, parse_json_object
from services.generation.tools.registry import KINDS, signature
from shared.contracts.generation import tools
from shared.contracts.generation.tools import TOOL_SETTINGS, ToolSettings
from shared.errors import Invalid, Problem, RateLimited, Unauthenticated, UpstreamFailed

NOWHERE = typing.cast("ToolServices", None)
NO_SESSION = typing.cast("GuardedSession", None)
PAIRS = [{"key": "helpful", "value": "You help. {{x}}"}, {"key": "grumpy", "value": ""}]


def settings(kind: str, **fields: Any) -> ToolSettings:
    return TOOL_SETTINGS.validate_python({"kind": kind} | fields)


async def run(given: ToolSettings, *arguments: str, **secrets: str) -> str:
    kind = KINDS[given.kind]
    assert kind.run
    return await kind.run(Invocation(NO_SESSION, given, arguments, secrets), NOWHERE)


def test_every_kind_has_its_row() -> None:
    union = typing.get_args(tools.ToolSettings)[0]
    assert {typing.get_args(cls.model_fields["kind"].annotation)[0] for cls in typing.get_args(union)} == set(KINDS)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (settings("snippet", pairs=PAIRS), "it(key)"),
        (settings("google"), "it(query)"),
        (settings("pinecone", index="docs"), "it(query, top_k)"),
        (settings("get_api", url="https://e.org", query_parameters=["b", "a"]), "it(b, a)"),
        (settings("get_api", url="https://e.org"), "it( )"),
        (
            settings("json_schema", parameters={"type": "object", "properties": {"city": {}, "day": {}}}),
            "it(city, day)",
        ),
        (settings("json_schema", parameters={"properties": []}), "it( )"),
        (settings("json_schema"), "it( )"),
    ],
)
def test_the_signature_says_what_a_call_takes(given: ToolSettings, written: str) -> None:
    assert signature("it", given) == written


async def test_a_snippet_gives_the_passage_of_its_key() -> None:
    given = settings("snippet", pairs=PAIRS)
    assert await run(given, "helpful") == "You help. {{x}}"
    assert await run(given, "grumpy") == ""
    with pytest.raises(Invalid, match=r"no key 'kind'; it has 'helpful', 'grumpy'"):
        await run(given, "kind")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"pairs": []}, "at least 1"),
        ({"pairs": [{"key": str(number), "value": ""} for number in range(11)]}, "at most 10 items"),
        ({"pairs": [*PAIRS, PAIRS[0]]}, "helpful"),
        ({"pairs": [{"key": "", "value": ""}]}, "at least 1 character"),
        ({"pairs": [{"key": "a", "value": "x" * 100_001}]}, "at most 100000 characters"),
    ],
)
def test_a_snippet_has_one_to_ten_distinct_keys(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        settings("snippet", **fields)
    settings("snippet", pairs=[{"key": str(number), "value": ""} for number in range(10)])


@pytest.mark.parametrize("url", ["ftp://e.org", "e.org", "https://", "https://u:p@e.org", "https://[::1"])
def test_a_get_tool_has_a_web_address(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        settings("get_api", url=url)


@pytest.mark.parametrize("name", ["Host", "content-length", "a b", "a:b", "a\r\nb", ""])
def test_a_key_goes_into_a_header_of_its_own(name: str) -> None:
    with pytest.raises(ValueError, match="key_header"):
        settings("get_api", url="https://e.org", key_header=name)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"answer_box": {"answer": "42", "snippet": "no"}, "knowledge_graph": {"description": "no"}}, "42"),
        ({"answer_box": {"snippet": "Sweden won."}}, "Sweden won."),
        ({"answer_box": [{"result": 7}]}, "7"),
        ({"answer_box": {"type": "weather"}, "knowledge_graph": {"description": "A city."}}, "A city."),
        ({"organic_results": [{"title": "no snippet"}, {"snippet": "First."}, {"snippet": "Second."}]}, "First."),
        ({"answer_box": [], "organic_results": []}, google.NO_RESULT),
        ({}, google.NO_RESULT),
    ],
)
def test_the_best_answer_of_a_search_is_given(found: dict[str, Any], text: str) -> None:
    assert google.extract_answer(found) == text


@pytest.mark.parametrize(
    "written",
    [
        *("0", "-1", "101", "1000000000000", "2.5", "many", "", "²", "\u0663", "+5", "1_0", "5 ", "1e1", "0x5", "True"),
        *("0000000019999", "0" * 5_000, "9" * 5_000, "0" * 5_000 + "101"),
    ],
)
async def test_top_k_is_a_whole_number_within_bounds(written: str) -> None:
    with pytest.raises(Invalid, match="from 1 to 100"):
        await run(settings("pinecone", index="docs"), "query", written)


@pytest.mark.parametrize(("written", "number"), [("1", 1), ("100", 100), ("007", 7), ("0" * 5_000 + "42", 42)])
def test_zeros_before_top_k_change_nothing(written: str, number: int) -> None:
    assert pinecone._parse_top_k(written) == number


def test_passages_are_the_texts_of_the_matches() -> None:
    answer = {"matches": [{"metadata": {"text": "near"}}, {"metadata": {"page": 3}}, {"metadata": {"text": "far"}}, {}]}
    assert pinecone._passages(answer, "text") == ["near", "far"]
    assert pinecone._passages({"matches": []}, "text") == []
    with pytest.raises(Invalid, match="'chunk'"):
        pinecone._passages(answer, "chunk")


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (401, Unauthenticated),
        (403, Unauthenticated),
        (429, RateLimited),
        (404, Invalid),
        (302, Invalid),
        (500, UpstreamFailed),
        (503, UpstreamFailed),
    ],
)
def test_the_status_decides_the_problem(status: int, problem: type[Problem]) -> None:
    with pytest.raises(problem) as caught:
        check_status(HttpResponse(status, "", b"your key sk-123 is bad"), "SerpAPI")
    assert caught.value.origin == "SerpAPI"
    assert str(status) in caught.value.message
    assert "sk-123" not in caught.value.message


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"null"])
def test_a_response_without_a_json_object_is_an_upstream_failure(content: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        parse_json_object(HttpResponse(200, "", content), "SerpAPI")
