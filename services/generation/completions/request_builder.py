"""Builds the provider-independent request: the config's populated template, then the caller's messages."""

from collections.abc import Mapping

from services.generation.models.request import ModelRequest
from services.generation.templates import template
from shared.contracts.generation.generations import Chat, Complete
from shared.contracts.generation.projects import Config, ModelConfig
from shared.errors import Invalid


def model_config(config: Config, command: Chat | Complete) -> ModelConfig:
    """Return `config`. Raises Invalid if it is not a model config, or not one for the command's endpoint."""
    endpoint = "chat" if isinstance(command, Chat) else "complete"
    if not isinstance(config, ModelConfig):
        raise Invalid(f"This config is a {config.type}; only a model config can be called.")
    if config.endpoint != endpoint:
        raise Invalid(f"This config is for the endpoint {config.endpoint!r}; it cannot be called as {endpoint!r}.")
    return config


def tool_references(command: Chat | Complete, config: ModelConfig) -> list[template.ToolReference]:
    """Return the tool calls in the config's template. Raises Invalid (missing inputs, a call that does not parse)."""
    return template.find_tool_calls(
        config.chat_template or () if isinstance(command, Chat) else config.prompt_template or "", command.inputs
    )


def build_request(command: Chat | Complete, config: ModelConfig, tool_results: Mapping[str, str]) -> ModelRequest:
    """Return the request; what the command says wins over the config.

    `tool_results` are those of `tool_references`, by signature. Raises Invalid (missing inputs).
    """
    seed = command.seed if command.seed is not None else config.seed
    if isinstance(command, Chat):
        populated = template.populate_chat(config.chat_template or (), command.inputs, tool_results)
        return ModelRequest(
            config=config,
            messages=[*populated, *command.messages],
            samples=command.num_samples,
            stream=command.stream,
            tool_choice=command.tool_choice,
            response_format=command.response_format or config.response_format,
            seed=seed,
            user=command.user,
            save=command.save,
        )
    return ModelRequest(
        config=config,
        prompt=template.populate(config.prompt_template or "", command.inputs, tool_results),
        samples=command.num_samples,
        stream=command.stream,
        response_format=config.response_format,
        seed=seed,
        user=command.user,
        save=command.save,
        logprobs=command.logprobs,
        suffix=command.suffix,
    )
