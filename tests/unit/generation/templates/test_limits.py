"""What a few characters of a template may become is bounded, and so is the time it takes."""

import tracemalloc
from typing import Any

import pytest

from services.generation.templates import template as language
from services.generation.templates.template import MAX_BRACES, find_tool_calls, populate, populate_chat
from services.generation.templates.text_budget import MAX_BYTES
from shared.contracts.chat import ChatMessage, Text
from shared.errors import Invalid

LENGTH = 4 * 1024 * 1024
LIST = [1] * 50_000  # 150,000 bytes of JSON


def message(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


def test_a_value_is_turned_into_text_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    original = language._to_text

    def to_text(value: Any) -> str:
        written.append(value)
        return original(value)

    monkeypatch.setattr(language, "_to_text", to_text)
    populate_chat([message("{{x}}" * 5), message("{{ x }} {{x}}")], {"x": [1, 2]}, {})
    assert written == [[1, 2]]


def test_writing_stops_at_the_limit_and_names_what_takes_most() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Invalid, match=r"more than 4,194,304 bytes, 4,200,000 of them for 'x' alone"):
            populate("{{y}}{{x}}" * 10_000, {"x": LIST, "y": "-"}, {})
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_is_that_of_all_messages_and_parts_together_in_bytes(over: int) -> None:
    half = "ü" * (MAX_BYTES // 4)
    template = [message("{{x}}"), ChatMessage(role="user", content=[Text(text="{{x}}"), Text(text="a" * over)])]
    if over:
        with pytest.raises(Invalid, match="'x' alone"):
            populate_chat(template, {"x": half}, {})
    else:
        assert len(populate_chat(template, {"x": half}, {})) == 2


def test_results_and_arguments_count_as_values_do() -> None:
    with pytest.raises(Invalid, match=r"for 't\(a\)' alone"):
        populate("{{ t(a) }}" * 50, {"a": 1}, {"t(a)": "r" * 100_000})
    with pytest.raises(Invalid, match="for 'a' alone"):
        find_tool_calls("".join(f"{{{{ t(a, {number}) }}}}" for number in range(50)), {"a": LIST})


def test_text_of_the_template_alone_can_be_too_long() -> None:
    with pytest.raises(Invalid, match="bytes; shorten it"):
        populate("a" * (MAX_BYTES + 1), {}, {})


def test_braces_are_counted_over_all_messages() -> None:
    with pytest.raises(Invalid, match="20,001 times; at most 20,000"):
        populate_chat([message("{{" * MAX_BRACES), message("{{")], {}, {})
    assert populate("{{ " * MAX_BRACES, {}, {}) == "{{ " * MAX_BRACES


def test_an_error_does_not_repeat_a_template() -> None:
    names = "".join(f"{{{{{'n' * 1000}{number}}}}}" for number in range(300))
    with pytest.raises(Invalid) as missing:
        populate(names, {}, {})
    with pytest.raises(Invalid) as unreadable:
        find_tool_calls("{{ t(" + "a b " * 100_000 + ") }}", {})
    with pytest.raises(Invalid, match="more than 20 arguments") as many:
        find_tool_calls("{{ t(" + "1," * 100_000 + "1) }}", {})
    assert "and 200 more" in missing.value.message
    assert max(len(error.value.message) for error in (missing, unreadable, many)) < 30_000


@pytest.mark.parametrize(
    "text",
    [
        *("{{" + "a" * LENGTH, "{{" + "a[" * (LENGTH // 2), "{{f(" + "a" * LENGTH, "{{f(" + " " * LENGTH),
        *("{{f(" + '"" ' * (LENGTH // 3), "{{f(" + '"a",' * (LENGTH // 4), '{{f("' + "a" * LENGTH),
        *("{{f(" + "a," * (LENGTH // 2), "{" * 40_000 + "a" * LENGTH, ('{{f("' + "a" * 500) * 8_000),
        *(('"{{f( a"' + "b" * 500) * 8_000, "{{ \u2003" + "\u2003" * (LENGTH // 4), "{{f(-" + "1" * LENGTH),
    ],
    ids=range(13),
)
def test_populating_takes_time_in_proportion(text: str) -> None:
    """Long enough that a square of its length would not end while the tests wait."""
    text = text[:LENGTH]
    tracemalloc.start()
    try:
        assert find_tool_calls(text, {}) == []
        assert populate(text, {}, {}) == text
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BYTES
    finally:
        tracemalloc.stop()


def test_a_path_of_a_million_steps_is_followed() -> None:
    name = "a" + ".a" * 1_000_000
    with pytest.raises(Invalid, match="variables"):
        populate(f"{{{{{name}}}}}", {"a": {"a": 1}}, {})
