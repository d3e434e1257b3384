"""Conversations as alternating turns of two."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from services.generation.models.request import Json
from services.generation.providers.dialects.alternating_messages import (
    AlternatingMessage,
    alternate,
    content_parts,
    parameters_schema,
    parse_data_url,
    require_inline,
    response_schema,
    tool_arguments,
    tool_calls,
    tool_input,
)
from shared.contracts.chat import ChatMessage, FunctionCall, Image, ImageUrl, InlineTool, LinkedTool, Text, ToolCall
from shared.errors import Invalid


def message(role: Any, content: Any = None, **fields: Any) -> ChatMessage:
    return ChatMessage.model_validate({"role": role, "content": content} | fields)


def blocks(said: ChatMessage) -> list[Json]:
    return [{"said": part.text} for part in content_parts(said) if isinstance(part, Text)]


def test_system_messages_stand_apart_in_their_order() -> None:
    conversation = [message("user", "a"), message("system", "one"), message("assistant", "b"), message("system", "two")]
    assert alternate(conversation, blocks) == (
        "one\n\ntwo",
        [AlternatingMessage("user", [{"said": "a"}]), AlternatingMessage("assistant", [{"said": "b"}])],
    )


def test_what_one_side_says_in_a_row_is_one_turn_and_results_are_the_users() -> None:
    conversation = [
        message("user", "a"),
        message("assistant", "b"),
        message("tool", "c", tool_call_id="1"),
        message("tool", "d", tool_call_id="2"),
        message("user", "e"),
    ]
    _, turns = alternate(conversation, blocks)
    assert [(turn.role, [block["said"] for block in turn.blocks]) for turn in turns] == [
        ("user", ["a"]),
        ("assistant", ["b"]),
        ("user", ["c", "d", "e"]),
    ]


def test_who_says_nothing_is_left_out() -> None:
    conversation = [message("user", "a"), message("assistant", " \n"), message("user", None), message("user", "b")]
    assert alternate(conversation, blocks)[1] == [AlternatingMessage("user", [{"said": "a"}, {"said": "b"}])]


def test_system_messages_alone_are_said_by_the_user() -> None:
    alone = [message("system", "Write a poem."), message("user", "")]
    assert alternate(alone, blocks) == ("", [AlternatingMessage("user", [{"said": "Write a poem."}])])


@pytest.mark.parametrize("conversation", [[], [message("user", "")], [message("system", " ")]])
def test_a_conversation_that_says_nothing_is_refused(conversation: list[ChatMessage]) -> None:
    with pytest.raises(Invalid, match="messages"):
        alternate(conversation, blocks)


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=3))))
def test_turns_alternate_and_lose_nothing(said: list[tuple[str, str]]) -> None:
    conversation = [message("user", "start"), *(message(role, content) for role, content in said)]
    _, turns = alternate(conversation, blocks)
    assert all(one.role != other.role for one, other in pairwise(turns))
    spoken = ["start", *(content for role, content in said if role != "system" and content.strip())]
    assert [block["said"] for turn in turns for block in turn.blocks] == spoken


def test_parts_without_text_that_says_nothing() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    said = message("user", [{"type": "text", "text": ""}, image, {"type": "text", "text": " a "}])
    assert content_parts(said) == [Image(image_url=ImageUrl(url="https://x/y.png")), Text(text=" a ")]


def test_the_deprecated_call_has_no_id() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    both = message("assistant", tool_calls=[call], tool_call=call["function"])
    assert [one.id for one in tool_calls(both)] == ["1"]
    assert tool_calls(message("assistant", "a")) == []
    with pytest.raises(Invalid, match="tool_calls"):
        tool_calls(message("assistant", tool_call=call["function"]))


def called(text: str | None) -> ToolCall:
    return ToolCall(id="call_7", function=FunctionCall(name="f", arguments=text))


@pytest.mark.parametrize(("text", "read"), [('{"a": [1]}', {"a": [1]}), ("", {}), (None, {}), (" \n", {})])
def test_arguments_are_an_object(text: str | None, read: Json) -> None:
    assert tool_arguments(called(text)) == read


@pytest.mark.parametrize("text", ["{", "[]", "null", '"a"', "{} {}"])
def test_arguments_of_another_kind_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="call_7"):
        tool_arguments(called(text))


def image(url: str) -> Image:
    return Image(image_url=ImageUrl(url=url))


@pytest.mark.parametrize(
    ("url", "split"),
    [
        ("https://x/y.png", None),
        ("data:image/png;base64,AAAA", ("image/png", "AAAA")),
        ("DATA:Image/PNG;charset=x;Base64,a,b", ("image/png", "a,b")),
    ],
)
def test_an_image_that_is_sent_along_or_named(url: str, split: tuple[str, str] | None) -> None:
    assert parse_data_url(image(url)) == split


@pytest.mark.parametrize("url", ["data:", "data:image/png,AAAA", "data:image/png;base64", "data:;base64,AAAA"])
def test_an_image_nobody_can_read(url: str) -> None:
    with pytest.raises(Invalid, match="data URL"):
        parse_data_url(image(url))


def test_a_tool_of_ones_own_has_a_schema() -> None:
    tool = InlineTool(name="f")
    assert require_inline(tool) is tool
    assert parameters_schema(tool) == {"type": "object", "properties": {}}
    assert parameters_schema(InlineTool(name="f", parameters={"type": "object"})) == {"type": "object"}
    with pytest.raises(Invalid, match="oc_1"):
        require_inline(LinkedTool(id="oc_1", source="organization"))


def test_the_schema_of_an_answer() -> None:
    inner = {"type": "object"}
    assert response_schema({"name": "n", "schema": inner}) == {"name": "n", "schema": inner}
    assert response_schema(inner) == {"schema": inner}
    with pytest.raises(Invalid, match="json_schema"):
        response_schema(None)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ('{"a": [1, null]}', {"a": [1, None]}),
        (None, {}),
        ("", {}),
        ('{"a": ', '{"a": '),
        ('{"a": "\\ud83d"}', '{"a": "\\ud83d"}'),
        ('{"a": NaN}', '{"a": NaN}'),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ("[" * 5_000, "[" * 5_000),
    ],
)
def test_what_a_model_wrote_can_be_written_down_again(text: str | None, sent: Any) -> None:
    assert tool_input(text) == sent
    to_json(tool_input(text), inf_nan_mode="constants")
