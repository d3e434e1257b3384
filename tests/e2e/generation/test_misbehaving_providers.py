"""Providers that stream slowly, die, talk nonsense, ask to wait or are silent: the right error, a log, no leak."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests import stack as stacks
from tests.calls import Json, ok, reference
from tests.fake_servers import anthropic, gemini, openai
from tests.fake_servers.server import FakeServer
from tests.stack import Stack

SILENCE_SECONDS = 2.0
MODELS = {"openai": "gpt-4.1", "anthropic": "claude-sonnet-4-5", "google": "gemini-2.5-flash"}
TITLES = {"openai": "OpenAI", "anthropic": "Anthropic", "google": "Google"}


@dataclass(frozen=True)
class ShortTimeoutStack:
    """A stack with little patience, and what it takes for the case outside."""

    stack: Stack
    upstreams: dict[str, FakeServer]


@pytest.fixture(scope="module")
def short_timeout_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShortTimeoutStack]:
    upstreams = {"openai": openai.start(), "anthropic": anthropic.start(), "google": gemini.start()}
    environment = {
        "OPENAI_BASE_URL": upstreams["openai"].url,
        "OPENAI_API_KEY": "sk-1",
        "ANTHROPIC_BASE_URL": upstreams["anthropic"].url,
        "ANTHROPIC_API_KEY": "sk-ant-1",
        "GEMINI_BASE_URL": upstreams["google"].url,
        "GEMINI_API_KEY": "AIza-1",
        "EVERLOOP_PROVIDER_READ_SECONDS": str(SILENCE_SECONDS),
    }
    running = stacks.start(tmp_path_factory.mktemp("short-timeouts"), "--no-model", environment=environment)
    yield ShortTimeoutStack(running, upstreams)
    running.stop()


@pytest.fixture
def case(short_timeout_stack: ShortTimeoutStack, provider: str) -> Iterator["ProviderCase"]:
    upstream = short_timeout_stack.upstreams[provider]
    upstream.clear()
    with httpx.Client(
        base_url=short_timeout_stack.stack.url, headers={"X-API-KEY": short_timeout_stack.stack.api_key}, timeout=30
    ) as api:
        yield ProviderCase(api, upstream, provider, f"misbehaving-{reference()}")
    settle(upstream)


@dataclass(frozen=True)
class ProviderCase:
    api: httpx.Client
    upstream: FakeServer
    provider: str
    project: str

    def body(self, *, stream: bool) -> Json:
        config = {"provider": self.provider, "model": MODELS[self.provider]}
        message = {"role": "user", "content": "Tell me a story"}
        return {"project": self.project, "model_config": config, "messages": [message], "stream": stream}

    def chat(self, *, stream: bool) -> httpx.Response:
        return self.api.post("/chat", json=self.body(stream=stream))

    def log(self) -> Json:
        """The one log of the project."""
        project = ok(self.api.get("/projects", params={"filter": self.project}))["records"][0]
        (found,) = ok(self.api.get("/logs", params={"project_id": project["id"]}))["records"]
        assert (found["served_provider"], found["served_model"]) == (self.provider, MODELS[self.provider])
        result: Json = found
        return result


def settle(upstream: FakeServer) -> None:
    """Nothing is being written any more, and at most one connection is kept for the next call."""
    deadline = time.monotonic() + 3 * SILENCE_SECONDS
    while (upstream.streaming or upstream.open_connections > 1) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (upstream.streaming, upstream.open_connections) in {(0, 0), (0, 1)}


pytestmark = pytest.mark.parametrize("provider", MODELS)
both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def test_a_slow_stream_is_passed_on_to_its_end(case: ProviderCase) -> None:
    case.upstream.reply(content="Once upon a time", chunk_delay_seconds=0.3)
    answer = case.chat(stream=True)
    assert answer.status_code == 200
    log = case.log()
    assert (log["output"], log["error"], log["finish_reason"]) == ("Once upon a time", None, "stop")


def test_a_stream_that_breaks_off_is_broken_off_and_its_log_has_the_received_part(case: ProviderCase) -> None:
    case.upstream.reply(content="Once upon a time there was", break_after_chunks=5)
    with case.api.stream("POST", "/chat", json=case.body(stream=True)) as answer:
        pieces = answer.iter_raw()
        received = next(pieces)
        with pytest.raises(httpx.RemoteProtocolError):
            received += b"".join(pieces)
    assert b'"finish_reason":"stop"' not in received
    log = case.log()
    assert TITLES[case.provider] in log["error"]
    assert log["output"]
    assert "Once upon a time there was".startswith(log["output"])
    assert log["output_tokens"] > 0
    assert log["prompt_tokens"] > 0
    assert log["output_cost"] > 0


def test_a_response_cut_off_by_the_provider_is_a_502_and_a_log(case: ProviderCase) -> None:
    case.upstream.reply(break_after_chunks=0)
    assert_error_and_log(case, case.chat(stream=False), 502, "connection")


@both
def test_a_response_that_is_not_of_the_providers_api_is_a_502_and_a_log(case: ProviderCase, stream: bool) -> None:
    case.upstream.reply(garbage=True)
    assert_error_and_log(case, case.chat(stream=stream), 502, "cannot be read")


@both
def test_a_short_retry_after_is_waited_for_and_the_call_repeated(case: ProviderCase, stream: bool) -> None:
    case.upstream.reply(status=429, headers={"Retry-After": "1"})
    assert case.chat(stream=stream).status_code == 200
    assert len(case.upstream.requests) == 2
    assert case.log()["error"] is None


@both
def test_a_long_retry_after_is_passed_on_to_the_caller_without_a_retry(case: ProviderCase, stream: bool) -> None:
    case.upstream.reply(status=429, headers={"Retry-After": "120"})
    answer = case.chat(stream=stream)
    assert answer.headers["retry-after"] == "120"
    assert_error_and_log(case, answer, 429, "")
    assert len(case.upstream.requests) == 1


@both
def test_a_provider_that_sends_nothing_is_a_502_after_the_read_timeout(case: ProviderCase, stream: bool) -> None:
    case.upstream.reply(delay_seconds=2 * SILENCE_SECONDS)
    assert_error_and_log(case, case.chat(stream=stream), 502, "did not answer in time")
    assert len(case.upstream.requests) == 1


def test_a_caller_that_disconnects_ends_the_call_of_the_provider(case: ProviderCase) -> None:
    case.upstream.reply(content="word " * 500, chunk_delay_seconds=0.05)
    with case.api.stream("POST", "/chat", json=case.body(stream=True)) as answer:
        next(answer.iter_raw())
    settle(case.upstream)
    deadline = time.monotonic() + 5
    log = case.log()
    while log["error"] is None and time.monotonic() < deadline:
        time.sleep(0.1)
        log = case.log()
    assert "left" in log["error"]
    assert log["output"].startswith("word")
    assert log["output_cost"] > 0


def assert_error_and_log(case: ProviderCase, answer: httpx.Response, status: int, words: str) -> None:
    """The unified error with the provider as its origin; the log says the same."""
    assert answer.status_code == status, answer.text
    detail: dict[str, Any] = answer.json()["detail"]
    assert (detail["code"], detail["origin"]) == (status, TITLES[case.provider])
    assert words in detail["message"]
    log = case.log()
    assert log["error"] == detail["message"]
    assert log["output"] is None
