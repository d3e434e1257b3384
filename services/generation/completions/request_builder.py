"""What is sent to the model: the config's template with the inputs in it, then the caller's messages."""

from collections.abc import Mapping

from services.generation.models.request import ModelRequest
from services.generation.templates import template
from shared.contracts.generations import Chat, Complete
from shared.contracts.projects import Config, ModelConfig
from shared.errors import Invalid


def callable_config(config: Config, command: Chat | Complete) -> ModelConfig:
    """The config, if it can be called this way. Errors: Invalid."""
    wanted = "chat" if isinstance(command, Chat) else "complete"
    if not isinstance(config, ModelConfig):
        raise Invalid(f"This config is a {config.type}; only a model config can be called.")
    if config.endpoint != wanted:
        raise Invalid(f"This config is for the endpoint {config.endpoint!r}; it cannot be called as {wanted!r}.")
    return config


def calls(command: Chat | Complete, config: ModelConfig) -> list[template.ToolReference]:
    """The tools its template calls. Errors: Invalid (missing inputs, a call that cannot be read)."""
    return template.find_tool_calls(
        config.chat_template or () if isinstance(command, Chat) else config.prompt_template or "", command.inputs
    )


def request(command: Chat | Complete, config: ModelConfig, results: Mapping[str, str]) -> ModelRequest:
    """The provider-agnostic request. What the command says wins over the config; `results` are those of `calls`."""
    seed = command.seed if command.seed is not None else config.seed
    if isinstance(command, Chat):
        populated = template.populate_chat(config.chat_template or (), command.inputs, results)
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
        prompt=template.populate(config.prompt_template or "", command.inputs, results),
        samples=command.num_samples,
        stream=command.stream,
        response_format=config.response_format,
        seed=seed,
        user=command.user,
        save=command.save,
        logprobs=command.logprobs,
        suffix=command.suffix,
    )
