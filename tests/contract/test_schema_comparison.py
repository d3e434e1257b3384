"""What the tests of the published contract compare with notices what it should."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.make_facts import facts_of
from tests.contract.schema_comparison import Place, missing, narrower

Json = dict[str, Any]


def place(schema: Json, **schemas: Json) -> Place:
    return Place.of({"schemas": schemas}, schema)


def an_object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("wanted", "given", "told"),
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
def test_what_is_narrower_is_told(wanted: Json, given: Json, told: list[str]) -> None:
    assert narrower(place(wanted, S={"type": "string"}), place(given)) == told


def test_what_is_missing_is_told_with_its_path() -> None:
    wanted = an_object(x=an_object(y={}, z={}), w={})
    assert sorted(missing(place(wanted), place(an_object(x=an_object(y={}))))) == ["w", "x.z"]


def test_schemas_that_hold_themselves_end() -> None:
    tree = an_object(children={"type": "array", "items": {"$ref": "Tree"}}, name={"type": "string"})
    other = an_object(children={"type": "array", "items": {"$ref": "Tree"}}, name={"type": "integer"})
    wanted, given = place({"$ref": "Tree"}, Tree=tree), place({"$ref": "Tree"}, Tree=other)
    assert missing(wanted, given) == []
    assert "name: string" in narrower(wanted, given)


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


def test_facts_are_what_is_left_without_the_prose(tmp_path: Path) -> None:
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
