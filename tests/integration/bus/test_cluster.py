"""Three nats-servers with three copies of each stream: what one server cannot show."""

import asyncio
import collections
import contextlib
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

import httpx
import pytest
from nats.js.api import StreamInfo

from shared import ids
from shared.bus import JOBS, StreamSpec, ensure_stream
from shared.contracts.access.authentication import AccessChanged
from shared.mongo import initiate_replica_set
from tests.integration.bus.cluster_workload import LOGS, Workload, connected_workload, make_streams, stored
from tests.integration.bus.job_fixtures import job_class, job_of, until
from tests.integration.bus.nats_cluster import PASSWORD, REPLICAS, NatsCluster, Node, running_cluster
from tests.integration.servers import Mongo, Nats, Process, connected, free_port, running, service

STANDSTILL_SECONDS = 30.0
"""More than the election of a leader takes (at most 9 s, again if it has no result), also on a busy machine."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    with running_cluster(tmp_path) as cluster:
        yield cluster


async def test_of_many_appends_of_one_message_at_once_all_succeed_and_one_is_stored(cluster: NatsCluster) -> None:
    """While a server decides about a message id, it refuses another message with the same one (10158)."""
    async with cluster.connected(cluster.nodes[0]) as one, cluster.connected(cluster.nodes[1]) as other:
        await make_streams(one)
        await ensure_stream(one, StreamSpec("EVENTS", ("events.>",), replicas=REPLICAS))
        buses = (one, other) * 4
        appends = [
            bus.append("logs.test", b"x", message_id=f"message {number}") for number in range(50) for bus in buses
        ]
        sequences = await asyncio.gather(*appends)
        assert all(len(set(sequences[start :: len(buses)])) == 50 for start in range(len(buses)))
        assert len(set(sequences)) == 50

        event = AccessChanged(organisation="tm_1", what="key created")
        await asyncio.gather(*(bus.publish_event(event, message_id="event") for bus in buses))
        job = job_of(job_class())
        await asyncio.gather(*(bus.enqueue(job) for bus in buses))
        counts = {}
        for name in (LOGS, "EVENTS", JOBS):
            info: StreamInfo = await one.client.jetstream().stream_info(name)
            counts[name] = info.state.messages
    assert counts == {LOGS: 50, "EVENTS": 1, JOBS: 1}


async def test_services_that_make_one_stream_at_once_all_have_it(cluster: NatsCluster) -> None:
    async with cluster.connected(cluster.nodes[0]) as one, cluster.connected(cluster.nodes[1]) as other:
        specs = [StreamSpec(f"S{number}", (f"s{number}.>",), replicas=REPLICAS) for number in range(3)]
        await asyncio.gather(*(ensure_stream(bus, spec) for spec in specs for bus in (one, other, one)))
        for spec in specs:
            await cluster.leader_of(one, spec.name)


@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_everything_goes_on_soon_after_a_node_is_gone(cluster: NatsCluster, how: str) -> None:
    """The node leads the stream, and has the connections of a reader, a worker and a service."""
    async with cluster.connected(cluster.nodes[0]) as bus:
        await make_streams(bus)
        goes_away = await cluster.leader_of(bus, LOGS)
    async with connected_workload(cluster, goes_away) as workload:
        async with workload.running():
            await until(lambda: all(len(activity.succeeded) > 20 for activity in workload.activities))
            if how == "killed":
                goes_away.kill()
            else:
                goes_away.pause()
            await _until_all_go_on(workload)
            if how == "killed":
                goes_away.start()
            else:
                goes_away.resume()
            await asyncio.sleep(2)
            await _until_all_go_on(workload)
        await _check_that_nothing_is_lost_or_doubled(cluster, goes_away, workload)
    for activity in workload.activities:
        print(f"{how}: {activity.standstill_seconds:4.1f} s without {activity.name}")
    assert max(activity.standstill_seconds for activity in workload.activities) < STANDSTILL_SECONDS


@pytest.mark.long
async def test_nothing_is_lost_when_one_node_after_the_other_is_gone_for_a_while(cluster: NatsCluster) -> None:
    async with cluster.connected(cluster.nodes[0]) as bus:
        await make_streams(bus)
    async with connected_workload(cluster, cluster.nodes[0]) as workload, cluster.connected(cluster.nodes[1]) as bus:
        async with workload.running():
            for number in range(9):
                node = cluster.nodes[number % REPLICAS]
                killed = number % 2 == 0
                (node.kill if killed else node.pause)()
                await asyncio.sleep(number)
                await _until_all_go_on(workload)
                (node.start if killed else node.resume)()
                for stream, reader in (
                    (LOGS, "reader"),
                    (JOBS, workload.job.subject.removeprefix("jobs.").replace(".", "-")),
                ):
                    await cluster.leader_of(bus, stream)
                    await cluster.leader_of(bus, stream, reader)
            await _until_all_go_on(workload)
        await _check_that_nothing_is_lost_or_doubled(cluster, cluster.nodes[0], workload)
    for activity in workload.activities:
        print(f"{activity.standstill_seconds:4.1f} s at most without {activity.name}")


async def _until_all_go_on(workload: Workload) -> None:
    before = [len(activity.succeeded) for activity in workload.activities]
    await until(
        lambda: all(
            len(activity.succeeded) > count + 20 for activity, count in zip(workload.activities, before, strict=True)
        ),
        STANDSTILL_SECONDS,
    )


async def _check_that_nothing_is_lost_or_doubled(cluster: NatsCluster, node: Node, workload: Workload) -> None:
    acknowledged = {text for activity in workload.appended for text in activity.succeeded}
    await until(lambda: acknowledged <= set(workload.read.succeeded), 20)
    await until(lambda: set(workload.enqueued.succeeded) <= set(workload.worked.succeeded), 20)
    async with cluster.connected(node) as bus:
        texts = collections.Counter(await stored(bus, LOGS))
    assert acknowledged <= set(texts)
    assert max(texts.values()) == 1


async def test_a_silent_server_is_left_within_seconds_though_much_is_unsent(tmp_path: Path) -> None:
    """nats-py alone never leaves it: it waits until all that was written is sent."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    one, other = Nats(tmp_path / "one"), Nats(tmp_path / "other")
    with running(one):
        async with connected(one, nats_ping_seconds=0.5) as bus:
            with running(other):
                bus.client.set_server_pool([one.url, other.url])
                one.pause()
                started = time.monotonic()
                for _ in range(30):
                    await bus.client.publish("nobody.listens", b"x" * 1_000_000)
                await until(lambda: (address := bus.client.connected_url) is not None and address.port == other.port)
                print(f"another server after {time.monotonic() - started:.1f} s, with pings of 0.5 s")
                await until(lambda: bus.is_connected)
                one.resume()
                assert (await bus.client.request("$SYS.REQ.USER.INFO", timeout=2)).data


