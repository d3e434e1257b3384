"""What is sent: template first, and the request over the config."""

from typing import Any

import pytest

from services.generation.completions import request_builder
from shared.contracts.generation.generations import Chat, Complete
from shared.contracts.generation.projects import AgentConfig, Config, GenericConfig, ModelConfig, ProjectRef, ToolConfig
from shared.errors import Invalid

COMMON: dict[str, Any] = {"organisation": "tm_1", "project": ProjectRef(name="p"), "log_ids": ["data_1"]}


def chat(**fields: Any) -> Chat:
    return Chat.model_validate(COMMON | {"messages": [{"role": "user", "content": "{{raw}}"}]} | fields)


def config(**fields: Any) -> ModelConfig:
    return ModelConfig.model_validate({"model": "m", "endpoint": "chat"} | fields)


def test_the_template_comes_first_and_messages_are_not_templated() -> None:
    given = config(chat_template=[{"role": "system", "content": "{{a}}"}])
    request = request_builder.build_request(chat(inputs={"a": "b", "raw": "never"}), given, {})
    assert [message.content for message in request.messages or ()] == ["b", "{{raw}}"]
    assert request.prompt is None


def test_the_request_wins_over_the_config() -> None:
    given = config(seed=1, response_format={"type": "json_object"})
    assert request_builder.build_request(chat(), given, {}).seed == 1
    assert request_builder.build_request(chat(), given, {}).response_format == given.response_format
    own = {"type": "json_schema", "json_schema": {"name": "x"}}
    request = request_builder.build_request(chat(seed=0, response_format=own), given, {})
    assert request.seed == 0
    assert request.response_format is not None
    assert request.response_format.type == "json_schema"


def test_a_completion_has_a_prompt() -> None:
    command = Complete.model_validate(COMMON | {"inputs": {"a": 1}, "suffix": "s", "logprobs": 2})
    request = request_builder.build_request(command, config(prompt_template="{{a}}", endpoint="complete"), {})
    assert (request.prompt, request.messages, request.suffix, request.logprobs) == ("1", None, "s", 2)


COMPLETION = Complete.model_validate(COMMON)
TEMPLATE: dict[str, Any] = {"chat_template": [{"role": "system", "content": "x"}]}


@pytest.mark.parametrize("given", [ToolConfig(name="t"), AgentConfig(agent_class="A", model=config()), GenericConfig()])
def test_only_the_config_of_a_model_can_be_called(given: Config) -> None:
    for command in (chat(), COMPLETION):
        with pytest.raises(Invalid, match=f"of the type '{given.type}'"):
            request_builder.model_config(given, command)


@pytest.mark.parametrize("endpoint", ["chat", "complete", "edit"])
def test_a_config_is_called_whatever_its_endpoint(endpoint: str) -> None:
    given = config(endpoint=endpoint, prompt_template="x", **TEMPLATE)
    for command in (chat(), COMPLETION):
        assert request_builder.model_config(given, command) == given
    for fields in ({}, TEMPLATE):
        without_prompt = config(endpoint=endpoint, **fields)
        assert request_builder.model_config(without_prompt, chat()) == without_prompt


def test_a_config_whose_template_is_for_the_other_kind_of_call_is_refused() -> None:
    prompt, template = config(endpoint="complete", prompt_template="x"), config(**TEMPLATE)
    with pytest.raises(Invalid, match="a prompt_template and no chat_template"):
        request_builder.model_config(prompt, chat())
    with pytest.raises(Invalid, match="endpoint 'chat', without a prompt_template"):
        request_builder.model_config(template, COMPLETION)
    request_builder.model_config(prompt.model_copy(update={"endpoint": "chat"}), COMPLETION)
    request_builder.model_config(template.model_copy(update={"endpoint": "complete"}), chat())


def test_tools_are_found_and_their_results_put_in() -> None:
    chatted = config(chat_template=[{"role": "system", "content": "{{ t(a) }}"}])
    completed = config(prompt_template="{{ t(a) }}", endpoint="complete")
    for command, given in (
        (chat(inputs={"a": "b"}), chatted),
        (Complete.model_validate(COMMON | {"inputs": {"a": "b"}}), completed),
    ):
        (call,) = request_builder.tool_references(command, given)
        assert (call.name, call.arguments) == ("t", ("b",))
        request = request_builder.build_request(command, given, {call.signature: "given"})
        assert "given" in (request.prompt, request.messages and request.messages[0].content)


def test_a_config_without_a_template_calls_nothing() -> None:
    assert request_builder.tool_references(chat(), config()) == []
    assert request_builder.tool_references(Complete.model_validate(COMMON), config(endpoint="complete")) == []
