"""GuardedClient: whatever a server does and whenever a call is cut off, every place is free again, and others go on."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from services.generation.http.guarded_client import GuardedClient, OutboundLimits
from shared.errors import Invalid, Unavailable, UpstreamFailed
from tests.fake_servers.misbehaving import BEHAVIOURS, MisbehavingServer, unconnectable
from tests.integration.generation.certificates import certificate
from tests.integration.generation.endings import call_and_end_in_every_way, leaving_nothing, until

AT_ONCE = 32
CROWD = 128
ORGANISATIONS = [f"tm_{number}" for number in range(8)]


in_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
"""That of the standard library, whose errors say more, and that of the services."""


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS of a server at 127.0.0.1, and of a client that trusts it."""
    path = certificate(tmp_path, "127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=str(path))


@pytest.fixture
async def server() -> AsyncIterator[MisbehavingServer]:
    async with MisbehavingServer(None).running() as server:
        yield server


async def fetch(client: GuardedClient, organisation: str, url: str, seconds: float = 10.0) -> int:
    with client.session(organisation, 100_000, "answers") as session:
        return (await session.get(url, total_seconds=seconds, max_bytes=50_000)).status


async def count_free_places(client: GuardedClient) -> int:
    """Return how many calls of eight organisations get through to a server at once that lets them wait."""
    async with MisbehavingServer(None).running() as here, MisbehavingServer(None).running() as there:
        waiting = [
            asyncio.create_task(fetch(client, organisation, server.url("silent")))
            for organisation in ORGANISATIONS
            for server in (here, there)
            for _ in range(CROWD // 4)
        ]
        await until(lambda: here.peak + there.peak >= CROWD)
        await asyncio.sleep(0.1)  # and no more than these
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return here.peak + there.peak


@in_both_loops
def test_every_place_is_free_after_every_way_to_end(
    run: Callable[[Coroutine[Any, Any, None]], None], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    run(end_in_every_way(contexts))


async def end_in_every_way(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    client = GuardedClient("127.0.0.1", OutboundLimits(max_concurrency=CROWD), tls=contexts[1])
    organisations = iter(ORGANISATIONS * 1000)

    async def call(url: str, seconds: float) -> object:
        return await fetch(client, next(organisations), url, seconds)

    async with leaving_nothing():
        plain, secure = MisbehavingServer(None), MisbehavingServer(contexts[0])
        async with plain.running(), secure.running():
            with unconnectable() as port:
                urls = [server.url(name) for server in (plain, secure) for name in BEHAVIOURS]
                no_tls = f"https://127.0.0.1:{plain.port}/silent"
                urls += [f"http://127.0.0.1:{port}/", f"https://127.0.0.1:{port}/", no_tls, "http://127.0.0.1:1/"] * 4
                outcomes = await call_and_end_in_every_way(call, urls, 2000, seed=9)
        assert await count_free_places(client) == CROWD
        with client.session("tm_1", 48 * 1024 * 1024, "answers") as session:
            session._reservation.grow(48 * 1024 * 1024)  # of all bytes its half
    assert {"cancelled", "UpstreamFailed"} <= outcomes.keys() <= {
        "returned", "cancelled", "UpstreamFailed", "Unavailable", "TooLarge", "TimeoutError",
    }, outcomes  # fmt: skip


@in_both_loops
def test_calls_that_are_cut_off_while_they_connect_cost_no_place(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    run(cut_off_while_connecting())


async def cut_off_while_connecting() -> None:
    client = GuardedClient("127.0.0.1", OutboundLimits(max_concurrency=CROWD))
    async with leaving_nothing():
        with unconnectable() as port:
            calls = (
                fetch(client, ORGANISATIONS[number % 8], f"http://127.0.0.1:{port}/", 0.2) for number in range(600)
            )
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {UpstreamFailed, Unavailable}
        assert await count_free_places(client) == CROWD


@pytest.mark.parametrize("name", [name for name in BEHAVIOURS if not name.startswith(("fine", "says-more"))])
async def test_what_is_no_answer_is_an_upstream_failure_in_time(server: MisbehavingServer, name: str) -> None:
    client = GuardedClient("127.0.0.1")
    with pytest.raises(UpstreamFailed, match=r"'127\.0\.0\.1' (did not answer|answered with more|redirects)"):
        await fetch(client, "tm_1", server.url(name), 0.5)


@pytest.mark.parametrize("name", ["fine", "fine-by-close", "fine-after-100", "says-more-than-it-has"])
async def test_what_is_an_answer_is_read(server: MisbehavingServer, name: str) -> None:
    assert await fetch(GuardedClient("127.0.0.1"), "tm_1", server.url(name)) == 200


@pytest.mark.parametrize("name", [name for name in BEHAVIOURS if name.startswith("endless") and name != "endless-body"])
async def test_framing_without_end_is_cut_off_before_the_timeout(server: MisbehavingServer, name: str) -> None:
    """Headers, chunks and 1xx responses cost processor time: their number is bounded, too."""
    with pytest.raises(UpstreamFailed, match="as an HTTP server does"):
        await fetch(GuardedClient("127.0.0.1"), "tm_1", server.url(name), 30.0)


class TestShares:
    """`server` lets calls wait; what is called beside it answers."""

    async def test_a_slow_host_does_not_stand_before_others_of_the_same_organisation(
        self, server: MisbehavingServer
    ) -> None:
        client = GuardedClient("127.0.0.1", OutboundLimits(max_concurrency=AT_ONCE))
        async with hanging(client, server, ["tm_1"] * 100), MisbehavingServer(None).running() as healthy:
            assert server.open == AT_ONCE // 8
            for _ in range(10):
                assert await fetch(client, "tm_1", healthy.url("fine"), 2.0) == 200

    async def test_an_organisation_with_many_slow_hosts_does_not_stand_before_others(
        self, server: MisbehavingServer
    ) -> None:
        client = GuardedClient("127.0.0.0/8", OutboundLimits(max_concurrency=AT_ONCE))
        with unconnectable() as port:
            silent = [
                asyncio.create_task(fetch(client, "tm_1", f"http://127.0.0.{number}:{port}/")) for number in range(100)
            ]
            await asyncio.sleep(0.2)
            for _ in range(10):
                assert await fetch(client, "tm_2", server.url("fine"), 2.0) == 200
            await end(silent)

    async def test_a_host_that_is_slow_for_all_does_not_stand_before_other_hosts(
        self, server: MisbehavingServer
    ) -> None:
        client = GuardedClient("127.0.0.1", OutboundLimits(max_concurrency=AT_ONCE))
        async with hanging(client, server, ORGANISATIONS * 20), MisbehavingServer(None).running() as healthy:
            assert server.open == AT_ONCE // 2
            for organisation in (*ORGANISATIONS, "tm_new"):
                assert await fetch(client, organisation, healthy.url("fine"), 2.0) == 200

    async def test_who_gets_no_place_in_half_the_time_is_told_the_remedy(self, server: MisbehavingServer) -> None:
        client = GuardedClient("127.0.0.1", OutboundLimits(max_concurrency=AT_ONCE))
        async with hanging(client, server, ["tm_1"] * (AT_ONCE // 8)):
            with pytest.raises(Unavailable, match=r"4 calls to 127\.0\.0\.1:\d+ .*EVERLOOP_OUTBOUND_AT_ONCE"):
                await fetch(client, "tm_1", server.url("fine"), 0.2)
        assert await fetch(client, "tm_1", server.url("fine")) == 200

    async def test_a_refused_address_takes_no_place(self) -> None:
        client = GuardedClient("", OutboundLimits(max_concurrency=1))
        for _ in range(3):
            with pytest.raises(Invalid):
                await fetch(client, "tm_1", "http://127.0.0.1/")


class hanging:  # noqa: N801 - a context manager
    """Calls that hang as long as the block runs."""

    def __init__(self, client: GuardedClient, server: MisbehavingServer, organisations: list[str]) -> None:
        self._client = client
        self._url = server.url("silent")
        self._organisations = organisations
        self._tasks: list[asyncio.Task[int]] = []

    async def __aenter__(self) -> None:
        self._tasks = [
            asyncio.create_task(fetch(self._client, organisation, self._url, 30.0))
            for organisation in self._organisations
        ]
        await asyncio.sleep(0.3)

    async def __aexit__(self, *_: object) -> None:
        await end(self._tasks)


async def end(tasks: list[asyncio.Task[int]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
