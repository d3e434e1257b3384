"""Streams as old clients read them (behaviour.md §4.6)."""

import json
import time

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.sdk_scripts import SdkScripts

CALLS = [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]


def body(**fields: object) -> Json:
    """A streamed chat."""
    return {
        "project": f"streams-{reference()}",
        "model_config": {"model": "gpt-4"},
        "messages": [{"role": "user", "content": "Tell me a story"}],
        "stream": True,
        **fields,
    }


def events(response: httpx.Response) -> list[Json]:
    """The events, read as strictly as the oldest client: `data: ` and one line of JSON."""
    found = []
    for block in response.read().decode().split("\n\n"):
        if block:
            assert block.startswith("data: ")
            assert "\n" not in block
            found.append(json.loads(block.removeprefix("data: ")))
    return found


def test_events_have_the_log_id_from_the_first_and_a_finish_reason_at_the_last(
    api: httpx.Client, openai: FakeOpenAI
) -> None:
    openai.reply(content="Once upon a data: time")
    with api.stream("POST", "/chat", json=body()) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        received = events(response)
    data = [event["data"][0] for event in received]
    assert "".join(item["output"] for item in data).strip() == "Once upon a data: time"
    assert len({item["id"] for item in data}) == 1
    assert data[0]["id"].startswith("data_")
    assert [item["finish_reason"] for item in data[:-1]] == [None] * (len(data) - 1)
    assert (data[-1]["finish_reason"], data[-1]["output"]) == ("stop", "")
    log = ok(api.get(f"/logs/{data[0]['id']}"))
    assert log["output"] == "Once upon a data: time"
    assert log["tokens"] == 17


def test_tool_calls_are_complete_in_the_last_event(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(content="", tool_calls=CALLS)
    with api.stream("POST", "/chat", json=body()) as response:
        last = events(response)[-1]["data"][0]
    assert last["finish_reason"] == "tool_call"
    assert last["tool_calls"] == CALLS


def test_samples_are_streamed_each_with_its_own_log_id(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(content="one of them")
    openai.reply(content="the other one")
    with api.stream("POST", "/chat", json=body(num_samples=2)) as response:
        received = events(response)
    texts: dict[int, str] = {}
    ids: dict[int, str] = {}
    for event in received:
        (item,) = event["data"]
        texts[item["index"]] = texts.get(item["index"], "") + item["output"]
        ids[item["index"]] = item["id"]
    assert sorted(text.strip() for text in texts.values()) == ["one of them", "the other one"]
    for index, identifier in ids.items():
        assert ok(api.get(f"/logs/{identifier}"))["output"] == texts[index].strip()


def test_an_error_before_the_first_event_is_an_ordinary_error_response(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(status=429, error={"message": "slow down"}, headers={"Retry-After": "60"})
    refused = api.post("/chat", json=body())
    assert refused.status_code == 429
    assert refused.json()["detail"]["origin"] == "OpenAI"


def test_a_connection_lost_to_the_provider_breaks_the_stream_off_and_leaves_a_log(
    api: httpx.Client, openai: FakeOpenAI
) -> None:
    openai.reply(content="Once upon a time", break_after_chunks=3)
    received = b""
    broken = False
    with api.stream("POST", "/chat", json=body()) as response:
        try:
            for piece in response.iter_bytes():
                received += piece
        except httpx.RemoteProtocolError:
            broken = True
    assert broken
    identifier = json.loads(received.split(b"\n\n")[0].removeprefix(b"data: "))["data"][0]["id"]
    log = ok(api.get(f"/logs/{identifier}"))
    assert log["error"]
    assert log["output"] == "Once upon"


def test_a_client_that_disconnects_leaves_a_log_of_what_was_generated(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(content="one two three four five six seven eight", chunk_delay_seconds=0.3)
    with api.stream("POST", "/chat", json=body()) as response:
        lines = response.iter_lines()
        seen = [json.loads(line.removeprefix("data: ")) for line in (next(lines) for _ in range(6)) if line]
    identifier, project_id = seen[0]["data"][0]["id"], seen[0]["project_id"]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        page = ok(api.get("/logs", params={"project_id": project_id}))
        if page["records"]:
            break
        time.sleep(0.1)
    (log,) = page["records"]
    assert log["id"] == identifier
    assert log["output"].startswith("one")
    assert "eight" not in log["output"]
    assert log["error"]


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_the_sdks_read_streams(sdk: str, openai: FakeOpenAI, request: pytest.FixtureRequest) -> None:
    scripts: SdkScripts = request.getfixturevalue(sdk)
    openai.reply(content="A token with data: in it")
    chunks = scripts.run("generation/stream_chat.py", project=f"streams-{reference()}")
    assert "".join(chunk["output"] for chunk in chunks).strip() == "A token with data: in it"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[-1]["finish_reason"] == "stop"


def test_lines_stay_below_64_kib_however_long_the_deltas_of_the_provider_are(
    api: httpx.Client, openai: FakeOpenAI
) -> None:
    word = "\u0001" + "x" * 20_000 + "\u0001" * 4_000
    openai.reply(content=word)
    with api.stream("POST", "/chat", json=body()) as response:
        lines = list(response.iter_lines())
    assert max(map(len, lines)) < 64 * 1024
    assert "".join(json.loads(line[6:])["data"][0]["output"] for line in lines if line.startswith("data: {")) == word
