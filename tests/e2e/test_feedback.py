"""Feedback (behaviour.md §7), through raw HTTP and the SDKs."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from shared import ids
from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.sdk_scripts import SdkScripts

OWN = {"type": "model", "model": "own"}


def new_log(api: httpx.Client, **fields: Any) -> Json:
    """Post a log into a project of its own; return the response."""
    body = {"project": f"feedback-{reference()}", "config": OWN, "inputs": {"q": "1"}, "output": "one"} | fields
    made: Json = ok(api.post("/logs", json=body))
    return made


def send_feedback(api: httpx.Client, log_id: str, name: str, value: Any = None, **fields: Any) -> Json:
    """Send one feedback; return the response."""
    body = {"type": name, "data_id": log_id} | ({} if value is None else {"value": value}) | fields
    answer: Json = ok(api.post("/feedback", json=body))
    return answer


def stored_feedback(api: httpx.Client, log_id: str) -> list[tuple[str, Any]]:
    """Return type and value of each feedback on a log."""
    return [(one["type"], one["value"]) for one in ok(api.get(f"/logs/{log_id}"))["feedback"]]


def feedback_types(api: httpx.Client, project_id: str) -> dict[str, Any]:
    """Return class and labels of the feedback types of a project, by type."""
    found = ok(api.get(f"/projects/{project_id}"))["feedback_types"]
    return {one["type"]: (one["class"], one["values"] and [it["value"] for it in one["values"]]) for one in found}


@contextmanager
def slow_stream(api: httpx.Client, openai: FakeOpenAI, **fields: Any) -> Iterator[tuple[Json, Iterator[str]]]:
    """Start a slow streamed chat; yield its first event and the lines that follow."""
    openai.reply(content="Once upon a time there was a king", chunk_delay_seconds=0.2)
    body = {
        "project": f"feedback-{reference()}",
        "model_config": {"model": "gpt-4"},
        "messages": [{"role": "user", "content": "Tell me a story"}],
        "stream": True,
    }
    with api.stream("POST", "/chat", json=body | fields) as response:
        lines = response.iter_lines()
        yield json.loads(next(lines).removeprefix("data: ")), lines


def test_feedback_is_answered_in_full_and_is_on_its_log(api: httpx.Client) -> None:
    log_id = new_log(api)["id"]
    given = send_feedback(api, log_id, "rating", "good", user="ada", created_at="2023-11-28T10:00:00+01:00")
    assert ids.is_id("ann", given["id"])
    assert {**given, "id": None} == {
        "id": None,
        "type": "rating",
        "value": "good",
        "data_id": log_id,
        "user": "ada",
        "created_at": "2023-11-28T09:00:00Z",
    }
    log = ok(api.get(f"/logs/{log_id}"))
    assert log["feedback"] == [given]
    assert datetime.fromisoformat(log["updated_at"]) > datetime.fromisoformat(log["created_at"])
    (stored_log,) = ok(api.get("/logs", params={"project_id": log["project_id"]}))["records"]
    assert stored_log["feedback"] == [given]


def test_a_new_rating_replaces_the_old_one_and_a_new_label_does_not(api: httpx.Client) -> None:
    log_id = new_log(api)["id"]
    for name, value in [("rating", "good"), ("action", "copied"), ("rating", "bad"), ("action", "saved")]:
        send_feedback(api, log_id, name, value)
    send_feedback(api, log_id, "comment", "hm")
    send_feedback(api, log_id, "comment", "fine after all")
    assert stored_feedback(api, log_id) == [
        ("action", "copied"),
        ("rating", "bad"),
        ("action", "saved"),
        ("comment", "fine after all"),
    ]


def test_unset_removes_a_value_and_answers_with_it(api: httpx.Client) -> None:
    log_id = new_log(api)["id"]
    send_feedback(api, log_id, "rating", "good")
    send_feedback(api, log_id, "correction", "two")
    send_feedback(api, log_id, "action", ["copied", "saved"])
    assert send_feedback(api, log_id, "rating", unset=True)["value"] == "good"
    assert send_feedback(api, log_id, "rating", unset=True)["value"] is None
    assert send_feedback(api, log_id, "action", "copied", unset=True)["value"] == "copied"
    assert stored_feedback(api, log_id) == [("correction", "two"), ("action", ["saved"])]
    refused = api.post("/feedback", json={"type": "action", "data_id": log_id, "unset": True})
    assert refused.status_code == 422
    assert "value" in refused.text


def test_an_array_of_feedback_is_answered_in_its_order(api: httpx.Client) -> None:
    first, second = new_log(api)["id"], new_log(api)["id"]
    body = [
        {"type": "rating", "value": "good", "data_id": first},
        {"type": "rating", "value": "bad", "data_id": second},
        {"type": "rating", "data_id": first, "unset": True},
        {"type": "score", "value": 4, "data_id": first},
    ]
    answers = ok(api.post("/feedback", json=body))
    assert [(one["data_id"], one["value"]) for one in answers] == [
        (first, "good"),
        (second, "bad"),
        (first, "good"),
        (first, 4),
    ]
    assert (stored_feedback(api, first), stored_feedback(api, second)) == ([("score", 4)], [("rating", "bad")])
    assert ok(api.post("/feedback", json=[])) == []


def test_unknown_types_and_labels_are_added_to_the_project(api: httpx.Client) -> None:
    log = new_log(api)
    log_id, project_id = log["id"], log["project_id"]
    for name, value in [
        ("rating", "excellent"),
        ("rating", "excellent"),
        ("issue", ["rude", "long"]),
        ("mood", "calm"),
        ("score", 0.5),
        ("kept", True),
        ("tags", ["a"]),
    ]:
        send_feedback(api, log_id, name, value)
    assert feedback_types(api, project_id) == {
        "rating": ("select", ["good", "bad", "excellent"]),
        "action": ("multi_select", []),
        "issue": ("multi_select", ["rude", "long"]),
        "correction": ("text", None),
        "comment": ("text", None),
        "mood": ("text", None),
        "score": ("number", None),
        "kept": ("select", ["true"]),
        "tags": ("multi_select", ["a"]),
    }
    assert stored_feedback(api, log_id) == [
        ("rating", "excellent"),
        ("issue", ["rude", "long"]),
        ("mood", "calm"),
        ("score", 0.5),
        ("kept", True),
        ("tags", ["a"]),
    ]


def test_a_feedback_type_defined_on_the_project_applies_at_once(api: httpx.Client) -> None:
    log = new_log(api)
    send_feedback(api, log["id"], "rating", "good")  # now the types of the project are known
    path = f"/projects/{log['project_id']}/feedback-types"
    ok(api.post(path, json={"type": "tags", "class": "multi_select", "values": [{"value": "a"}]}), 201)
    for value in ("a", "b"):
        send_feedback(api, log["id"], "tags", value)
    assert stored_feedback(api, log["id"])[1:] == [("tags", "a"), ("tags", "b")]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"data_id": None}, 422, "data_id"),
        ({"value": None}, 422, "value"),
        ({"type": None}, 422, "type"),
        ({"type": ""}, 422, "type"),
        ({"type": "comment", "value": 4}, 422, "value: 'comment' is of the class text"),
        ({"value": ["good"]}, 422, "value: 'rating' is of the class select"),
        ({"value": {"a": 1}}, 422, "value"),
        ({"value": [1]}, 422, "value"),
        ({"data_id": "data_0000000000000000000aa"}, 404, "data_id"),
        ({"data_id": "nonsense/../%"}, 404, "data_id"),
        ({"data_id": ids.derive("data", "tm_1", "never sent")}, 404, "data_id"),
        ({"created_at": "yesterday"}, 422, "created_at"),
    ],
)
def test_invalid_feedback_is_refused_by_field_and_nothing_of_its_request_is_stored(
    api: httpx.Client, change: Json, status: int, words: str
) -> None:
    log_id = new_log(api)["id"]
    good = {"type": "rating", "value": "good", "data_id": log_id}
    for body in (good | change, [good, good | change]):
        refused = api.post("/feedback", json=body)
        assert refused.status_code == status, refused.text
        assert words in refused.text
    assert stored_feedback(api, log_id) == []


def test_feedback_sent_within_its_log_follows_the_same_rules(api: httpx.Client) -> None:
    given = [
        {"type": "rating", "value": "good", "user": "ada"},
        {"type": "rating", "value": "superb"},
        {"type": "action", "value": "copied"},
        {"type": "action", "value": "saved"},
    ]
    name = reference()
    first = new_log(api, project=f"feedback-{name}", reference_id=name, feedback=given)
    assert stored_feedback(api, first["id"]) == [("rating", "superb"), ("action", "copied"), ("action", "saved")]
    assert feedback_types(api, first["project_id"])["rating"] == ("select", ["good", "bad", "superb"])
    read = ok(api.get(f"/logs/{first['id']}"))["feedback"]
    assert new_log(api, project=f"feedback-{name}", reference_id=name, feedback=given) == first
    assert ok(api.get(f"/logs/{first['id']}"))["feedback"] == read, "a call that is repeated says nothing new"
    wrong = {"type": "comment", "value": 4}
    body = {"project": f"feedback-{name}", "config": OWN, "output": "two", "feedback": wrong}
    assert api.post("/logs", json=body).status_code == 422
    assert ok(api.get("/logs", params={"project_id": first["project_id"]}))["total"] == 1


def test_feedback_is_accepted_for_a_log_that_is_still_being_streamed(api: httpx.Client, openai: FakeOpenAI) -> None:
    log = new_log(api)
    path = f"/projects/{log['project_id']}/feedback-types"
    ok(api.post(path, json={"type": "tags", "class": "multi_select"}), 201)
    with slow_stream(api, openai, project=None, project_id=log["project_id"]) as (first, rest):
        log_id = first["data"][0]["id"]
        assert api.get(f"/logs/{log_id}").status_code == 404, "it is not stored yet"
        send_feedback(api, log_id, "rating", "superb")
        for value in ("a", "b"):
            send_feedback(api, log_id, "tags", value)
        assert sum(1 for line in rest if line) > 2, "the stream went on"
    assert stored_feedback(api, log_id) == [("rating", "superb"), ("tags", "a"), ("tags", "b")]
    known = feedback_types(api, log["project_id"])
    assert (known["rating"], known["tags"]) == (("select", ["good", "bad", "superb"]), ("multi_select", ["a", "b"]))


def test_feedback_for_an_unknown_log_id_minted_just_now_is_accepted(api: httpx.Client) -> None:
    given = send_feedback(api, ids.mint("data"), "rating", "good")
    assert api.get(f"/logs/{given['data_id']}").status_code == 404


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("$type.of", "$value"),
        ("nul\x00", "a\x00b"),
        ("text", "0"),
        ("score", 2**70),
        ("score", -0.5),
        ("flag", False),
        ("tags", ["$a", "b.c", "\u00e9\U0001f600", "'"]),
        ("long", "x" * 100_000),
    ],
)
def test_any_value_comes_back_exactly(api: httpx.Client, name: str, value: Any) -> None:
    log_id = new_log(api)["id"]
    answered = send_feedback(api, log_id, name, value)["value"]
    assert (answered, type(answered)) == (value, type(value))
    assert stored_feedback(api, log_id) == [(name, value)]
    send_feedback(api, log_id, name, **({"value": value} if isinstance(value, list) else {}), unset=True)
    assert stored_feedback(api, log_id) == []


@pytest.mark.parametrize("value", ["1" * 5000, '"\\ud800"', "1e999", "[[]]", "{}"])
def test_a_value_that_cannot_be_stored_is_refused(api: httpx.Client, value: str) -> None:
    log_id = new_log(api)["id"]
    body = f'{{"type": "score", "data_id": "{log_id}", "value": {value}}}'
    refused = api.post("/feedback", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= refused.status_code < 500, refused.text
    assert stored_feedback(api, log_id) == []


def test_three_thousand_in_one_request_are_stored_and_a_label_over_the_limit_is_refused(api: httpx.Client) -> None:
    log = new_log(api)
    body = [{"type": "action", "value": f"label {number}", "data_id": log["id"]} for number in range(1000)]
    assert len(ok(api.post("/feedback", json=body * 3))) == 3000
    assert len(stored_feedback(api, log["id"])) == 1000
    refused = api.post("/feedback", json={"type": "action", "value": "one more", "data_id": log["id"]})
    assert refused.status_code == 422
    assert "at most 1000" in refused.text
    assert len(stored_feedback(api, log["id"])) == 1000


def test_concurrent_feedback_on_one_log_is_all_stored(api: httpx.Client) -> None:
    log = new_log(api)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: send_feedback(api, log["id"], "action", f"label {number}"), range(40)))
    wanted = sorted(f"label {number}" for number in range(40))
    assert sorted(value for _, value in stored_feedback(api, log["id"])) == wanted
    assert sorted(feedback_types(api, log["project_id"])["action"][1]) == wanted


def test_the_feedback_accepted_last_replaces_earlier_ones_whatever_its_created_at(api: httpx.Client) -> None:
    log_id = new_log(api)["id"]
    for number in range(30):
        send_feedback(api, log_id, "score", number, created_at=datetime(2024, 1, 30 - number, tzinfo=UTC).isoformat())
        assert stored_feedback(api, log_id) == [("score", number)]


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_the_sdks_send_feedback(
    sdk: str, request: pytest.FixtureRequest, api: httpx.Client, openai: FakeOpenAI
) -> None:
    scripts: SdkScripts = request.getfixturevalue(sdk)
    openai.reply(content="Once upon a time", chunk_delay_seconds=0.2)
    seen = scripts.run("logs/feedback.py", project=f"feedback-{reference()}")
    assert ids.is_id("ann", seen["id"])
    assert seen["good"] == ["rating", "good", seen["log_id"], "ada"]
    assert (seen["bad"], seen["back"], seen["nothing"]) == ("bad", "bad", None)
    assert seen["array"] == ["copied", "saved", "copied", "two"]
    assert stored_feedback(api, seen["log_id"]) == [("action", "saved"), ("correction", "two")]
    assert seen["stream"]["value"] == "good"
    assert seen["stream"]["rest"] > 2
    assert stored_feedback(api, seen["stream"]["data_id"]) == [("rating", "good")]
