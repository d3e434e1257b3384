"""Removes `provider_api_keys` from request bodies, so that no log, message or document can contain them.

Clients of the first versions send that field, with real secrets, in nearly every body (behaviour.md §1.2).
"""

from typing import Any

FIELD = "provider_api_keys"


def get_provider_api_keys(body: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the top-level field of `body` as sent, not validated; None if there is none."""
    return body.get(FIELD) if isinstance(body, dict) else None


def redact(json_object: dict[str, Any]) -> None:
    """Remove the field from one JSON object, in place; the objects in it are left to the caller's own traversal."""
    json_object.pop(FIELD, None)
