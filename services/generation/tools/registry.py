"""The registry of tool kinds, one row each."""

from typing import Any

from services.generation.tools import get_api, google, json_schema, pinecone, snippet
from services.generation.tools.base import ToolKind
from shared.contracts.generation.tools import ToolSettings

KINDS: dict[str, ToolKind[Any]] = {
    "snippet": snippet.KIND,
    "json_schema": json_schema.KIND,
    "get_api": get_api.KIND,
    "google": google.KIND,
    "pinecone": pinecone.KIND,
}


def parameter_names(settings: ToolSettings) -> tuple[str, ...]:
    """Return the names of a call's arguments, in order."""
    return KINDS[settings.kind].parameters(settings)


def signature(name: str, settings: ToolSettings) -> str:
    """Return how a template calls the tool: `assistant(key)`; `name( )` without parameters."""
    return f"{name}({', '.join(parameter_names(settings)) or ' '})"
