"""The evaluation service as a process: it owns the `JOBS` stream."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.js.api import RetentionPolicy

from shared.bus import JOBS, Bus
from shared.contracts.health import health_query
from shared.mongo import initiate_replica_set
from tests.integration.servers import Mongo, Nats, connected, running, service, until_ready


@pytest.fixture
async def evaluation(tmp_path: Path) -> AsyncIterator[tuple[Bus, Mongo]]:
    nats, mongo = Nats(tmp_path), Mongo(tmp_path)
    with running(nats), running(mongo):
        await initiate_replica_set(f"mongodb://127.0.0.1:{mongo.port}", f"127.0.0.1:{mongo.port}")
        environment = {"EVERLOOP_JOBS_MAX_AGE_DAYS": "2"}
        with running(service("evaluation", tmp_path, nats, mongo, **environment)):
            async with connected(nats) as bus:
                yield bus, mongo


async def test_it_creates_the_jobs_stream_and_reports_its_health(evaluation: tuple[Bus, Mongo]) -> None:
    bus, mongo = evaluation
    health = await until_ready(bus, "evaluation")
    assert health.parts == {"bus": True, "database": True, "jobs": True}

    manager = bus.client.jetstream()
    config = (await manager.stream_info(JOBS)).config
    assert (config.subjects, config.retention, config.max_age) == (
        ["jobs.>"],
        RetentionPolicy.WORK_QUEUE,
        2 * 24 * 3600,
    )

    await manager.delete_stream(JOBS)
    assert not (await bus.request(health_query("evaluation")())).parts["jobs"]
    await asyncio.to_thread(mongo.kill)
    assert not (await bus.request(health_query("evaluation")())).parts["database"]
