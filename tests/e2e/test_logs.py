"""Logs are deleted, filtered, sorted and searched (behaviour.md §5.3), through raw HTTP and the SDKs."""

import base64
from typing import Any

import httpx
import pytest

from shared import ids
from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.images import image_part, image_urls
from tests.sdk_scripts import SdkScripts

OWN: Json = {"type": "model", "model": "own"}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.fixture
def project() -> str:
    return f"logs-{reference()}"


def post(api: httpx.Client, project: str, **fields: Any) -> Json:
    """Post a log; return the response."""
    made: Json = ok(api.post("/logs", json={"project": project, "config": OWN, "output": "one"} | fields))
    return made


def rate(api: httpx.Client, log: Json, name: str, value: Any) -> None:
    """Give feedback on a log."""
    ok(api.post("/feedback", json={"data_id": log["id"], "type": name, "value": value}))


def listed(api: httpx.Client, log: Json, **parameters: Any) -> list[str]:
    """Return the ids of the logs of a project that a list has, in order."""
    page = ok(api.get("/logs", params={"project_id": log["project_id"], **parameters}))
    assert page["total"] == len(page["records"])
    return [record["id"] for record in page["records"]]


def test_a_deleted_log_is_gone_for_every_reader_and_stays_gone(api: httpx.Client, project: str) -> None:
    name, session = reference(), reference()
    first = post(api, project, reference_id=name, session_reference_id=session, output="first")
    second = post(api, project, session_reference_id=session, output="second")
    rate(api, first, "rating", "good")
    gone = api.delete("/logs", params={"id": [first["id"], first["id"], ids.mint("data"), "data_unknown", "x"]})
    assert (gone.status_code, gone.content) == (204, b"")
    assert api.get(f"/logs/{first['id']}").status_code == 404
    assert api.patch(f"/logs/{first['id']}", json={"output": "late"}).status_code == 404
    by_reference = api.patch("/logs", params={"reference_id": name}, json={"output": "late"})
    assert by_reference.status_code == 404
    assert repr(name) in by_reference.json()["detail"]["message"], "the caller knows the reference, not the id"
    late = api.post("/feedback", json={"data_id": first["id"], "type": "rating", "value": "bad"})
    assert late.status_code == 404
    assert listed(api, first, search="o") == [second["id"]]
    assert listed(api, first, **{"feedback-rating_filter": "good"}) == []
    assert ok(api.get(f"/sessions/{first['session_id']}"))["datapoints_count"] == 1
    assert ok(api.get(f"/projects/{first['project_id']}"))["data_count"] == 1
    again = post(api, project, reference_id=name, session_reference_id=session, output="first")
    assert again["id"] == first["id"]
    assert listed(api, first) == [second["id"]]
    assert api.delete("/logs", params={"id": first["id"]}).status_code == 204


def test_without_an_id_nothing_is_deleted(api: httpx.Client, project: str) -> None:
    log = post(api, project)
    for query in ("", "?id=", "?ids=" + log["id"]):
        assert api.delete(f"/logs{query}").status_code == 204
    assert listed(api, log) == [log["id"]]


def test_a_log_is_deleted_while_it_is_streamed(api: httpx.Client, openai: FakeOpenAI, project: str) -> None:
    openai.reply(content="Once upon a time", chunk_delay_seconds=0.1)
    body = {"project": project, "model_config": {"model": "gpt-4"}, "messages": [], "stream": True}
    kept = post(api, project)
    with api.stream("POST", "/chat", json=body) as response:
        lines = response.iter_lines()
        log_id = next(lines).partition('"id":"')[2][:26]
        assert ids.is_id("data", log_id)
        assert api.delete("/logs", params={"id": log_id}).status_code == 204
        assert list(lines)
    assert api.get(f"/logs/{log_id}").status_code == 404
    assert listed(api, kept) == [kept["id"]]


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])  # 0.5.18 has neither method
def test_the_sdk_deletes_and_lists_logs(
    sdk: str, api: httpx.Client, project: str, request: pytest.FixtureRequest
) -> None:
    scripts: SdkScripts = request.getfixturevalue(sdk)
    first, second, third = (
        post(api, project, inputs={"q": text}, created_at=f"2024-05-2{day}T10:00:00Z")
        for day, text in enumerate(("apple", "pear", "plum"))
    )
    terms = {
        "by_value": {"search": "PEAR"},
        "by_name": {"search": '"q"'},
        "by_date": {"start_date": "2024-05-21", "end_date": "2024-05-21"},
    }
    done = scripts.run("logs/delete_and_list.py", project_id=first["project_id"], ids=[third["id"]], terms=terms)
    assert done == {
        "before": [third["id"], second["id"], first["id"]],
        "after": [second["id"], first["id"]],
        "by_value": [second["id"]],
        "by_name": [],
        "by_date": [second["id"]],
    }


