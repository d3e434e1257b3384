"""`json_schema` (behaviour.md §14.3): a function that configs link to and models call; the API's caller runs it."""

from services.generation.tools.base import ToolKind
from shared.contracts.generation.tools import JsonSchema


def _parameters(settings: JsonSchema) -> tuple[str, ...]:
    properties = (settings.parameters or {}).get("properties")
    return tuple(properties) if isinstance(properties, dict) else ()


KIND = ToolKind(_parameters, None)
