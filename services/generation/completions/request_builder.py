"""Builds the provider-independent request: the config's populated template, then the caller's messages."""

from collections.abc import Mapping

from pydantic_core import to_json

from services.generation.completions.answered_calls import name_answered_calls
from services.generation.models.request import ModelRequest
from services.generation.templates import template
from shared.contracts.generation.generations import Chat, Complete
from shared.contracts.generation.projects import Config, ModelConfig
from shared.errors import Invalid

MAX_SAMPLED_BYTES = 16 * 1024 * 1024
"""Of the text and the inputs of a request, times its samples: each sample has a log with all of it."""


def model_config(config: Config, command: Chat | Complete) -> ModelConfig:
    """Return `config`, whose `endpoint` says nothing about this call: clients register configs without one.

    Raises Invalid if it is not a model config, or one whose template is for the other kind of call; for tool messages
    that do not say what they answer.
    """
    if not isinstance(config, ModelConfig):
        raise Invalid(f"This config is of the type {config.type!r}; only one of the type 'model' can be called.")
    if isinstance(command, Chat):
        if config.endpoint != "chat" and config.prompt_template and not config.chat_template:
            raise Invalid(
                f"This config is for the endpoint {config.endpoint!r}, with a prompt_template and no chat_template: "
                "call it as a completion."
            )
        name_answered_calls(command.messages, config.chat_template or ())
    elif config.endpoint != "complete" and not config.prompt_template:
        raise Invalid(
            f"This config is for the endpoint {config.endpoint!r}, without a prompt_template: call it as a chat."
        )
    return config


def tool_references(command: Chat | Complete, config: ModelConfig) -> list[template.ToolReference]:
    """Return the tool calls in the config's template. Raises Invalid (missing inputs, a call that does not parse)."""
    return template.find_tool_calls(
        config.chat_template or () if isinstance(command, Chat) else config.prompt_template or "", command.inputs
    )


def build_request(command: Chat | Complete, config: ModelConfig, tool_results: Mapping[str, str]) -> ModelRequest:
    """Return the request; what the command says wins over the config.

    `tool_results` are those of `tool_references`, by signature. Raises Invalid (missing inputs, over a limit).
    """
    seed = command.seed if command.seed is not None else config.seed
    if isinstance(command, Chat):
        populated = template.populate_chat(config.chat_template or (), command.inputs, tool_results)
        return ModelRequest(
            config=config,
            messages=name_answered_calls(command.messages, populated),
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


def check_samples(command: Chat | Complete, request: ModelRequest | None = None) -> None:
    """Raise Invalid if the logs of all samples would be too much: each has the inputs, and what is sent to the model.

    Without `request`, which is known once the template is populated, what the command itself brings is counted.
    """
    if command.num_samples == 1:
        return
    messages = command.messages if isinstance(command, Chat) else None
    sent = [request.messages, request.prompt, request.config.tools] if request else messages
    size = len(to_json([command.inputs, sent]))
    if size * command.num_samples > MAX_SAMPLED_BYTES:
        raise Invalid(
            f"num_samples is {command.num_samples}, and each sample is logged with the {size:,} bytes of this request: "
            f"at most {max(1, MAX_SAMPLED_BYTES // size)} samples of a request of this size are possible."
        )
