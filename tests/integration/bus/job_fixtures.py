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
    """`JOBS` and those of logging, as the services make them, empty."""
    manager = bus.client.jetstream()
    specs = [evaluation.jobs(Settings()), *streams(LoggingSettings())]
    for spec in specs:
        with contextlib.suppress(NotFoundError):
            await manager.delete_stream(spec.name)
        await ensure_stream(bus, spec)


def job_class() -> type[Job]:
    """A class of job nobody else works on."""
    what = ids.mint("w").replace("_", "")
    return type("Something", (Job,), {"__module__": __name__, "subject": f"jobs.probe.{what}"})


def job_of(cls: type[Job], job_id: str | None = None) -> Job:
    """One job."""
    return cls(id=job_id or ids.mint("job"), organisation=ORGANISATION)


@contextlib.asynccontextmanager
async def working(nats: Nats, job: type[Job], handler: Handler, **options: int) -> AsyncIterator[Bus]:
    """A replica of the service in this process."""
    router = Router[None]()
    router.works(job, **options)(handler)
    async with connected(nats, "probe") as bus:
        router.attach(bus, None)
        yield bus


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for a condition, or for a coroutine function that says so."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert time.monotonic() < deadline, condition
        await asyncio.sleep(0.03)


async def waiting(bus: Bus) -> int:
    """How many jobs are in the stream: those in hand included."""
    return int((await bus.client.jetstream().stream_info(JOBS)).state.messages)


async def is_empty(bus: Bus) -> bool:
    """Whether all jobs are settled."""
    return await waiting(bus) == 0


async def dead_letters(bus: Bus) -> list[RawStreamMsg]:
    """All there are, oldest first."""
    manager = bus.client.jetstream()
    state = (await manager.stream_info("DEAD")).state
    found = []
    for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
        with contextlib.suppress(NotFoundError):
            found.append(await manager.get_msg("DEAD", sequence))
    return found


class Worker(Process):
    """The tests' service as a process of its own."""

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
        """How many lines begin with `what`: by any worker on this folder."""
        return (
            sum(line.startswith(f"{what} ") for line in self.notes.read_text().splitlines())
            if self.notes.exists()
            else 0
        )
