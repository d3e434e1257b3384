"""Cases are changed in the same way each time, and only as they are meant to be."""

from typing import Any

import pytest

from tests.fuzz.cases import NOWHERE, add_needed, fill, needed_fields, stay_here
from tests.fuzz.coin import Coin
from tests.fuzz.hazards import HAZARDS, place_hazard, place_text_hazard

PROJECT, OTHER = "pr_0000000000000000000aa", "pr_0000000000000000000bb"
NAMES = {"project": PROJECT, "provider": "mock", "log": "data_0000000000000000000aa"}
COINS = [str(number) for number in range(40)]


def results(change: Any) -> list[Any]:
    """What a change makes of something with forty different coins."""
    return [change(Coin(text)) for text in COINS]


def test_a_name_of_something_is_replaced_as_often_as_not() -> None:
    filled = results(lambda coin: fill({"a": [{"project_id": "x"}]}, NAMES, coin)["a"][0]["project_id"])
    assert 8 < filled.count(PROJECT) < 32
    assert set(filled) == {PROJECT, "x"}
    assert filled == results(lambda coin: fill({"a": [{"project_id": "x"}]}, NAMES, coin)["a"][0]["project_id"])


def test_an_id_from_an_answer_stays_and_one_of_another_kind_does_not() -> None:
    assert set(results(lambda coin: fill({"project_id": OTHER}, NAMES, coin)["project_id"])) == {OTHER}
    assert set(results(lambda coin: fill({"parent_id": OTHER}, NAMES, coin)["parent_id"])) == {OTHER, NAMES["log"]}
    assert set(results(lambda coin: fill({"project_id": 1, "name": "x"}, NAMES, coin)["project_id"])) == {1}


def test_what_is_needed_is_added_unless_its_alternative_is_there() -> None:
    made = results(lambda coin: add_needed([{}], ["project_id"], NAMES, coin)[0].get("project_id"))
    assert set(made) == {None, PROJECT}
    assert all(results(lambda coin: add_needed({"project": "a"}, ["project_id"], NAMES, coin) == {"project": "a"}))


def test_needed_fields_are_those_of_the_bodies_schemas() -> None:
    reference = {"$ref": "#/components/schemas/Body"}
    body = {"content": {"application/json": {"schema": {"anyOf": [reference, {"type": "array", "items": reference}]}}}}
    document = {
        "paths": {"/a": {"post": {"requestBody": body}, "get": {}}},
        "components": {"schemas": {"Body": {"properties": {"project_id": {}, "x": {}}}}},
    }
    assert needed_fields(document) == {"POST /a": ["project_id"], "GET /a": []}


@pytest.mark.parametrize(
    ("sent", "changed"),
    [
        ("https://elsewhere.example/a", NOWHERE),
        ([{"url": "HTTP://10.0.0.1"}], [{"url": NOWHERE}]),
        ({"host": "index.example"}, {"host": NOWHERE}),
        ("http://127.0.0.1:8000/a", "http://127.0.0.1:8000/a"),
        ("http://[", "http://["),
        ("ftp://elsewhere.example", "ftp://elsewhere.example"),
    ],
)
def test_an_address_of_another_machine_is_replaced(sent: Any, changed: Any) -> None:
    assert stay_here(sent) == changed


def test_a_hazard_stands_in_one_place() -> None:
    body = {"a": [1, 2], "b": {"c": 3}}
    places = results(lambda coin: place_hazard(body, coin))
    assert body not in places
    assert any(
        made["b"] == body["b"] and made["a"][0] == 1 for made in places if isinstance(made, dict) and "a" in made
    )
    assert sum(repr(made) == repr(hazard) for made in places for hazard in HAZARDS) < 20, "most are deeper"


def test_a_query_has_texts_only() -> None:
    assert all(isinstance(made["a"], str) for made in results(lambda coin: place_text_hazard({"a": "x"}, coin)))
