"""Gives the deprecated `tool_call` and the tool message that answers it one id: neither form has a place for it.

Clients before 0.6 know no other form, and every provider needs the id.
"""

from collections.abc import Sequence

from shared.contracts.chat import ChatMessage, FunctionCall, ToolCall
from shared.errors import Invalid


def name_answered_calls(messages: Sequence[ChatMessage], template: Sequence[ChatMessage] = ()) -> list[ChatMessage]:
    """Return `template` and `messages` as one conversation, in which every tool message has the `tool_call_id` of its
    call, which may be empty in both.

    A `tool_call` that stands alone in its message and is answered gets its answer's id, or both get a new one, and is
    in `tool_calls` as well. Raises Invalid, naming the field, for any other tool message without an id.
    """
    conversation = [*template, *messages]
    named = {call.id for message in conversation for call in message.tool_calls or ()}
    taken = named | {message.tool_call_id for message in conversation}
    asking: int | None = None
    """Index of the newest assistant message."""
    for index, message in enumerate(conversation):
        if message.role == "assistant":
            asking = index
        if message.role != "tool":
            continue
        call = None if asking is None else _lone_call(conversation[asking])
        if asking is not None and call is not None and message.tool_call_id not in named:
            call_id = message.tool_call_id or _new_id(asking, taken)
            calls = [ToolCall(id=call_id, function=call)]
            conversation[asking] = conversation[asking].model_copy(update={"tool_calls": calls})
            conversation[index] = message.model_copy(update={"tool_call_id": call_id})
        elif not message.tool_call_id and message.tool_call_id not in named:
            place = f"chat_template[{index}]" if index < len(template) else f"messages[{index - len(template)}]"
            raise Invalid(
                f"{place}.tool_call_id is missing: a message with role 'tool' needs the id of the call it answers. "
                "Without it, it can only be the one answer to a message of the assistant with the deprecated tool_call."
            )
    return conversation


def _lone_call(message: ChatMessage) -> FunctionCall | None:
    """Return the deprecated `tool_call` if the message has no other, with arguments, which providers want."""
    if message.tool_call is None or message.tool_calls:
        return None
    return message.tool_call.model_copy(update={"arguments": message.tool_call.arguments or "{}"})


def _new_id(index: int, taken: set[str | None]) -> str:
    """Return an id that no message has; the same for the same conversation."""
    call_id = f"call_{index}"
    while call_id in taken:
        call_id += "_"
    taken.add(call_id)
    return call_id
