"""Names of tools and ids of calls are those a provider takes, in its request alone, and tell calls apart."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.models.request import Choice, ModelRequest
from services.generation.providers import tool_identifiers
from services.generation.providers.registry import PROVIDER_SPECS, ProviderSpec
from services.generation.providers.tool_identifiers import ANY_IDENTIFIERS, fit, restore
from shared.contracts.chat import ChatMessage, FunctionCall, FunctionChoice, FunctionName, ToolCall
from shared.contracts.generation.projects import ModelConfig

WITH_RULES = [spec for spec in PROVIDER_SPECS.values() if spec.identifiers is not ANY_IDENTIFIERS]
with_rules = pytest.mark.parametrize("spec", WITH_RULES, ids=lambda spec: spec.name)


def call(call_id: str, name: str = "f") -> ToolCall:
    return ToolCall(id=call_id, function=FunctionCall(name=name, arguments="{}"))


def called(*calls: ToolCall) -> ChatMessage:
    return ChatMessage(role="assistant", content="", tool_calls=list(calls))


def result(call_id: str, content: str = "r", **fields: Any) -> ChatMessage:
    return ChatMessage(role="tool", content=content, tool_call_id=call_id, **fields)


def request(*messages: ChatMessage, tools: tuple[str, ...] = (), choice: str | None = None) -> ModelRequest:
    config = ModelConfig.model_validate({"model": "m", "tools": [{"name": name} for name in tools]})
    chosen = None if choice is None else FunctionChoice(function=FunctionName(name=choice))
    return ModelRequest(config, list(messages), tool_choice=chosen)


def ids(fitted: ModelRequest) -> list[str | None]:
    """The ids in the order of the messages."""
    found: list[str | None] = []
    for message in fitted.messages or ():
        found += [each.id for each in message.tool_calls or ()]
        if message.role == "tool":
            found.append(message.tool_call_id)
    return found


@with_rules
@given(names=st.lists(st.text(min_size=1), min_size=1, max_size=6), call_ids=st.lists(st.text(min_size=1), min_size=1))
def test_any_name_and_id_becomes_one_that_the_provider_takes(
    spec: ProviderSpec, names: list[str], call_ids: list[str]
) -> None:
    rules = spec.identifiers
    calls = [call(call_id, names[index % len(names)]) for index, call_id in enumerate(dict.fromkeys(call_ids))]
    asked = request(
        called(*calls), *(result(each.id) for each in calls), tools=tuple(dict.fromkeys(names)), choice=names[0]
    )
    fitted, restored = fit(asked, rules)
    sent = ids(fitted)
    assert sent[: len(calls)] == sent[len(calls) :], "each result has the id of its call"
    assert max(Counter(sent[: len(calls)]).values()) == 1
    assert all(rules.call_id is None or rules.call_id.fullmatch(call_id or "") for call_id in sent)
    tools = [tool.name or "" for tool in fitted.config.tools or ()]
    assert all(rules.name is None or rules.name.fullmatch(name) for name in tools)
    assert [restored.get(name, name) for name in tools] == list(dict.fromkeys(names))
    assert isinstance(fitted.tool_choice, FunctionChoice)
    assert restored.get(fitted.tool_choice.function.name, fitted.tool_choice.function.name) == names[0]
    assert fit(asked, rules) == (fitted, restored), "the same every time"


@with_rules
def test_what_the_provider_takes_is_not_changed(spec: ProviderSpec) -> None:
    asked = request(called(call("aB3dE6gH9", "get_weather-1"), call("bB3dE6gH9")), result("aB3dE6gH9"), tools=("f",))
    fitted, restored = fit(asked, spec.identifiers)
    assert (fitted.messages, fitted.config, restored) == (asked.messages, asked.config, {})


@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "mistral"])
def test_an_id_of_another_vendor_is_replaced_in_call_and_result(provider: str) -> None:
    fitted, _ = fit(
        request(called(call("functions.weather:0")), result("functions.weather:0")),
        PROVIDER_SPECS[provider].identifiers,
    )
    asked, answered = ids(fitted)
    assert asked == answered != "functions.weather:0"
    assert (asked or "").isalnum()


def test_names_that_would_become_the_same_stay_apart() -> None:
    names = ("get weather", "get.weather", "get_weather", "1", "_1", "wetter für " + "x" * 99, "wetter für " + "x" * 98)
    fitted, restored = fit(request(tools=names), PROVIDER_SPECS["google"].identifiers)
    sent = [tool.name or "" for tool in fitted.config.tools or ()]
    assert len(set(sent)) == len(names)
    assert sent[1:3] == ["get.weather", "get_weather"]
    assert [restored.get(name, name) for name in sent] == list(names)


def test_the_name_in_a_result_follows_that_of_the_tool() -> None:
    fitted, _ = fit(
        request(called(call("a", "get.it")), result("a", name="get.it")), PROVIDER_SPECS["anthropic"].identifiers
    )
    assert fitted.messages
    assert fitted.messages[1].name == "get_it"


class TestRepeatedIds:
    def test_a_result_is_that_of_the_newest_call_with_its_id(self) -> None:
        asked = request(called(call("call_0")), result("call_0"), called(call("call_0")), result("call_0"))
        first, first_result, second, second_result = ids(fit(asked, ANY_IDENTIFIERS)[0])
        assert (first, second) == (first_result, second_result)
        assert first != second

    def test_calls_of_one_message_are_answered_in_order(self) -> None:
        asked = request(called(call("x"), call("x"), call("y"), call("x")), *map(result, "xyxx"))
        one, two, other, three, *results = ids(fit(asked, ANY_IDENTIFIERS)[0])
        assert len({one, two, three, other}) == 4
        assert results == [one, other, two, three]

    def test_calls_without_an_id_are_answered_in_order(self) -> None:
        asked = request(called(call(""), call("")), result(""), result(""), called(call("")), result(""))
        assert ids(fit(asked, ANY_IDENTIFIERS)[0]) == ["call_0", "call_1"] * 2 + ["call_2"] * 2

    def test_thousands_of_calls_with_one_id_stay_apart(self) -> None:
        asked = request(called(*[call("x")] * 50_000))
        calls = fit(asked, ANY_IDENTIFIERS)[0].messages
        assert calls
        assert len({one.id for one in calls[0].tool_calls or ()}) == 50_000

    def test_a_signature_stays_with_its_call(self) -> None:
        asked = request(
            called(call("call_0~sigA")), result("call_0~sigA"), called(call("call_0~sigB")), result("call_0~sigB")
        )
        first, _, second, answered = ids(fit(asked, ANY_IDENTIFIERS)[0])
        assert first == "call_0~sigA"
        assert second == answered != "call_0~sigB"
        assert (second or "").endswith("~sigB")

    def test_a_call_may_be_answered_twice_and_a_result_may_have_no_call(self) -> None:
        asked = request(called(call("a")), result("a"), result("a"), result("b"))
        assert ids(fit(asked, ANY_IDENTIFIERS)[0]) == ["a", "a", "a", "b"]

    def test_what_the_caller_sent_is_not_changed(self) -> None:
        asked = request(called(call("a.b", "x.y")), result("a.b"), tools=("x.y",))
        before = asked.config.model_dump(), [message.model_dump() for message in asked.messages or ()]
        fit(asked, PROVIDER_SPECS["bedrock"].identifiers)
        assert (asked.config.model_dump(), [message.model_dump() for message in asked.messages or ()]) == before


class TestAnswers:
    def test_the_caller_sees_its_own_names(self) -> None:
        read = restore(Choice("", [call("a", "get_it"), call("b", "other")]), {"get_it": "get.it"}, [])
        assert [(each.id, each.function.name) for each in read.tool_calls or ()] == [("a", "get.it"), ("b", "other")]

    def test_ids_are_new_in_the_conversation(self) -> None:
        history = [called(call("call_0"), call("own~sig"))]
        read = restore(Choice("", [call(""), call("call_0"), call(""), call("own~new"), call("~sig")]), {}, history)
        sent = [each.id for each in read.tool_calls or ()]
        assert sent == ["call_1", "call_0_0", "call_2", "own_0~new", "call_3~sig"]

    def test_without_calls_nothing_changes(self) -> None:
        choice = Choice("text", finish_reason="stop")
        assert restore(choice, {"a": "b"}, []) is choice


def test_a_request_without_tools_is_not_copied() -> None:
    asked = request(ChatMessage(role="user", content="hi"))
    assert fit(asked, PROVIDER_SPECS["mistral"].identifiers) == (asked, {})
    completion = ModelRequest(ModelConfig(model="m"), prompt="hi")
    assert tool_identifiers.fit(completion, PROVIDER_SPECS["mistral"].identifiers)[0] is completion
