"""What the tests of the published contract compare with notices what it should."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.make_facts import facts_of
from tests.contract.schema_comparison import ComparedSchema, find_incompatible, find_missing

Json = dict[str, Any]


def schema_of(schema: Json, **schemas: Json) -> ComparedSchema:
    return ComparedSchema.resolve({"schemas": schemas}, schema)


def an_object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("sent", "accepted", "found"),
    [
        ({"type": "string"}, {"type": "integer"}, ["the whole: string"]),
        ({"type": "integer"}, {"type": "number"}, []),
        ({"type": "number"}, {"type": "integer"}, ["the whole: number"]),
        ({"type": "string"}, {}, []),
        ({"type": "string", "nullable": True}, {"type": "string"}, ["the whole: null"]),
        ({"anyOf": [{"type": "string"}, {"type": "array"}]}, {"type": "string"}, ["the whole: array"]),
        ({"type": "string", "enum": ["a", "b"]}, {"type": "string", "enum": ["a"]}, ["the whole: b"]),
        ({"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["a", "b"]}, []),
        ({"type": "string"}, {"anyOf": [{"const": "a"}, {"type": "null"}]}, ["the whole: any other value"]),
        (an_object(x={"$ref": "S"}), an_object(x={"type": "integer"}), ["x: string"]),
        (
            {"type": "array", "items": an_object(x=an_object(y={"type": "string"}))},
            {"type": "array", "items": an_object(x=an_object(y={"type": "boolean"}))},
            ["x.y: string"],
        ),
    ],
)
def test_types_and_values_that_are_not_accepted_are_found(sent: Json, accepted: Json, found: list[str]) -> None:
    assert find_incompatible(schema_of(sent, S={"type": "string"}), schema_of(accepted)) == found


def test_missing_properties_are_found_with_their_paths() -> None:
    sent = an_object(x=an_object(y={}, z={}), w={})
    assert sorted(find_missing(schema_of(sent), schema_of(an_object(x=an_object(y={}))))) == ["w", "x.z"]


def test_recursive_schemas_are_compared_once() -> None:
    tree = an_object(children={"type": "array", "items": {"$ref": "Tree"}}, name={"type": "string"})
    other = an_object(children={"type": "array", "items": {"$ref": "Tree"}}, name={"type": "integer"})
    sent, accepted = schema_of({"$ref": "Tree"}, Tree=tree), schema_of({"$ref": "Tree"}, Tree=other)
    assert find_missing(sent, accepted) == []
    assert "name: string" in find_incompatible(sent, accepted)


DOCUMENT = {
    "info": {"description": "Some prose."},
    "paths": {
        "/things": {
            "get": {
                "summary": "List things",
                "parameters": [
                    {
                        "name": "size",
                        "in": "query",
                        "description": "How many.",
                        "schema": {"title": "Size", "default": 5},
                    }
                ],
                "responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/T"}}}}},
            }
        }
    },
    "components": {
        "schemas": {"T": {"description": "A thing.", "properties": {"description": {"type": "string", "example": "x"}}}}
    },
}


def test_facts_are_the_document_without_its_prose(tmp_path: Path) -> None:
    facts = {
        "operations": {
            "GET /things": {
                "parameters": [{"name": "size", "in": "query", "required": False, "schema": {"default": 5}}],
                "body": None,
                "answers": {"200": {"$ref": "T"}},
            }
        },
        "schemas": {"T": {"properties": {"description": {"type": "string"}}}},
    }
    assert facts_of(DOCUMENT) == facts
    source, output = tmp_path / "document.json", tmp_path / "facts.json"
    source.write_text(json.dumps(DOCUMENT))
    command = [sys.executable, "-m", "tests.contract.make_facts", str(source), "--output", str(output)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    assert json.loads(output.read_text()) == facts
