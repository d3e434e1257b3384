"""Runs a service process: opens its resources, serves, answers health checks, and shuts down on SIGTERM or SIGINT."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from shared import telemetry
from shared.bus import Bus, Router
from shared.contracts.health import GetHealth, Health, health_query
from shared.settings import ServiceSettings

logger = logging.getLogger(__name__)

_M_MMAP_THRESHOLD = -3
_RELEASE_SECONDS = 5.0
"""Between two looks at the memory of the process."""
_KEPT_BYTES = 64 * 1024 * 1024
"""What a process may take, beyond what it took when it was ready, before it gives memory back: caches, tables."""

Probe = Callable[[], Awaitable[bool]]
"""Returns whether one dependency of a service (its database, …) answers at the moment."""
Probes = dict[str, Probe]


@dataclass(frozen=True)
class Service:
    """A service that has not started yet; each `main.py` has a `create_service(settings)` that returns it."""

    name: str
    """On the bus: queue group and first token of its subjects."""
    settings: ServiceSettings
    open: Callable[[Bus, Probes], AbstractAsyncContextManager[None]]
    """Opens the service's resources and attaches its routers to the connected bus; closes the resources afterwards.

    It adds a probe for each dependency beside the bus before it waits for one: health checks are answered meanwhile."""

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; requests and jobs in hand are finished first.

        Exits with code 1 if a task that `bus.supervise` runs has ended before the process was told to stop.
        """
        telemetry.setup(f"everloop-{self.name}", self.settings.log_level)
        _tune_garbage_collection()
        _return_large_blocks()
        bus = Bus(self.settings, self.name)
        try:
            uvloop.run(self._run(bus))
        finally:
            telemetry.shutdown()
        if bus.failed.is_set():
            sys.exit(1)

    async def _run(self, bus: Bus) -> None:
        stopped, serving = asyncio.Event(), asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
        work = asyncio.create_task(self._serve(bus, serving, stopped))
        reasons_to_stop = {asyncio.create_task(stopped.wait()), asyncio.create_task(bus.failed.wait())}
        await asyncio.wait({work, *reasons_to_stop}, return_when=asyncio.FIRST_COMPLETED)
        stopped.set()
        for reason in reasons_to_stop:
            reason.cancel()
        if not serving.is_set():
            work.cancel()  # it still waits for NATS or the database; there is nothing to finish
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _serve(self, bus: Bus, serving: asyncio.Event, stopped: asyncio.Event) -> None:
        async def bus_is_connected() -> bool:
            return bus.is_connected

        await bus.open()
        probes: Probes = {"bus": bus_is_connected}

        async def health_while_starting() -> Health:
            health = await _get_health(GetHealth(), probes)
            return health if serving.is_set() else Health(ready=False, parts={**health.parts, "startup": False})

        end_of_start = await bus.answer_late(health_query(self.name).subject, health_while_starting)
        async with self.open(bus, probes):
            try:
                health: Router[Probes] = Router()
                health.answers(health_query(self.name))(_get_health)
                health.attach(bus, probes)
                await bus.start_subscribers()
                serving.set()
                await end_of_start()
                logger.info("ready")
                if (trim := _malloc_trim()) is not None:
                    bus.supervise(_release_memory(trim), "release memory")
                await stopped.wait()
            finally:  # what was accepted since it was opened is finished, however early the stop comes
                logger.info("stopping")
                await bus.close()


def _tune_garbage_collection() -> None:
    """Collect cycles less often: messages hold none, and looking for some took half the time to store a log."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _return_large_blocks() -> None:
    """Give memory back as soon as a large object is freed, where the C library is glibc (mallopt(3)).

    By itself it keeps blocks of up to 32 MiB for later ones, once some were freed; bodies of callers are such blocks.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 512 * 1024)


def _malloc_trim() -> Callable[[int], object] | None:
    """Return malloc_trim(3); None where it is not: elsewhere than on Linux with glibc."""
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
        _resident_bytes()
    except (AttributeError, OSError):
        return None
    return trim


async def _release_memory(trim: Callable[[int], object]) -> None:
    """Give free memory back to the system, by `trim`, while the process takes more than it should.

    The C library returns what is free at the end of its heap; after a crowd, that is a small part of it.
    """
    limit = _resident_bytes() + _KEPT_BYTES
    while True:
        await asyncio.sleep(_RELEASE_SECONDS)
        if _resident_bytes() > limit:
            gc.collect()
            await asyncio.to_thread(trim, 0)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def _get_health(_: GetHealth, probes: Probes) -> Health:
    """Return which probes say yes; they run concurrently."""
    names = list(probes)
    answers = await asyncio.gather(*(probes[name]() for name in names))
    return Health(ready=all(answers), parts=dict(zip(names, answers, strict=True)))
