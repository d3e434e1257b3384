"""However wrong a body is, its validation finds a bounded number of errors."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from services.gateway.main import create_app
from services.gateway.schemas.bodies import MAX_FIELDS
from services.gateway.settings import Settings


def flat(routes: Iterable[Any]) -> Iterator[Any]:
    """Yield the routes themselves; FastAPI keeps an included router as one entry."""
    for route in routes:
        if hasattr(route, "effective_candidates"):
            yield from flat(route.effective_candidates())
        else:
            yield getattr(route, "original_route", route)


ROUTES = flat(create_app(Settings(secret="x" * 44)).routes)
BODIES = {
    f"{min(route.methods)} {route.path}": route.body_field._type_adapter
    for route in ROUTES
    if getattr(route, "body_field", None) is not None
}


def schemas(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema within a core schema of pydantic."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value
        for key, item in value.items():
            if key not in ("metadata", "serialization"):
                yield from schemas(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from schemas(item)


def test_every_array_of_a_request_stops_at_its_first_error() -> None:
    checked = 0
    for path, adapter in BODIES.items():
        for schema in schemas(adapter.core_schema):
            if schema["type"] == "list" and schema.get("items_schema", {}).get("type", "any") != "any":
                assert schema.get("fail_fast"), f"{path}: {schema['items_schema']}"
                checked += 1
    assert checked > 20


@pytest.mark.parametrize("path", BODIES)
def test_an_object_with_very_many_fields_is_one_error(path: str) -> None:
    with pytest.raises(ValidationError) as raised:
        BODIES[path].validate_python({f"x{number}": number for number in range(MAX_FIELDS + 1)})
    assert raised.value.error_count() <= 3
