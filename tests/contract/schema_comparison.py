"""Compare schemas of two OpenAPI documents, as `make_facts.facts_of` gives them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_ANY = "any"


@dataclass(frozen=True)
class ComparedSchema:
    """The alternatives of the schema of a body, parameter or property: references and `anyOf` are resolved."""

    facts: Json
    schemas: tuple[Json, ...]

    @classmethod
    def resolve(cls, facts: Json, schema: Json) -> "ComparedSchema":
        """Resolve a schema of the document that `facts` were taken from."""
        return cls(facts, tuple(_alternatives(facts, schema)))

    @property
    def types(self) -> frozenset[str]:
        """The JSON types that are allowed; `any` if no type is given."""
        return frozenset().union(*map(_types_of, self.schemas))

    @property
    def values(self) -> frozenset[str] | None:
        """The values of an enumeration, without null; None if other values are allowed."""
        closed = [schema for schema in self.schemas if schema.get("type") != "null"]
        if not closed or not all("enum" in schema or "const" in schema for schema in closed):
            return None
        return frozenset(str(value) for schema in closed for value in _listed(schema))

    @property
    def objects(self) -> list[Json]:
        """The object schemas among the alternatives, or among the items of arrays."""
        return [found for schema in self.schemas for found in _objects(self.facts, schema)]

    @property
    def properties(self) -> dict[str, "ComparedSchema"]:
        """The schemas of its properties, by name."""
        found: dict[str, list[Json]] = {}
        for item in self.objects:
            for name, schema in item["properties"].items():
                found.setdefault(name, []).extend(_alternatives(self.facts, schema))
        return {name: ComparedSchema(self.facts, tuple(schemas)) for name, schemas in found.items()}

    @property
    def required(self) -> frozenset[str]:
        """The properties that some alternative requires."""
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


def find_incompatible(
    sent: ComparedSchema, accepted: ComparedSchema, path: str = "", inside: frozenset[frozenset[str]] = frozenset()
) -> list[str]:
    """Return the paths at which `sent` allows a type or value that `accepted` does not, each with what it is.

    Properties that `accepted` does not have are left out: `find_missing` returns them.
    """
    found = []
    types = sent.types - accepted.types - ({"integer"} if "number" in accepted.types else set())
    if types and _ANY not in accepted.types:
        found.append(f"{path or 'the whole'}: {', '.join(sorted(types))}")
    if accepted.values is not None and (sent.values is None or sent.values - accepted.values):
        values = "any other value" if sent.values is None else ", ".join(sorted(sent.values - accepted.values))
        found.append(f"{path or 'the whole'}: {values}")
    below, other = sent.properties, accepted.properties
    if frozenset(below) not in inside:  # schemas may hold themselves
        for name in below.keys() & other.keys():
            found += find_incompatible(
                below[name], other[name], f"{path}.{name}".lstrip("."), inside | {frozenset(below)}
            )
    return found


def find_missing(
    sent: ComparedSchema, accepted: ComparedSchema, path: str = "", inside: frozenset[frozenset[str]] = frozenset()
) -> list[str]:
    """Return the paths of properties that `sent` has and `accepted` has not, unless `accepted` has none at all."""
    below, other = sent.properties, accepted.properties
    if not other or frozenset(below) in inside:
        return []
    found = [f"{path}.{name}".lstrip(".") for name in below.keys() - other.keys()]
    for name in below.keys() & other.keys():
        found += find_missing(below[name], other[name], f"{path}.{name}".lstrip("."), inside | {frozenset(below)})
    return found
