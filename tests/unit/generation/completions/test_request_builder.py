"""What is sent: template first, and the request over the config."""

from typing import Any

import pytest

from services.generation.completions import request_builder
from shared.contracts.generation.generations import Chat, Complete
from shared.contracts.generation.projects import ModelConfig, ProjectRef, ToolConfig
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


@pytest.mark.parametrize("given", [ToolConfig(name="t"), config(endpoint="complete"), config(endpoint="edit")])
def test_only_a_chat_config_can_be_chatted_with(given: ModelConfig | ToolConfig) -> None:
    with pytest.raises(Invalid):
        request_builder.model_config(given, chat())


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
