"""Streams, jobs and workers for the tests of jobs."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from services.evaluation import main as evaluation
from services.evaluation.settings import Settings
from services.logging.main import streams
from services.logging.settings import LoggingSettings
from shared import ids
from shared.bus import JOBS, Bus, Router, ensure_stream
from shared.contracts.message import Job
from tests.integration.servers import ROOT, SECRET, Nats, Process, connected

ORGANISATION = "tm_jobs"
Handler = Callable[[Job, None], Any]


async def make_streams(bus: Bus) -> None:
    """Create `JOBS` and the streams of logging as the services do, without earlier messages."""
    manager = bus.client.jetstream()
    specs = [evaluation.jobs(Settings()), *streams(LoggingSettings())]
    for spec in specs:
        with contextlib.suppress(NotFoundError):
            await manager.delete_stream(spec.name)
        await ensure_stream(bus, spec)


def job_class() -> type[Job]:
    """Return a new class of job with a subject of its own."""
    what = ids.mint("w").replace("_", "")
    return type("Something", (Job,), {"__module__": __name__, "subject": f"jobs.probe.{what}"})


def job_of(cls: type[Job], job_id: str | None = None) -> Job:
    """Return a job of this class, by default with a new id."""
    return cls(id=job_id or ids.mint("job"), organisation=ORGANISATION)


@contextlib.asynccontextmanager
async def working(nats: Nats, job: type[Job], handler: Handler, **options: int) -> AsyncIterator[Bus]:
    """Yield the bus of a worker in this process, whose `handler` works on `job`."""
    router = Router[None]()
    router.works(job, **options)(handler)
    async with connected(nats, "probe") as bus:
        router.attach(bus, None)
        yield bus


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until `condition()` or its awaited result is true. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert time.monotonic() < deadline, condition
        await asyncio.sleep(0.03)


async def waiting(bus: Bus) -> int:
    """Return the number of jobs in the stream, those being worked on included."""
    return int((await bus.client.jetstream().stream_info(JOBS)).state.messages)


async def is_empty(bus: Bus) -> bool:
    """Return whether the stream has no jobs."""
    return await waiting(bus) == 0


async def dead_letters(bus: Bus) -> list[RawStreamMsg]:
    """Return every dead letter, oldest first."""
    manager = bus.client.jetstream()
    state = (await manager.stream_info("DEAD")).state
    found = []
    for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
        with contextlib.suppress(NotFoundError):
            found.append(await manager.get_msg("DEAD", sequence))
    return found


class Worker(Process):
    """`job_worker` as a process."""

    def __init__(self, nats: Nats, folder: Path, name: str = "worker", **environment: str) -> None:
        self.notes = folder / "notes.log"
        super().__init__(
            [sys.executable, "-P", "-m", "tests.integration.bus.job_worker"],
            folder / f"{name}.log",
            {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "EVERLOOP_NATS_URL": nats.url,
                "EVERLOOP_SECRET": SECRET,
                "JOB_WORKER_LOG": str(self.notes),
                **environment,
            },
        )

    def noted(self, what: str) -> int:
        """Return how many lines of the log of all workers on this folder begin with `what`."""
        return (
            sum(line.startswith(f"{what} ") for line in self.notes.read_text().splitlines())
            if self.notes.exists()
            else 0
        )
