"""Clients that do not read their streams hold neither memory nor their providers' streams, and are cut off."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest

from tests.abuse.attacks.streams import OUTPUT, unanswered, unread_stream
from tests.abuse.memory import resident_bytes
from tests.calls import Json, ok, reference
from tests.fake_servers import endless
from tests.fake_servers.endless import EndlessProvider
from tests.stack import Stack

STREAMS = 150
FAST_STREAMS = 200
LARGE_ANSWERS = 100
RESIDENT_BYTES = 230 * 1024 * 1024
"""What generation may take when the streams have ended: 90 MiB at its start, 50 for the tables of tokens, and 90."""


@pytest.fixture(scope="module")
def fast_provider() -> Iterator[EndlessProvider]:
    """A provider that sends large events for as long as they are taken."""
    with endless.serve() as provider:
        yield provider


@pytest.fixture(scope="module")
def stack_environment(stack_environment: dict[str, str], fast_provider: EndlessProvider) -> dict[str, str]:
    """The settings of the stack, with this provider in OpenAI's place."""
    return stack_environment | {"OPENAI_BASE_URL": fast_provider.url}


def until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds. Raises AssertionError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def until_logged(api: httpx.Client, project: str, count: int, seconds: float, *, page_size: int = 1000) -> list[Json]:
    """Return the first page of the logs of a project once it has so many. Raises AssertionError after that time."""
    deadline = time.monotonic() + seconds
    while True:
        projects = ok(api.get("/projects", params={"search": project}))["records"]
        if found := [record for record in projects if record["name"] == project]:
            page = ok(api.get("/logs", params={"project_id": found[0]["id"], "size": page_size}))
            if page["total"] >= count:
                records: list[Json] = page["records"]
                return records
        assert time.monotonic() < deadline, f"fewer than {count} logs"
        time.sleep(0.5)


@pytest.mark.usefixtures("victim", "memory")
def test_unread_streams_are_cut_off_and_leave_logs_of_what_arrived(stack: Stack, api: httpx.Client) -> None:
    project = f"unread-{reference()}"
    with unanswered(stack.url, stack.api_key, [unread_stream(project)] * STREAMS):
        logs = until_logged(api, project, STREAMS, 60)
    for log in logs:
        assert log["error"]
        assert len(log["output"]) < len(OUTPUT) / 2, "its provider was read no further than its client"
        assert log["output"] == OUTPUT[: len(log["output"])]
        assert log["tokens"]
    with api.stream("POST", "/chat", json=unread_stream(project)) as response:  # who reads gets all of it
        assert response.status_code == 200
        assert response.read().count(b"data: ") > 9_000


def test_a_client_that_reads_slowly_gets_its_whole_stream(api: httpx.Client) -> None:
    """It takes longer than a client that reads nothing may."""
    received, started = 0, time.monotonic()
    with api.stream("POST", "/chat", json=unread_stream(f"slow-{reference()}")) as response:
        for piece in response.iter_raw(256 * 1024):
            received += piece.count(b"data: ")
            if time.monotonic() - started < 8:
                time.sleep(0.4)
    assert received > 9_000


@pytest.mark.usefixtures("victim", "memory")
def test_unread_streams_of_a_fast_provider_are_bounded_and_all_logged(
    stack: Stack, api: httpx.Client, fast_provider: EndlessProvider
) -> None:
    config = {"provider": "openai", "model": "gpt-4o"}
    for _ in range(2):
        project, streams = f"fast-{reference()}", len(fast_provider.sent) + FAST_STREAMS
        body = {"project": project, "model_config": config, "messages": [{"role": "user", "content": "x"}]}
        with unanswered(stack.url, stack.api_key, [body | {"stream": True}] * FAST_STREAMS):
            until(partial(fast_provider.has_begun, streams), 60)
        logs = until_logged(api, project, FAST_STREAMS, 90, page_size=10)
        assert all(log["error"] for log in logs)
        until(lambda: fast_provider.streaming == 0, 10)
    until(lambda: resident_bytes(stack, "generation") < RESIDENT_BYTES, 30)


LARGE_CHARACTERS = 3_500_000
"""Of text: nearly the largest event and the largest answer that are read (4 MiB), and that a log holds."""


@pytest.fixture
def large_answers(fast_provider: EndlessProvider) -> Iterator[EndlessProvider]:
    """The provider, with answers and events nearly as large as they may be."""
    fast_provider.characters = LARGE_CHARACTERS
    yield fast_provider
    fast_provider.characters = endless.DELTA_CHARACTERS


@pytest.mark.usefixtures("victim", "memory")
@pytest.mark.parametrize("stream", [True, False])
def test_large_answers_at_a_time_are_bounded_together(
    stack: Stack, api: httpx.Client, large_answers: EndlessProvider, stream: bool
) -> None:
    calls, project = len(large_answers.sent) + LARGE_ANSWERS, f"large-{reference()}"
    body = {"project": project, "model_config": {"provider": "openai", "model": "gpt-4o"}, "stream": stream}
    body["messages"] = [{"role": "user", "content": "x"}]
    with unanswered(stack.url, stack.api_key, [body] * LARGE_ANSWERS):
        until(partial(large_answers.has_begun, calls), 60)
        time.sleep(5)
    until_logged(api, project, LARGE_ANSWERS, 90, page_size=1)
    until(lambda: large_answers.streaming == 0, 10)
    until(lambda: resident_bytes(stack, "generation") < RESIDENT_BYTES, 30)
