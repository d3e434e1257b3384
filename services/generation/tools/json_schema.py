"""Functions for models (behaviour.md §14.3): configs link to them, and whoever gets the model's answer runs them."""

from services.generation.tools.base import Kind
from shared.contracts.tools import JsonSchema


def _parameters(settings: JsonSchema) -> tuple[str, ...]:
    properties = (settings.parameters or {}).get("properties")
    return tuple(properties) if isinstance(properties, dict) else ()


KIND = Kind(_parameters, None)
