"""NameLookup: what hangs takes no more than its share of the threads, and none of anybody else's."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.generation.http import name_lookup
from services.generation.http.name_lookup import NameLookup
from shared.errors import Unavailable, UpstreamFailed

ADDRESS = "93.184.216.34"


class Names:
    """A name server that is silent about names that begin with `slow` until `answer` is set, and knows all others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer = threading.Event()
        self.threads: set[threading.Thread] = set()
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, port: int, **_: Any) -> list[Any]:
        self.threads.add(threading.current_thread())
        if host.startswith("slow"):
            self.answer.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (ADDRESS, port))]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Names]:
    names = Names(monkeypatch)
    yield names
    names.answer.set()
    for thread in names.threads:
        await asyncio.to_thread(thread.join, 10)


def hang(lookup: NameLookup, organisation: str, *hosts: str) -> list[asyncio.Task[list[str]]]:
    return [asyncio.create_task(lookup.resolve(organisation, host, 80)) for host in hosts]


async def end(tasks: list[asyncio.Task[list[str]]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_name_server_that_does_not_answer_is_an_error_after_the_timeout(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_lookup, "LOOKUP_SECONDS", 0.05)
    with pytest.raises(UpstreamFailed, match=r"'slow\.example': its name server did not answer within 0\.05 seconds"):
        await NameLookup(8).resolve("tm_1", "slow.example", 80)
    assert all(thread.daemon for thread in names.threads), "nothing waits for them when the process ends"


async def test_look_ups_that_hang_take_no_threads_of_the_event_loop(names: Names) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    lookup = NameLookup(64)
    hanging = hang(lookup, "tm_1", *["slow.example"] * 100)
    async with asyncio.timeout(2):
        assert await asyncio.to_thread(len, "abc") == 3
        assert await lookup.resolve("tm_1", "fast.other", 80) == [ADDRESS]
    assert len(names.threads) == 9, "one that answered, and an eighth of 64 that hang"
    await end(hanging)


async def test_no_organisation_takes_the_threads_of_another(names: Names) -> None:
    lookup = NameLookup(64)
    hanging = hang(lookup, "tm_1", *(f"slow.n{number}.example{number}" for number in range(200)))
    async with asyncio.timeout(2):
        assert await lookup.resolve("tm_2", "fast.example", 80) == [ADDRESS]
    assert len(names.threads) == 17, "a quarter of 64, and one"
    await end(hanging)


@pytest.mark.usefixtures("names")
async def test_one_silent_name_server_does_not_stand_before_others_whoever_asks_it() -> None:
    lookup = NameLookup(64)
    hanging = [
        task
        for number in range(20)
        for task in hang(lookup, f"tm_{number}", *(f"slow{name}.example.org" for name in range(20)))
    ]
    async with asyncio.timeout(2):
        for organisation in ("tm_0", "tm_19", "tm_new"):
            assert await lookup.resolve(organisation, "fast.example.net", 80) == [ADDRESS]
    await end(hanging)


async def test_one_that_gets_no_thread_is_unavailable_until_one_is_free(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_lookup, "LOOKUP_SECONDS", 0.1)
    lookup = NameLookup(8)
    for name in ("slow.one", "slow.two"):  # a quarter
        with pytest.raises(UpstreamFailed):
            await lookup.resolve("tm_1", name, 80)
    with pytest.raises(Unavailable, match=r"'fast\.example' could not be looked up: 2 look-ups .* Try again"):
        await lookup.resolve("tm_1", "fast.example", 80)
    assert len(names.threads) == 2, "nobody waits for them any more, but they are still taken"
    assert await lookup.resolve("tm_1", "93.184.216.1", 80) == ["93.184.216.1"], "an address needs no look-up"
    monkeypatch.setattr(name_lookup, "LOOKUP_SECONDS", 5.0)
    names.answer.set()
    assert await lookup.resolve("tm_1", "fast.example", 80) == [ADDRESS]


async def test_cancelled_look_ups_free_their_threads(names: Names) -> None:
    lookup = NameLookup(1)
    leaving = hang(lookup, "tm_1", *["slow.example"] * 3)
    await asyncio.sleep(0.01)
    await end(leaving)  # one looks up, two wait for their place
    assert all(task.cancelled() for task in leaving)
    names.answer.set()
    assert await lookup.resolve("tm_1", "fast.example", 80) == [ADDRESS]
