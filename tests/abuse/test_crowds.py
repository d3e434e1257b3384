"""A crowd of slow calls of one organisation leaves workers, slots and memory to the others."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.abuse.attacks.streams import slow_call, status, unanswered
from tests.abuse.victim import Victim
from tests.calls import reference
from tests.stack import Stack

CALLS = 1100
LARGE = "word " * 500_000


def call_at_once(stack: Stack, calls: int) -> Counter[int]:
    """Return the statuses of so many quick chats at a time."""

    def call(_: int) -> int:
        body = slow_call("quick", 0)
        headers = {"X-API-KEY": stack.api_key}
        return httpx.post(f"{stack.url}/chat", json=body, headers=headers, timeout=30).status_code

    with ThreadPoolExecutor(calls) as pool:
        return Counter(pool.map(call, range(calls)))


def until_free(stack: Stack, seconds: float = 30) -> None:
    """Wait until an organisation may have eight calls of 2.5 MB under way, for which no more than 12 MiB may be held.

    Cancelling a thousand calls and logging them takes a moment. Raises AssertionError after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        bodies = [slow_call("large", 1, text=LARGE)] * 8
        with unanswered(stack.url, stack.api_key, bodies) as connections:
            answered = Counter(status(connection, 60) for connection in connections)
        if answered == {200: 8}:
            return
        assert time.monotonic() < deadline, answered


def until_called(victim: Victim, calls: int, seconds: float = 60) -> None:
    """Wait until the victim has made so many more calls. Raises AssertionError after so many seconds."""
    wanted, deadline = len(victim.calls) + calls, time.monotonic() + seconds
    while len(victim.calls) < wanted:
        assert time.monotonic() < deadline, "the victim's calls are not answered"
        time.sleep(0.1)


@pytest.mark.usefixtures("memory")
def test_slow_calls_of_one_organisation_leave_workers_to_others(stack: Stack, victim: Victim) -> None:
    bodies = [slow_call(f"crowd-{reference()[:2]}", 60, stream=bool(number % 2)) for number in range(CALLS)]
    with unanswered(stack.url, stack.api_key, bodies):
        until_called(victim, 15)
    assert call_at_once(stack, 32) == {200: 32}, "there is room for calls as soon as the crowd has left"
    until_free(stack)


@pytest.mark.usefixtures("memory")
def test_a_crowd_with_large_bodies_is_refused_beyond_its_share(stack: Stack, victim: Victim) -> None:
    until_free(stack)  # whatever tests before this one have left
    bodies = [slow_call("large", 20, text=LARGE)] * 24
    with unanswered(stack.url, stack.api_key, bodies) as connections:
        until_called(victim, 6)
        answered = Counter(status(connection, 60) for connection in connections)
    assert answered[200] >= 8, answered
    assert answered[429] > 0, answered
    assert set(answered) <= {200, 429, 503}, answered
    assert call_at_once(stack, 32) == {200: 32}
