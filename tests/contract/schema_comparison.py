"""Compare schemas of two OpenAPI documents, as `make_facts.facts_of` gives them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_ANY = "any"


@dataclass(frozen=True)
class Place:
    """A place in a body: every schema it has in any of the alternatives the body may take."""

    facts: Json
    schemas: tuple[Json, ...]

    @classmethod
    def of(cls, facts: Json, schema: Json) -> "Place":
        """The whole of a body, an answer or a parameter."""
        return cls(facts, tuple(_alternatives(facts, schema)))

    @property
    def types(self) -> frozenset[str]:
        """JSON types it may have; `any` if nothing is said."""
        return frozenset().union(*map(_types_of, self.schemas))

    @property
    def values(self) -> frozenset[str] | None:
        """The values it may have, null aside, if it has a closed list of them."""
        closed = [schema for schema in self.schemas if schema.get("type") != "null"]
        if not closed or not all("enum" in schema or "const" in schema for schema in closed):
            return None
        return frozenset(str(value) for schema in closed for value in _listed(schema))

    @property
    def objects(self) -> list[Json]:
        """The object schemas it may be, or be an array of."""
        return [found for schema in self.schemas for found in _objects(self.facts, schema)]

    @property
    def properties(self) -> dict[str, "Place"]:
        """The places below it."""
        found: dict[str, list[Json]] = {}
        for item in self.objects:
            for name, schema in item["properties"].items():
                found.setdefault(name, []).extend(_alternatives(self.facts, schema))
        return {name: Place(self.facts, tuple(schemas)) for name, schemas in found.items()}

    @property
    def required(self) -> frozenset[str]:
        """Properties that some alternative cannot be without."""
        return frozenset(name for item in self.objects for name in item.get("required", ()))


def _alternatives(facts: Json, schema: Json) -> Iterator[Json]:
    while "$ref" in schema:
        schema = facts["schemas"][schema["$ref"]]
    if schema.get("nullable"):
        yield {"type": "null"}
    options = [option for key in ("anyOf", "oneOf", "allOf") for option in schema.get(key, ())]
    if not options:
        yield schema
    for option in options:
        yield from _alternatives(facts, option)


def _listed(schema: Json) -> list[Any]:
    values: list[Any] = schema["enum"] if "enum" in schema else [schema["const"]]
    return values


def _types_of(schema: Json) -> set[str]:
    if "enum" in schema or "const" in schema:
        return {_TYPES[type(value)] for value in _listed(schema)}
    return {schema.get("type", _ANY)}


def _objects(facts: Json, schema: Json) -> Iterator[Json]:
    if schema.get("type") == "array":
        for option in _alternatives(facts, schema.get("items", {})):
            yield from _objects(facts, option)
    elif "properties" in schema:
        yield schema


def narrower(wanted: Place, given: Place, path: str = "", inside: frozenset[frozenset[str]] = frozenset()) -> list[str]:
    """Return what `wanted` allows and `given` does not, at any depth: types and values, each with its path.

    Properties that `given` does not have at all are none of its concern: `missing` tells them.
    """
    found = []
    types = wanted.types - given.types - ({"integer"} if "number" in given.types else set())
    if types and _ANY not in given.types:
        found.append(f"{path or 'the whole'}: {', '.join(sorted(types))}")
    if given.values is not None and (wanted.values is None or wanted.values - given.values):
        values = "any other value" if wanted.values is None else ", ".join(sorted(wanted.values - given.values))
        found.append(f"{path or 'the whole'}: {values}")
    below, there = wanted.properties, given.properties
    if frozenset(below) not in inside:  # schemas may hold themselves
        for name in below.keys() & there.keys():
            found += narrower(below[name], there[name], f"{path}.{name}".lstrip("."), inside | {frozenset(below)})
    return found


def missing(wanted: Place, given: Place, path: str = "", inside: frozenset[frozenset[str]] = frozenset()) -> list[str]:
    """Return the paths of properties that `wanted` has and `given`, having others, has not."""
    below, there = wanted.properties, given.properties
    if not there or frozenset(below) in inside:
        return []
    found = [f"{path}.{name}".lstrip(".") for name in below.keys() - there.keys()]
    for name in below.keys() & there.keys():
        found += missing(below[name], there[name], f"{path}.{name}".lstrip("."), inside | {frozenset(below)})
    return found
