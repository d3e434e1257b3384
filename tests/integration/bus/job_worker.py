"""A service that works on jobs, for the tests: in the test's process, or run as a module, a process of its own.

As a process it writes a line for everything its handler does to the file `JOB_WORKER_LOG`.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from shared import mongo
from shared.bus import Bus, Router
from shared.bus.jetstream import dead_letters, jobs
from shared.contracts.message import Job
from shared.errors import Invalid, Unavailable
from shared.service import Probes, Service
from shared.settings import DatabaseSettings

TRIES = 3
COUNT_WORKERS = 8


class Errand(Job):
    """Does what `how` says: `done`, `kill`, `unavailable` or `invalid`, after a while."""

    subject: ClassVar[str] = "jobs.probe.errand"

    how: str = "done"
    seconds: float = 0


class Count(Job):
    """Counts its executions in the database: one document a job."""

    subject: ClassVar[str] = "jobs.probe.count"

    seconds: float = 0


@dataclass
class Deps:
    """What the handlers work with."""

    note: Callable[[str], None]
    counts: Any = None


router = Router[Deps]()


@router.works(Errand, workers=4, tries=TRIES)
async def run_errand(job: Errand, deps: Deps) -> None:
    deps.note(f"begin {job.id}")
    await asyncio.sleep(job.seconds)
    if job.how == "kill" and "JOB_WORKER_KILLS_NOT" not in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    if job.how == "unavailable":
        raise Unavailable("The database is away.")
    if job.how == "invalid":
        raise Invalid("`how` cannot be done.")
    deps.note(f"end {job.id}")


@router.works(Count, workers=COUNT_WORKERS, tries=20)
async def count(job: Count, deps: Deps) -> None:
    await deps.counts.update_one({"_id": job.id}, {"$inc": {"executions": 1}}, upsert=True)
    await asyncio.sleep(job.seconds)


def _note(line: str) -> None:
    with Path(os.environ["JOB_WORKER_LOG"]).open("a") as file:
        file.write(f"{line} {os.getpid()}\n")


async def _end_soon() -> None:
    await asyncio.sleep(0.5)
    raise ZeroDivisionError


@asynccontextmanager
async def open_worker(bus: Bus, _: Probes) -> AsyncIterator[None]:
    """Work on both kinds of job; with `JOB_WORKER_ENDS` beside a background task that ends with an error."""
    counts = None
    if os.environ.get("EVERLOOP_MONGO_URL"):
        counts = mongo.connect(DatabaseSettings(), bus.service)["counts"]
    router.attach(bus, Deps(_note, counts))
    if "JOB_WORKER_ENDS" in os.environ:
        bus.supervise(_end_soon(), name="a task that ends")
    yield


def _killed_after_its_dead_letter() -> None:
    append = dead_letters.append_dead_letter

    async def append_and_die(*arguments: Any, **options: Any) -> None:
        await append(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    pytest.MonkeyPatch().setattr(jobs, "append_dead_letter", append_and_die)


if __name__ == "__main__":
    jobs.ACK_WAIT_SECONDS = 1.0
    jobs.FIRST_DELAY_SECONDS = 0.1
    if "JOB_WORKER_DIES_AFTER_DEAD_LETTER" in os.environ:
        _killed_after_its_dead_letter()
    Service("probe", DatabaseSettings(), open_worker).run()
