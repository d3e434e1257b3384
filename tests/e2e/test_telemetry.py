"""One trace from the HTTP request to the provider, a link from the later write, and no prompt text anywhere."""

import json
import secrets
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests import stack as stacks
from tests.calls import Json, moderator, ok, reference, search_log
from tests.fake_servers import otlp
from tests.fake_servers.openai import FakeOpenAI
from tests.fake_servers.otlp import Collector, Span
from tests.stack import Stack

PROMPT = "a prompt that nobody else may read"


@pytest.fixture(scope="module")
def collector() -> Collector:
    return otlp.start()


@pytest.fixture(scope="module")
def traced(collector: Collector, upstream: FakeOpenAI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that exports its traces."""
    environment = {
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "sk-test",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    running = stacks.start(tmp_path_factory.mktemp("traced"), "--no-model", environment=environment)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def trace_id(traced: Stack) -> str:
    """The trace of one chat."""
    with httpx.Client(base_url=traced.url, headers={"X-API-KEY": traced.api_key}, timeout=30) as api:
        project = moderator(api, inputs={"user_request": PROMPT})["project_id"]
        answer = api.post(
            "/chat",
            json={
                "project_id": project,
                "model_config": {"model": "gpt-4", "temperature": 0.5, "max_tokens": 9},
                "messages": [{"role": "user", "content": PROMPT}],
            },
        )
        ok(answer)
        return answer.headers["x-trace-id"]


def test_one_trace_across_http_bus_and_provider(collector: Collector, trace_id: str) -> None:
    def arrives(service: str, name: str) -> Span:
        return collector.wait_for(
            lambda span: (span.trace_id, span.service) == (trace_id, service) and span.name.startswith(name)
        )

    root = arrives("everloop-gateway", "POST /v4/chat")
    assert root.parent_id == ""
    assert root.attributes["http.response.status_code"] == 200
    asked = arrives("everloop-gateway", "stream_request generation.chat")
    assert asked.parent_id == root.span_id
    answered = arrives("everloop-generation", "generation.chat")
    assert answered.parent_id == asked.span_id
    provider = arrives("everloop-generation", "chat gpt-4")
    assert provider.parent_id == answered.span_id


def test_provider_span_has_the_genai_attributes(collector: Collector, trace_id: str) -> None:
    span = collector.wait_for(lambda span: span.trace_id == trace_id and span.name == "chat gpt-4")
    wanted: Json = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.response.model": "gpt-4",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 5,
    }
    assert {name: span.attributes.get(name) for name in wanted} == wanted


def test_the_span_of_the_later_store_links_to_the_trace_of_its_request(collector: Collector, trace_id: str) -> None:
    write = collector.wait_for(lambda span: span.service == "everloop-logging" and trace_id in span.links)
    assert write.trace_id != trace_id


def test_the_trace_of_a_traceparent_header_is_continued(collector: Collector, traced: Stack) -> None:
    caller = "0af7651916cd43dd8448eb211c80319c"
    headers = {"X-API-KEY": traced.api_key, "traceparent": f"00-{caller}-b7ad6b7169203331-01"}
    with httpx.Client(base_url=traced.url, headers=headers, timeout=30) as api:
        search_log(api)
    span = collector.wait_for(lambda span: span.trace_id == caller and span.name == "POST /v4/logs")
    assert span.parent_id == "b7ad6b7169203331"


@pytest.mark.parametrize(("key", "status"), [("known", None), ("input nobody may read", "422")])
def test_a_tool_call_has_a_span_without_its_text(
    collector: Collector, traced: Stack, key: str, status: str | None
) -> None:
    name = f"passages_{reference()}"
    settings = {"kind": "snippet", "pairs": [{"key": "known", "value": "passage nobody may read"}]}
    config = {"model": "gpt-4", "chat_template": [{"role": "system", "content": f"{{{{ {name}(key) }}}}"}]}
    with httpx.Client(base_url=traced.url, headers={"X-API-KEY": traced.api_key}, timeout=30) as api:
        ok(api.post(f"{traced.base_url}/api/tools", json={"name": name, "settings": settings}), 201)
        answer = api.post(
            "/chat", json={"project": name, "model_config": config, "messages": [], "inputs": {"key": key}}
        )
    made = answer.headers["x-trace-id"]
    span = collector.wait_for(lambda span: span.trace_id == made and span.name == f"execute_tool {name}")
    parent = collector.wait_for(lambda span: span.trace_id == made and span.name == "generation.chat")
    assert span.parent_id == parent.span_id
    assert (span.attributes["gen_ai.tool.name"], span.attributes.get("error.type")) == (name, status)
    assert not [raw for raw in collector.raw if b"nobody may read" in raw]


def test_prompt_text_is_in_no_span_and_no_log_file(collector: Collector, trace_id: str, traced: Stack) -> None:
    collector.wait_for(lambda span: span.service == "everloop-logging" and trace_id in span.links)
    assert not [raw for raw in collector.raw if PROMPT.encode() in raw]
    logs = list((traced.folder / "logs").glob("*.log"))
    assert len(logs) >= 7
    for path in logs:
        assert PROMPT not in path.read_text(errors="replace"), path.name


def test_log_lines_are_json_with_the_trace_id(traced: Stack, trace_id: str, upstream: FakeOpenAI) -> None:
    for _ in range(3):  # it is tried three times
        upstream.reply(status=500, error={"message": "down", "type": "server_error"})
    with httpx.Client(base_url=traced.url, headers={"X-API-KEY": traced.api_key}, timeout=30) as api:
        failed = api.post("/chat", json={"project": "broken", "model_config": {"model": "gpt-4"}, "messages": []})
    assert failed.status_code >= 500
    assert failed.headers["x-trace-id"] != trace_id
    lines = (traced.folder / "logs" / "generation.log").read_text().splitlines()
    parsed = [json.loads(line) for line in lines if line.startswith("{")]
    assert [line for line in parsed if line.get("trace_id") == failed.headers["x-trace-id"]]


SECRET = f"hl_{'Ab3' * 16}"
"""In the form of an API key, at places where none belongs."""


def test_what_stands_in_a_path_a_query_or_a_header_by_mistake_is_in_no_span_and_no_log(
    collector: Collector, traced: Stack
) -> None:
    sent = f"x{SECRET}"  # a second key in a header would be refused
    headers = {"X-API-KEY": traced.api_key, "X-Something": sent, "tracestate": f"a={sent}", "User-Agent": sent}
    traces = []
    with httpx.Client(base_url=traced.base_url, headers=headers, timeout=30) as api:
        for method, path in (
            ("GET", f"/v4/logs/{SECRET}?api_key={SECRET}"),
            ("GET", f"/v4/logs?project_id={SECRET}&search={SECRET}"),
            ("GET", f"/{SECRET}/{SECRET}?{SECRET}"),
            ("PUT", f"/v4/logs/{SECRET}"),
            ("GET", f"/v4/sessions/{SECRET}/?{SECRET}"),
            ("DELETE", f"/api/keys/{SECRET}"),
            ("PUT", f"/api/provider-keys/{SECRET}"),
        ):
            parent = f"00-{secrets.token_hex(16)}-b7ad6b7169203331-01"
            answer = api.request(method, path, json={"key": SECRET}, headers={"Host": sent, "traceparent": parent})
            assert answer.status_code in (200, 307, 404, 405, 422), answer.text
            traces.append(answer.headers["x-trace-id"])
        model = {"provider": "mock", "model": f"mock {SECRET}"}
        body = {"model_config": model, "messages": [{"role": "user", "content": SECRET}], "inputs": {"a": SECRET}}
        chat = api.post("/v4/chat", json=body | {"project": SECRET, "provider_api_keys": {"openai": SECRET}})
        ok(chat)
        ok(api.post("/api/tools", json={"name": SECRET, "settings": SNIPPET}), 201)
        template = {**model, "chat_template": [{"role": "user", "content": f"{{{{ {SECRET}(k) }}}}"}]}
        ok(api.post("/v4/chat", json=body | {"project": SECRET, "model_config": template, "inputs": {"k": "k"}}))
    roots = [collector.wait_for(_server_span_of(trace)) for trace in [*traces, chat.headers["x-trace-id"]]]
    assert [span.name for span in roots[:4]] == ["GET /v4/logs/{id}", "GET /v4/logs", "GET", "PUT /v4/logs/{id}"]
    assert {name for span in roots for name in span.attributes} <= {
        *("http.request.method", "http.route", "http.response.status_code", "network.protocol.version", "url.scheme")
    }
    collector.wait_for(lambda span: span.name == "execute_tool (hidden)")
    collector.wait_for(lambda span: span.name == "chat (hidden)")
    assert not [raw for raw in collector.raw if SECRET.encode() in raw]
    for file in (traced.folder / "logs").glob("*.log"):
        assert SECRET not in file.read_text(errors="replace"), file.name


SNIPPET: Json = {"kind": "snippet", "pairs": [{"key": "k", "value": "v"}]}


def _server_span_of(trace: str) -> Callable[[Span], bool]:
    return lambda span: span.trace_id == trace and "http.request.method" in span.attributes
