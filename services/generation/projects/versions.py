"""Config versions: the id is derived from the project and the config's canonical JSON (behaviour.md §2)."""

import json
from typing import Any

from shared import ids
from shared.contracts.chat import LinkedTool
from shared.contracts.generation.projects import AgentConfig, Config, ModelConfig

_DESCRIPTIVE_FIELDS = {"name", "description"}
"""Of the config of a model or an agent: they have no effect on calls and are not part of its identity. Those of a tool
are, because the model is sent them, and those of a generic config, which may have nothing else."""


def _normalised(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the JSON value with whole floats as integers: JSON has one kind of number, so 1 and 1.0 are the same."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _normalised(item) for key, item in value.items()}
        case list():
            return [_normalised(item) for item in value]
        case _:
            return value


def canonical_json(config: Config) -> str:
    """Return the same JSON text for all ways to write a config with the same behaviour.

    Defaults are filled in; nulls of the contract's own fields and empty lists are dropped (nulls inside `other`,
    `parameters` and JSON schemas mean something and stay); keys are sorted; lists keep their order. A linked tool
    counts by its id alone: its definition is looked up at call time. Of an inline tool `source` does not count: its
    definition stands here, and answers always say `inline`.
    """
    return json.dumps(_normalised(_identifying_fields(config)), sort_keys=True, separators=(",", ":"))


def _identifying_fields(config: Config) -> dict[str, Any]:
    content = config.model_dump(exclude_none=True)
    if not isinstance(config, ModelConfig | AgentConfig):
        return content
    content = {key: value for key, value in content.items() if key not in _DESCRIPTIVE_FIELDS and value != []}
    if isinstance(config, AgentConfig):
        return content | {"model": _identifying_fields(config.model)}
    if config.tools:
        content["tools"] = [
            {"id": tool.id, "source": tool.source}
            if isinstance(tool, LinkedTool)
            else {key: value for key, value in dumped.items() if key != "source"}
            for tool, dumped in zip(config.tools, content["tools"], strict=True)
        ]
    return content


def version_id(project_id: str, config: Config) -> str:
    """Return the id of this config's version in this project."""
    return ids.derive("config", project_id, canonical_json(config))
