"""Replies that are not as their provider documents them, through HTTP into log and costs; and what is sent to vendors
with rules of their own."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import stack as stacks
from tests.calls import Json, ok, reference
from tests.fake_servers.server import sse
from tests.fake_servers.web import FakeWebServer, WebRequest, WebResponse, json_response, serve
from tests.stack import Stack

OPENAI, ANTHROPIC = "/openai/chat/completions", "/anthropic/v1/messages"
BEDROCK_MODEL = "anthropic.claude-3-haiku-20240307-v1"
BEDROCK = f"/bedrock/model/{BEDROCK_MODEL}/converse"
GOOGLE = "/google/models/gemini-2.5-flash:generateContent"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
CALLED: list[Json] = [
    {"role": "user", "content": "Where is order 7?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "functions.order:0",
                "type": "function",
                "function": {"name": "order.status", "arguments": '{"order": 7}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "functions.order:0", "content": "shipped"},
    {"role": "user", "content": "Say that in one sentence."},
]


@pytest.fixture(scope="module")
def web() -> Iterator[FakeWebServer]:
    with serve() as web:
        yield web


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, web: FakeWebServer) -> Iterator[Stack]:
    environment = {
        "OPENAI_BASE_URL": f"{web.url}/openai",
        "OPENAI_API_KEY": "sk-1",
        "ANTHROPIC_BASE_URL": f"{web.url}/anthropic",
        "ANTHROPIC_API_KEY": "sk-ant-1",
        "BEDROCK_BASE_URL": f"{web.url}/bedrock",
        "AWS_BEARER_TOKEN_BEDROCK": "key",
        "GEMINI_BASE_URL": f"{web.url}/google",
        "GEMINI_API_KEY": "AIza-1",
    }
    running = stacks.start(tmp_path_factory.mktemp("odd-providers"), "--no-model", environment=environment)
    yield running
    running.stop()


@pytest.fixture
def api(stack: Stack, web: FakeWebServer) -> Iterator[httpx.Client]:
    web.clear()
    with httpx.Client(base_url=stack.url, headers={"X-API-KEY": stack.api_key}, timeout=30) as client:
        yield client


def body(provider: str = "openai", model: str = "gpt-4o", **fields: Any) -> Json:
    config = {"provider": provider, "model": model, "max_tokens": 100} | fields.pop("config", {})
    messages = [{"role": "user", "content": "hi"}]
    return {"project": f"odd-{reference()}", "model_config": config, "messages": messages} | fields


def logs(api: httpx.Client, project: str) -> list[Json]:
    found = ok(api.get("/projects", params={"filter": project}))["records"][0]
    records: list[Json] = ok(api.get("/logs", params={"project_id": found["id"]}))["records"]
    return records


def events(answer: httpx.Response) -> list[Json]:
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]


def streamed(*chunks: Json) -> WebResponse:
    return WebResponse(b"".join(map(sse, chunks)) + b"data: [DONE]\n\n", headers={"Content-Type": "text/event-stream"})


def chunk(reason: str | None = None, **delta: Any) -> Json:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def test_arguments_that_are_an_object_are_delivered_logged_and_charged(api: httpx.Client, web: FakeWebServer) -> None:
    call = {"id": "call_x", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    reply = {
        "choices": [{"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}],
        "usage": USAGE,
    }
    web.responses[OPENAI] = json_response(reply)
    sent = body()
    (sample,) = ok(api.post("/chat", json=sent))["data"]
    assert json.loads(sample["tool_calls"][0]["function"]["arguments"]) == {"city": "Oslo"}
    (log,) = logs(api, sent["project"])
    assert (log["provider_response"], log["error"]) == (reply, None)
    assert (log["prompt_tokens"], log["output_tokens"], log["prompt_cost"]) == (1000, 500, 0.0025)


def test_a_reply_without_an_answer_is_a_502_and_in_the_log_with_its_costs(
    api: httpx.Client, web: FakeWebServer
) -> None:
    reply = {"id": "c", "choices": [], "usage": USAGE}
    web.responses[OPENAI] = json_response(reply)
    sent = body()
    assert api.post("/chat", json=sent).status_code == 502
    (log,) = logs(api, sent["project"])
    assert log["provider_response"] == reply
    assert (log["prompt_tokens"], log["output_tokens"], log["output_cost"]) == (1000, 500, 0.005)


def test_cached_tokens_are_priced_as_such_and_kept_in_the_log_of_a_stream(
    api: httpx.Client, web: FakeWebServer
) -> None:
    usage = USAGE | {"prompt_tokens_details": {"cached_tokens": 800, "audio_tokens": 0}}
    web.responses[OPENAI] = streamed(chunk(content="Yes."), chunk("stop"), {"id": "c", "choices": [], "usage": usage})
    sent = body(stream=True)
    assert api.post("/chat", json=sent).status_code == 200
    (log,) = logs(api, sent["project"])
    assert log["provider_response"]["usage"] == usage
    assert (log["prompt_tokens"], log["cached_tokens"]) == (1000, 800)
    assert log["prompt_cost"] == pytest.approx((200 * 2.5 + 800 * 1.25) / 1e6)


def test_json_lines_with_a_total_alone_are_delivered_logged_and_charged(api: httpx.Client, web: FakeWebServer) -> None:
    chunks = [
        chunk(content="It "),
        chunk(content="rains."),
        chunk("stop"),
        {"choices": [], "usage": {"total_tokens": "1,030"}},
    ]
    lines = b"".join(json.dumps(line).encode() + b"\n" for line in chunks)
    web.responses[OPENAI] = WebResponse(lines, headers={"Content-Type": "application/x-ndjson"})
    sent = body(stream=True)
    answer = api.post("/chat", json=sent)
    assert "".join(event["data"][0]["raw_output"] for event in events(answer)) == "It rains."
    (log,) = logs(api, sent["project"])
    assert (log["raw_output"], log["error"], log["finish_reason"]) == ("It rains.", None, "stop")
    assert log["provider_response"]["usage"] == {"total_tokens": "1,030"}
    assert log["prompt_tokens"] + log["output_tokens"] == log["tokens"] == 1030
    assert 0 < log["prompt_tokens"] < 20
    assert log["output_cost"] == pytest.approx(log["output_tokens"] * 10 / 1e6)


def test_a_stream_in_place_of_a_whole_answer_is_delivered_and_logged(api: httpx.Client, web: FakeWebServer) -> None:
    web.responses[OPENAI] = streamed(chunk(content="Yes."), chunk("stop"), {"choices": [], "usage": USAGE})
    sent = body()
    (sample,) = ok(api.post("/chat", json=sent))["data"]
    assert (sample["output"], sample["finish_reason"]) == ("Yes.", "stop")
    (log,) = logs(api, sent["project"])
    assert (log["prompt_tokens"], log["output_tokens"], log["error"]) == (1000, 500, None)
    assert log["provider_response"]["choices"][0]["message"]["content"] == "Yes."


def test_a_refusal_is_the_output_and_marked(api: httpx.Client, web: FakeWebServer) -> None:
    message = {"role": "assistant", "content": None, "refusal": "I cannot do that."}
    web.responses[OPENAI] = json_response({"choices": [{"message": message, "finish_reason": "stop"}], "usage": USAGE})
    whole = body()
    assert ok(api.post("/chat", json=whole))["data"][0]["output"] == "I cannot do that."
    web.responses[OPENAI] = streamed(chunk(refusal="I cannot "), chunk(refusal="do that."), chunk("stop"))
    in_pieces = body(stream=True)
    got = "".join(event["data"][0]["output"] for event in events(api.post("/chat", json=in_pieces)))
    assert got == "I cannot do that."
    for sent in (whole, in_pieces):
        (log,) = logs(api, sent["project"])
        assert (log["output"], log["refusal"], log["error"]) == ("I cannot do that.", "refusal", None)
        assert log["provider_response"]["choices"][0]["message"]["refusal"] == "I cannot do that."


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_under_status_200_is_that_error_and_costs_nothing(
    api: httpx.Client, web: FakeWebServer, stream: bool
) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    web.responses[ANTHROPIC] = WebResponse(sse(error, "error") if stream else json.dumps(error).encode())
    sent = body("anthropic", "claude-sonnet-4-5", stream=stream)
    answer = api.post("/chat", json=sent)
    assert (answer.status_code, answer.json()["detail"]["message"]) == (503, "Overloaded")
    assert len(web.requests) == 3
    (log,) = logs(api, sent["project"])
    assert (log["error"], log["output"], log["provider_response"]) == ("Overloaded", None, error)
    assert (log["prompt_tokens"], log["prompt_cost"], log["output_cost"]) == (None, None, None)


def test_samples_that_a_server_does_not_give_are_asked_for(api: httpx.Client, web: FakeWebServer) -> None:
    reply = {"choices": [{"index": 0, "message": {"content": "Yes."}, "finish_reason": "stop"}], "usage": USAGE}
    web.responses[OPENAI] = json_response(reply)
    sent = body(num_samples=3)
    answer = ok(api.post("/chat", json=sent))
    assert [sample["output"] for sample in answer["data"]] == ["Yes."] * 3
    assert answer["usage"] == {"prompt_tokens": 3000, "generation_tokens": 1500, "total_tokens": 4500}
    assert [request.body["n"] for request in web.requests] == [3, 1, 1]
    assert [log["prompt_tokens"] for log in logs(api, sent["project"])] == [1000] * 3


def test_separators_of_lines_and_characters_in_two_halves_arrive_whole(api: httpx.Client, web: FakeWebServer) -> None:
    raw = sse(chunk(content="one\u2028two")).replace(b"\\u2028", "\u2028".encode())
    halves = sse(chunk(content="\u0085three \ud83d")) + sse(chunk(content="\ude00 \ud83d")) + sse(chunk("stop"))
    web.responses[OPENAI] = WebResponse(b"\xef\xbb\xbf" + raw + halves, headers={"Content-Type": "text/event-stream"})
    sent = body(stream=True)
    answer = api.post("/chat", json=sent)
    text = "one\u2028two\u0085three 😀 \ufffd"
    assert "".join(event["data"][0]["raw_output"] for event in events(answer)) == text
    (log,) = logs(api, sent["project"])
    assert (log["raw_output"], log["error"]) == (text, None)


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_a_history_of_another_vendor_with_calls_and_no_tools_is_answered(
    api: httpx.Client, web: FakeWebServer, provider: str
) -> None:
    web.responses[ANTHROPIC] = json_response(
        {"content": [{"type": "text", "text": "It is."}], "stop_reason": "end_turn"}
    )
    message = {"role": "assistant", "content": [{"text": "It is."}]}
    web.responses[BEDROCK] = json_response({"output": {"message": message}, "stopReason": "end_turn"})
    sent = body(provider, BEDROCK_MODEL if provider == "bedrock" else "claude-sonnet-4-5", messages=CALLED)
    answer = ok(api.post("/chat", json=sent))
    assert answer["data"][0]["output"] == "It is."
    (request,) = web.requests
    if provider == "bedrock":
        (spec,) = (tool["toolSpec"] for tool in request.body["toolConfig"]["tools"])
        use, result = (request.body["messages"][at]["content"][0] for at in (1, 2))
        ids, used = (use["toolUse"]["toolUseId"], result["toolResult"]["toolUseId"]), use["toolUse"]["name"]
        assert spec["inputSchema"] == {"json": {"type": "object", "additionalProperties": True}}
    else:
        (spec,) = request.body["tools"]
        use, result = (request.body["messages"][at]["content"][0] for at in (1, 2))
        ids, used = (use["id"], result["tool_use_id"]), use["name"]
        assert request.body["tool_choice"] == {"type": "none"}
    assert ids[0] == ids[1]
    assert ids[0].isalnum()
    assert spec["name"] == used == "order_status"
    (log,) = logs(api, sent["project"])
    assert log["messages"][1]["tool_calls"][0]["id"] == "functions.order:0"


def test_the_caller_sees_its_own_names_of_tools_and_new_ids(api: httpx.Client, web: FakeWebServer) -> None:
    def called(request: WebRequest) -> WebResponse:
        name = request.body["tools"][0]["functionDeclarations"][0]["name"]
        parts = [{"functionCall": {"name": name, "args": {"order": 8}}}]
        return json_response({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]})

    web.responses[GOOGLE] = called
    tools = [{"name": "order status", "parameters": {"type": "object", "properties": {}}}]
    history: list[Json] = list(CALLED)
    history[1] = {
        "role": "assistant",
        "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "order status"}}],
    }
    history[2] = {"role": "tool", "tool_call_id": "call_0", "content": "shipped"}
    sent = body("google", "gemini-2.5-flash", messages=history, config={"tools": tools})
    (call,) = ok(api.post("/chat", json=sent))["data"][0]["tool_calls"]
    assert call["function"]["name"] == "order status"
    assert call["id"] not in {"", "call_0"}
    assert [part["functionCall"]["name"] for part in web.requests[0].body["contents"][1]["parts"]] == ["order_status"]


def test_a_broken_stream_is_one_line_in_each_log_and_no_traceback(
    api: httpx.Client, web: FakeWebServer, stack: Stack
) -> None:
    paths = [stack.folder / "logs" / f"{service}.log" for service in ("gateway", "generation")]
    before = [len(path.read_text()) for path in paths]
    web.responses[OPENAI] = WebResponse(
        sse(chunk(content="half an")) + sse({"error": {"message": "secret words"}}),
        headers={"Content-Type": "text/event-stream"},
    )
    sent = body(stream=True)
    with api.stream("POST", "/chat", json=sent) as answer, pytest.raises(httpx.RemoteProtocolError):
        answer.read()
    (log,) = logs(api, sent["project"])
    assert "secret words" in log["error"]
    assert log["output"] == "half an"
    for path, length in zip(paths, before, strict=True):
        lines = [json.loads(line) for line in path.read_text()[length:].splitlines()]
        (told,) = [line for line in lines if line["level"] in {"WARNING", "ERROR"}]
        assert "OpenAI: upstream_error" in told["message"]
        assert "exception" not in told
        assert "secret words" not in json.dumps(lines)
