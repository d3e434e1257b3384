"""What makes two configs the same version: equal canonical text, within one project (behaviour.md §2)."""

import json
from typing import Any

from shared import ids
from shared.contracts.chat import LinkedTool
from shared.contracts.projects import Config, ModelConfig

_LABELS = {"name", "description"}
"""Of a model config: they say what it is for, not what it does. Of a tool they are what the model is told."""


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """JSON has one kind of number: 1 and 1.0 are the same."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case _:
            return value


def canonical(config: Config) -> str:
    """One text for all ways to write the same behaviour.

    Defaults are filled in; nulls of the contract's own fields and empty lists are dropped (nulls inside `other`,
    `parameters` and JSON schemas mean something and stay); keys are sorted; lists keep their order. A linked tool
    counts by its id alone: what it says is looked up at call time. Of an inline tool `source` does not count: its
    definition stands here, and answers always say `inline`.
    """
    content = config.model_dump(exclude_none=True)
    if isinstance(config, ModelConfig):
        content = {key: value for key, value in content.items() if key not in _LABELS and value != []}
        if config.tools:
            content["tools"] = [
                {"id": tool.id, "source": tool.source}
                if isinstance(tool, LinkedTool)
                else {key: value for key, value in dumped.items() if key != "source"}
                for tool, dumped in zip(config.tools, content["tools"], strict=True)
            ]
    return json.dumps(_plain(content), sort_keys=True, separators=(",", ":"))


def version_id(project_id: str, config: Config) -> str:
    """The id of this config in this project."""
    return ids.derive("config", project_id, canonical(config))
