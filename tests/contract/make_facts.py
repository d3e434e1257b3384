"""Make `published_facts.json`, what the tests know of the published contract, from the published OpenAPI document.

The document itself is somebody else's text and no part of this project: only facts are taken over (operations,
parameters, names, types, defaults, allowed values, status codes), no sentence.
"""

import argparse
import json
from pathlib import Path
from typing import Any

FACTS = Path(__file__).with_name("published_facts.json")
METHODS = ("get", "post", "put", "patch", "delete")

Json = dict[str, Any]

_PLAIN = (
    *("$ref", "type", "format", "enum", "const", "default", "nullable", "required"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern"),
)
"""Keywords of a schema whose value is a fact; whatever is not named here or below is left out."""
_LISTS = ("anyOf", "oneOf", "allOf")
_NESTED = ("items", "additionalProperties")


def facts_of(document: Json) -> Json:
    """Return what an OpenAPI document fixes: `operations` by `"METHOD /path"`, and the `schemas` they refer to.

    An operation has `parameters` (`name`, `in`, `required`, `schema`), `body` (a schema, or None) and `answers` (status
    code → a schema, or None). Schemas are JSON Schema; a `$ref` is the name of one of `schemas`.
    """
    operations = {
        f"{method.upper()} {path}": _operation(item[method])
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    }
    schemas = document.get("components", {}).get("schemas", {})
    return {"operations": operations, "schemas": {name: _schema(schema) for name, schema in schemas.items()}}


def _operation(operation: Json) -> Json:
    return {
        "parameters": [
            {
                "name": parameter["name"],
                "in": parameter["in"],
                "required": parameter.get("required", False),
                "schema": _schema(parameter["schema"]),
            }
            for parameter in operation.get("parameters", ())
        ],
        "body": _content(operation.get("requestBody", {})),
        "answers": {status: _content(answer) for status, answer in operation["responses"].items()},
    }


def _content(described: Json) -> Json | None:
    content = described.get("content", {}).get("application/json")
    return None if content is None else _schema(content.get("schema", {}))


def _schema(schema: Json) -> Json:
    found = {key: schema[key] for key in _PLAIN if key in schema}
    if "$ref" in found:
        found["$ref"] = found["$ref"].rpartition("/")[2]
    if "properties" in schema:
        found["properties"] = {name: _schema(value) for name, value in schema["properties"].items()}
    found |= {key: [_schema(option) for option in schema[key]] for key in _LISTS if key in schema}
    found |= {
        key: _schema(schema[key]) if isinstance(schema[key], dict) else schema[key] for key in _NESTED if key in schema
    }
    return found


def written(facts: Json) -> str:
    """Return the text of the facts file: a line an operation and a line a schema, so that a change is a short diff."""
    sections = [
        f'"{section}": {{\n' + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
        for section, entries in facts.items()
    ]
    return "{\n" + "\n},\n".join(sections) + "\n}\n}\n"


def main() -> None:
    """Write the facts file."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract.make_facts", description=__doc__)
    parser.add_argument("document", type=Path, help="the published contract, an OpenAPI 3 document in JSON")
    parser.add_argument("--output", type=Path, default=FACTS, help="where the facts go (default: the committed file)")
    arguments = parser.parse_args()
    arguments.output.write_text(written(facts_of(json.loads(arguments.document.read_text()))))


if __name__ == "__main__":
    main()