@pytest.mark.parametrize("how", ["silent", "silent, much is unsent", "killed"])
async def test_a_connection_that_is_closed_while_its_server_goes_away_is_not_made_again(
    tmp_path: Path, how: str
) -> None:
    """nats-py alone leaves a task that connects for ever."""
    nats, before = Nats(tmp_path), asyncio.all_tasks()
    with running(nats):
        async with connected(nats, nats_ping_seconds=0.2) as bus:
            if how == "killed":
                nats.kill()
            else:
                nats.pause()
            for _ in range(30 if "unsent" in how else 0):
                await bus.client.publish("nobody.listens", b"x" * 1_000_000)
        assert bus.client.is_closed
        assert asyncio.all_tasks() <= before
        if how != "killed":
            nats.resume()


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2])
async def test_a_connection_that_is_closed_while_it_is_made_anew_stays_closed(tmp_path: Path, delay: float) -> None:
    """An attempt of nats-py that ends then opens the client again."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    one, other, before = Nats(tmp_path / "one"), Nats(tmp_path / "other"), asyncio.all_tasks()
    with running(other):
        with running(one):
            async with connected(one) as bus:
                bus.client.set_server_pool([other.url])
                one.kill()
                await asyncio.sleep(delay)
        assert bus.client.is_closed
        assert asyncio.all_tasks() <= before
    await asyncio.sleep(0.2)
    assert bus.client.is_closed
    assert asyncio.all_tasks() <= before


async def test_services_start_without_a_quorum_say_so_and_work_when_it_is_there(tmp_path: Path) -> None:
    """One of three servers runs; two replicas of evaluation want to make the work queue."""
    mongo, cluster, http_port = Mongo(tmp_path), NatsCluster(tmp_path), free_port()
    environment = {"EVERLOOP_NATS_URL": cluster.url, "EVERLOOP_NATS_PASSWORD": PASSWORD, "EVERLOOP_JOBS_REPLICAS": "3"}
    processes: list[Process] = []
    for name in ("evaluation", "evaluation", "gateway"):
        (folder := tmp_path / f"process{len(processes)}").mkdir()
        own = {"EVERLOOP_NATS_USER": name, "EVERLOOP_HTTP_PORT": str(http_port)}
        processes.append(service(name, folder, cluster.nodes[0], mongo, **environment, **own))

    async def state() -> str:
        with contextlib.suppress(httpx.TransportError):
            readiness = (await http.get(f"http://127.0.0.1:{http_port}/readyz", timeout=10)).json()
            return str(readiness["services"]["evaluation"])
        return "no gateway yet"

    with contextlib.ExitStack() as stack:
        stack.callback(cluster.stop)
        cluster.nodes[0].start()
        for process in (mongo, *processes):
            stack.enter_context(running(process))
        await initiate_replica_set(
            f"mongodb://127.0.0.1:{mongo.port}/?directConnection=true", f"127.0.0.1:{mongo.port}"
        )
        async with httpx.AsyncClient() as http:
            await until(lambda: _is(state(), "misses jobs, startup"), 40)
            for node in cluster.nodes[1:]:
                node.start()
            await until(lambda: _is(state(), "ready"), 40)
        async with cluster.connected(cluster.nodes[0]) as bus:
            await bus.enqueue(job_of(job_class()))
            await cluster.leader_of(bus, JOBS)


async def _is(state: Awaitable[str], expected: str) -> bool:
    return await state == expected


async def test_an_append_waits_for_a_leader(cluster: NatsCluster) -> None:
    async with cluster.connected(cluster.nodes[0]) as bus:
        await make_streams(bus)
        await cluster.leader_of(bus, LOGS)
        stepped_down = bus.client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{LOGS}", timeout=2)
        appends = (bus.append("logs.test", b"x", message_id=ids.mint("x")) for _ in range(20))
        _, *sequences = await asyncio.gather(stepped_down, *appends)
        assert len(set(sequences)) == 20
