"""The template language (behaviour.md §3)."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.templates import template as language
from services.generation.templates.template import ToolReference, find_tool_calls
from shared.contracts.chat import ChatMessage, Image, ImageUrl, Text
from shared.errors import Invalid


def populate(template: str, inputs: dict[str, Any], results: dict[str, str] | None = None) -> str:
    """A prompt whose calls gave `results`."""
    return language.populate(template, inputs, results or {})


def populate_chat(template: list[ChatMessage], inputs: dict[str, Any]) -> list[ChatMessage]:
    """The messages of a template without calls."""
    return language.populate_chat(template, inputs, {})


NAMES = st.text(string.ascii_letters + string.digits + "_", min_size=1)


@pytest.mark.parametrize("placeholder", ["{{a}}", "{{ a }}", "{{ a}}", "{{\ta\n}}"])
def test_one_white_space_is_allowed_inside_the_braces(placeholder: str) -> None:
    assert populate(f"<{placeholder}>", {"a": "b"}) == "<b>"


@pytest.mark.parametrize(
    "text",
    [
        *("{{a-b}}", "{{  a }}", "{{ a  }}", "{a}", "{{}}", "{{ a b }}", "{{ünicode}}", "{{tool()}}", "{% if a %}"),
        '{{  tool("a") }}',
    ],
)
def test_text_that_is_no_placeholder_stays_as_it_is(text: str) -> None:
    assert populate(text, {"a": "b"}) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        (42, "42"),
        (1.5, "1.5"),
        (True, "True"),
        (0, "0"),
        ({"ä": [1, None]}, '{"ä": [1, null]}'),
        ([], "[]"),
        (r"\1 \n \g<0>", r"\1 \n \g<0>"),
    ],
)
def test_values_become_text(value: Any, text: str) -> None:
    assert populate("{{v}}", {"v": value}) == text


def test_missing_and_null_inputs_are_all_named_in_order() -> None:
    with pytest.raises(Invalid) as caught:
        populate("{{b}} {{a}} {{b}} {{c}} {{d.e}}", {"c": None, "unused": 1})
    assert caught.value.message == "Prompt requires inputs for the following variables: ['a', 'b', 'c', 'd.e']"
    assert caught.value.origin == "Humanloop"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("user.name", "Ann"),
        ("user.tags[1]", "y"),
        ("user.tags.0", "x"),
        ("rows[0].id", "7"),
        ("user.exact", "literal"),
        ("user[name]", None),
        ("user.tags[9]", None),
        ("user.name.first", None),
        ("user..name", None),
        (".user", None),
        ("[0]", None),
    ],
)
def test_a_path_leads_into_the_inputs(name: str, expected: str | None) -> None:
    inputs = {
        "user": {"name": "Ann", "tags": ["x", "y"], "exact": "by path"},
        "rows": [{"id": 7}],
        "user.exact": "literal",
    }
    if expected is None:
        with pytest.raises(Invalid, match="variables"):
            populate(f"{{{{{name}}}}}", inputs)
    else:
        assert populate(f"{{{{{name}}}}}", inputs) == expected


@pytest.mark.parametrize(
    ("written", "name", "arguments"),
    [
        ("search(query)", "search", ("the question",)),
        ("search( query , 10 )", "search", ("the question", "10")),
        ('my-tool("a, b?", 10)', "my-tool", ("a, b?", "10")),
        ('t("it\'s {{query}} }}")', "t", ("it's {{query}} }}",)),
        ('t("")', "t", ("",)),
        ("t(-1.5)", "t", ("-1.5",)),
        ("t(10x)", "t", ("an input",)),
        ("t(user.name)", "t", ("Ann",)),
        ("t(my-input)", "t", ("hyphens",)),
        ("t(number)", "t", ("42",)),
        ("t( )", "t", ()),
    ],
)
def test_a_call_has_a_name_and_arguments(written: str, name: str, arguments: tuple[str, ...]) -> None:
    inputs = {"query": "the question", "10x": "an input", "user": {"name": "Ann"}, "my-input": "hyphens", "number": 42}
    template = f"<{{{{ {written} }}}}>"
    assert find_tool_calls(template, inputs) == [ToolReference(written, name, arguments)]
    assert populate(template, inputs, {written: "given"}) == "<given>"


@pytest.mark.parametrize("written", ["t(a b)", "t(a,)", "t(,a)", 't("a" "b")', "t(,)", 't(a"b")'])
def test_a_call_that_cannot_be_read_is_refused_as_written(written: str) -> None:
    with pytest.raises(Invalid) as caught:
        find_tool_calls(f"x {{{{ {written} }}}}", {"a": 1, "b": 2})
    assert repr(written) in caught.value.message


def test_equal_text_is_one_call_and_other_text_another() -> None:
    template = [
        ChatMessage(role="system", content="{{ t(a) }} {{t(a)}} {{ t( a ) }}"),
        ChatMessage(role="user", content=[Text(text="{{ t(a) }} {{ u(a) }}")]),
    ]
    assert [call.signature for call in find_tool_calls(template, {"a": "b"})] == ["t(a)", "t( a )", "u(a)"]


def test_missing_arguments_are_named_together_with_missing_inputs() -> None:
    with pytest.raises(Invalid) as caught:
        find_tool_calls('{{ z }} {{ t(m, "x", k) }} {{ a }}', {"k": None})
    assert caught.value.message == "Prompt requires inputs for the following variables: ['a', 'k', 'm', 'z']"


def test_a_result_is_never_read_as_template_again() -> None:
    results = {"t(a)": r"{{ a }} {{ u(a) }} \1"}
    assert populate("{{ t(a) }}|{{ a }}", {"a": "{{ t(a) }}"}, results) == r"{{ a }} {{ u(a) }} \1|{{ t(a) }}"


def test_a_call_without_a_result_is_an_error_and_not_an_empty_string() -> None:
    with pytest.raises(KeyError):
        populate("{{ t(a) }}", {"a": 1})


def test_a_template_without_calls_has_none() -> None:
    assert find_tool_calls("{{ a }} {{ t() }}", {"a": 1}) == []
    assert find_tool_calls((), {}) == []


def test_text_parts_are_populated_and_everything_else_passes_through() -> None:
    image = Image(image_url=ImageUrl(url="https://example.test/{{a}}.png"))
    template = [
        ChatMessage(role="system", content="{{a}}", name="{{a}}"),
        ChatMessage(role="user", content=[Text(text="see {{a}}"), image]),
        ChatMessage(role="assistant", content=None),
    ]
    assert populate_chat(template, {"a": "b"}) == [
        ChatMessage(role="system", content="b", name="{{a}}"),
        ChatMessage(role="user", content=[Text(text="see b"), image]),
        ChatMessage(role="assistant", content=None),
    ]


def test_what_is_missing_is_collected_over_all_messages() -> None:
    template = [ChatMessage(role="system", content="{{z}}"), ChatMessage(role="user", content=[Text(text="{{y}}")])]
    with pytest.raises(Invalid, match=r"\['y', 'z'\]"):
        populate_chat(template, {})


@given(st.dictionaries(NAMES, st.text(), min_size=1))
def test_a_value_is_never_read_as_template_again(inputs: dict[str, str]) -> None:
    hostile = {name: "{{ " + name + " }}" + value + r"\0{{missing}}" for name, value in inputs.items()}
    template = "|".join(f"{{{{ {name} }}}}" for name in hostile)
    assert populate(template, hostile) == "|".join(hostile.values())


@given(st.text().filter(lambda text: "{{" not in text), st.dictionaries(NAMES, st.text()))
def test_text_without_braces_stays_as_it_is(text: str, inputs: dict[str, str]) -> None:
    assert populate(text, inputs) == text
