"""Halves of surrogate pairs over the events of a stream."""

from hypothesis import given
from hypothesis import strategies as st

from services.generation.models.request import ResponseDelta, StreamAccumulator, ToolCallPart
from services.generation.providers.transport.surrogates import SurrogateJoiner, join_surrogates, without_surrogates

UNITS = st.text(alphabet="ab☂\ud83d\ude00\udc00\udbff😀", max_size=8)


def joined(deltas: list[ResponseDelta]) -> StreamAccumulator:
    joiner, accumulator = SurrogateJoiner(), StreamAccumulator()
    for delta in deltas:
        accumulator.add(joiner.join(delta, has_surrogates=True))
    if (rest := joiner.rest()) is not None:
        accumulator.add(rest)
    return accumulator


@given(st.lists(UNITS), st.lists(UNITS), st.lists(UNITS), st.booleans())
def test_pieces_become_what_the_whole_text_is(
    texts: list[str], first: list[str], second: list[str], ends: bool
) -> None:
    deltas = [ResponseDelta(text=text) for text in texts]
    deltas += [ResponseDelta(tool_calls=(ToolCallPart(index, "c", "f"),)) for index in (0, 1)]
    for index, pieces in ((0, first), (1, second)):
        deltas += [ResponseDelta(tool_calls=(ToolCallPart(index, arguments=piece),)) for piece in pieces]
    deltas += [ResponseDelta(finish_reason="stop")] if ends else []
    choice = joined(deltas).choice()
    assert choice.text == join_surrogates("".join(texts))
    assert [call.function.arguments for call in choice.tool_calls or ()] == [
        join_surrogates("".join(pieces)) or "{}" for pieces in (first, second)
    ]
    choice.text.encode()


def test_an_event_without_halves_is_not_copied_unless_one_waits() -> None:
    joiner, plain = SurrogateJoiner(), ResponseDelta(text="a")
    assert joiner.join(plain, has_surrogates=False) is plain
    assert joiner.join(ResponseDelta(text="\ud83d"), has_surrogates=True).text == ""
    assert joiner.join(plain, has_surrogates=False).text == "\ufffda"
    assert joiner.rest() is None


def test_everything_else_in_an_event_is_cleaned() -> None:
    half, clean = {"a": ["\ud83d"]}, {"a": ["\ufffd"]}
    delta = ResponseDelta(response_fields=half, raw_usage=half, logprobs=half)
    read = SurrogateJoiner().join(delta, has_surrogates=True)
    assert (read.response_fields, read.raw_usage, read.logprobs) == (clean, clean, clean)
    assert without_surrogates({"\ud83d": [1, None, "\ude00"]}) == {"\ufffd": [1, None, "\ufffd"]}
