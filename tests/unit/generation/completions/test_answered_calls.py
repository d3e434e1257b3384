"""The deprecated `tool_call` and its answer get one id."""

from typing import Any

import pytest

from services.generation.completions.answered_calls import name_answered_calls
from shared.contracts.chat import ChatMessage
from shared.errors import Invalid


def message(role: str, **fields: Any) -> ChatMessage:
    return ChatMessage.model_validate({"role": role, "content": "x"} | fields)


def asking(name: str = "f", arguments: Any = "{}", **fields: Any) -> ChatMessage:
    return message("assistant", tool_call={"name": name, "arguments": arguments}, **fields)


def call(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "g", "arguments": "{}"}}


USER, ANSWER = message("user"), message("tool")


def ids(conversation: list[ChatMessage]) -> list[str | None]:
    """Of each message the id of its only call, or that of the call it answers."""
    return [one.tool_calls[0].id if one.tool_calls else one.tool_call_id for one in conversation]


def test_a_call_and_its_answer_get_the_same_id_and_each_pair_its_own() -> None:
    conversation = name_answered_calls([USER, asking(), ANSWER, asking("g"), ANSWER])
    first, second = ids(conversation)[1], ids(conversation)[3]
    assert ids(conversation) == [None, first, first, second, second]
    assert len({None, first, second}) == 3
    calls = [one.tool_calls[0] for one in conversation if one.tool_calls]
    assert [one.function.name for one in calls] == ["f", "g"]
    assert conversation[1].tool_call == calls[0].function
    assert name_answered_calls([USER, asking(), ANSWER, asking("g"), ANSWER]) == conversation, "the same every time"
    assert name_answered_calls(conversation) == conversation


def test_a_new_id_is_none_that_another_message_has() -> None:
    taken = [message("assistant", tool_calls=[call("call_2"), call("call_2_")]), message("tool", tool_call_id="call_2")]
    assert ids(name_answered_calls([*taken, asking(), ANSWER]))[2:] == ["call_2__"] * 2


def test_the_id_of_the_answer_is_taken_if_it_has_one() -> None:
    assert ids(name_answered_calls([asking(), message("tool", tool_call_id="call_x")])) == ["call_x"] * 2


def test_a_call_in_the_template_is_answered_by_the_callers_message() -> None:
    assert ids(name_answered_calls([ANSWER], [USER, asking()])) == [None, "call_1", "call_1"]


def test_a_call_without_arguments_or_with_other_json_has_their_text() -> None:
    (first, *_), (second, *_) = (
        name_answered_calls([asking(arguments=arguments), ANSWER]) for arguments in (None, {"city": "Zürich"})
    )
    assert [one.tool_calls[0].function.arguments for one in (first, second) if one.tool_calls] == [
        "{}",
        '{"city": "Zürich"}',
    ]


def test_what_needs_no_id_stays_as_it_is() -> None:
    for conversation in (
        [USER, asking()],
        [USER, asking(), USER],
        [message("assistant", tool_calls=[call("a")]), message("tool", tool_call_id="a")],
        [message("assistant", tool_calls=[call("a")]), asking(), message("tool", tool_call_id="a")],
        [message("assistant", tool_calls=[call("")]), message("tool", tool_call_id="")],
    ):
        assert name_answered_calls(conversation) == conversation


@pytest.mark.parametrize(
    ("template", "messages", "place"),
    [
        ([], [ANSWER], "messages[0]"),
        ([USER, ANSWER], [asking()], "chat_template[1]"),
        ([asking()], [ANSWER, ANSWER], "messages[1]"),
        ([], [asking(), message("assistant"), ANSWER], "messages[2]"),
        ([], [asking(tool_calls=[call("a")]), ANSWER], "messages[1]"),
        ([], [asking(), message("tool", tool_call_id=""), message("tool", tool_call_id="")], "messages[2]"),
    ],
)
def test_a_tool_message_that_does_not_say_what_it_answers_is_refused(
    template: list[ChatMessage], messages: list[ChatMessage], place: str
) -> None:
    with pytest.raises(Invalid) as caught:
        name_answered_calls(messages, template)
    assert caught.value.message.startswith(f"{place}.tool_call_id is missing")