def test_logs_are_filtered_and_sorted_by_their_latest_feedback(api: httpx.Client, project: str) -> None:
    sent = {"type": "rating", "value": "good"}
    one, two, three = (post(api, project, source="sdk" if n else "api", feedback=[sent]) for n in range(3))
    rate(api, two, "rating", "bad")
    rate(api, one, "how.was=it?", 4)
    rate(api, three, "how.was=it?", 10)
    rating, odd = "feedback-rating_filter", "feedback-how.was=it?_filter"
    assert listed(api, one, **{rating: "good"}) == [three["id"], one["id"]]
    assert listed(api, one, **{rating: ["bad", "worse"]}) == [two["id"]]
    assert listed(api, one, **{rating: "good", odd: "10"}) == [three["id"]]
    assert listed(api, one, **{rating: "good", "source_filter": "api"}) == [one["id"]]
    assert listed(api, one, sort="feedback-how.was=it?.desc") == [three["id"], one["id"], two["id"]]
    assert listed(api, one, sort=["feedback-rating.asc", "timestamp.asc"]) == [two["id"], one["id"], three["id"]]
    ok(api.post("/feedback", json={"data_id": one["id"], "type": "rating", "unset": True}))
    assert listed(api, one, **{rating: "good"}) == [three["id"]]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("evaluator-evfn_1_filter", "true"),
        ("feedback-_filter", "good"),
        ("sort", "evaluator-evfn_1.asc"),
        ("sort", "feedback-rating"),
        ("start_date", "0001-01-01T00:00:00+10:00"),
        ("end_date", "soon"),
        ("version_status", "lost"),
        ("size", "0"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(api: httpx.Client, project: str, parameter: str, value: str) -> None:
    refused = api.get("/logs", params={"project_id": post(api, project)["project_id"], parameter: value})
    assert refused.status_code == 422
    assert parameter in refused.text
    assert "created_at" not in refused.text


def test_a_search_finds_values_and_not_names(api: httpx.Client, project: str) -> None:
    talk = [{"role": "user", "content": [{"type": "text", "text": "Who won in Turin?"}]}]
    log = post(api, project, inputs={"topic": ["Eurovision", 2022]}, messages=talk, metadata={"release": "Night"})
    for found in ("EUROVISION", "2022", "in turin?", "one"):
        assert listed(api, log, search=found) == [log["id"]]
    for missed in ("topic", "role", "content", '["', ":", "null", "night"):
        assert listed(api, log, search=missed) == []
    assert listed(api, log, metadata_search="night") == [log["id"]]
    assert listed(api, log, metadata_search="release") == []


@pytest.mark.parametrize("size", [len(PNG), 200_000], ids=["small", "large"])
def test_an_image_has_its_true_type_for_the_provider_and_on_the_log(
    api: httpx.Client, openai: FakeOpenAI, project: str, size: int
) -> None:
    data = base64.b64encode(PNG * (size // len(PNG))).decode()
    message = {"role": "user", "content": [image_part(f"data:image/jpg;base64,{data}")]}
    config = {"model": "gpt-4-vision-preview"}
    answer = ok(api.post("/chat", json={"project": project, "model_config": config, "messages": [message]}))
    true_url = f"data:image/png;base64,{data}"
    assert image_urls(openai.last.body["messages"][0]) == [true_url]
    logged = post(api, project, messages=[message])
    for log_id in (answer["data"][0]["id"], logged["id"]):
        assert image_urls(ok(api.get(f"/logs/{log_id}"))["messages"][0]) == [true_url]


def test_aggregates_of_evaluators_are_listed_when_they_are_asked_for(api: httpx.Client, project: str) -> None:
    path = f"/projects/{post(api, project)['project_id']}/configs"
    for asked, aggregates in (("true", []), ("false", None)):
        (config,) = ok(api.get(path, params={"evaluation_aggregates": asked}))
        assert config["evaluation_aggregates"] == aggregates
