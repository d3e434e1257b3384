"""Every kind of tool, a line each."""

from typing import Any

from services.generation.tools import get_api, google, json_schema, pinecone, snippet
from services.generation.tools.base import Kind
from shared.contracts.tools import ToolSettings

KINDS: dict[str, Kind[Any]] = {
    "snippet": snippet.KIND,
    "json_schema": json_schema.KIND,
    "get_api": get_api.KIND,
    "google": google.KIND,
    "pinecone": pinecone.KIND,
}


def parameters(settings: ToolSettings) -> tuple[str, ...]:
    """Names of the arguments, in order."""
    return KINDS[settings.kind].parameters(settings)


def signature(name: str, settings: ToolSettings) -> str:
    """How a call is written: `assistant(key)`. Without parameters a space stands between the parentheses."""
    return f"{name}({', '.join(parameters(settings)) or ' '})"
