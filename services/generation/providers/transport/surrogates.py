"""Joins the halves of surrogate pairs that servers cut apart (`"\\ud83d"`, `"\\ude00"`), and replaces those that stay
alone by U+FFFD: a text with a half in it cannot be written as UTF-8, so neither sent nor stored."""

from dataclasses import replace
from typing import Any

from services.generation.models.request import Choice, ResponseDelta, ToolCallPart

_Channel = int | str | None
"""Where a text goes on: the answer's text, or the arguments of the tool call of an index."""
_TEXT = "text"


def join_surrogates(text: str) -> str:
    """Return the text with neighbouring halves joined and others replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def without_surrogates(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a JSON value with `join_surrogates` applied to its texts and keys."""
    if isinstance(value, str):
        return join_surrogates(value)
    if isinstance(value, dict):
        return {join_surrogates(key): without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    return value


def join_in_choice(choice: Choice) -> Choice:
    """Return the sample with `join_surrogates` applied to its texts."""
    calls = choice.tool_calls and [
        call.model_validate(without_surrogates(call.model_dump())) for call in choice.tool_calls
    ]
    return replace(choice, text=join_surrogates(choice.text), tool_calls=calls)


class SurrogateJoiner:
    """Joins halves over the events of one stream: the first half waits for the event with the second."""

    def __init__(self) -> None:
        self._waiting: dict[_Channel, str] = {}

    def join(self, delta: ResponseDelta, *, has_surrogates: bool) -> ResponseDelta:
        """Return the event with whole characters; at the end of the answer nothing waits any longer."""
        if not has_surrogates and not self._waiting:
            return delta
        ends = delta.finish_reason is not None
        joined = replace(
            delta,
            text=self._join(_TEXT, delta.text, ends=ends),
            tool_calls=tuple(self._join_call(part) for part in delta.tool_calls),
            response_fields=without_surrogates(delta.response_fields),
            raw_usage=without_surrogates(delta.raw_usage),
            logprobs=without_surrogates(delta.logprobs),
        )
        return self._with_rest(joined) if ends else joined

    def rest(self) -> ResponseDelta | None:
        """Return what still waits at the end of a stream, or None."""
        if not self._waiting:
            return None
        return self._with_rest(ResponseDelta(text=self._join(_TEXT, "", ends=True)))

    def _with_rest(self, delta: ResponseDelta) -> ResponseDelta:
        """Add the halves of arguments that stayed alone."""
        indexes = [index for index in self._waiting if not isinstance(index, str)]
        rest = tuple(ToolCallPart(index, arguments=self._join(index, "", ends=True)) for index in indexes)
        return replace(delta, tool_calls=delta.tool_calls + rest)

    def _join_call(self, part: ToolCallPart) -> ToolCallPart:
        return replace(
            part,
            id=without_surrogates(part.id),
            name=without_surrogates(part.name),
            arguments=self._join(part.index, part.arguments, ends=part.index is None),
            default_arguments=without_surrogates(part.default_arguments),
        )

    def _join(self, channel: _Channel, text: str, *, ends: bool) -> str:
        whole = self._waiting.pop(channel, "") + text
        if not ends and whole and "\ud800" <= whole[-1] <= "\udbff":
            self._waiting[channel] = whole[-1]
            whole = whole[:-1]
        return join_surrogates(whole)
