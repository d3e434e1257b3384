"""Runs a service process: opens its resources, serves, answers health checks, and shuts down on SIGTERM or SIGINT."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import uvloop

from shared import telemetry
from shared.bus import Bus, Router
from shared.contracts.health import GetHealth, Health, health_query
from shared.settings import ServiceSettings

logger = logging.getLogger(__name__)

Probe = Callable[[], Awaitable[bool]]
"""Returns whether one dependency of a service (its database, …) answers at the moment."""
Probes = dict[str, Probe]


@dataclass(frozen=True)
class Service:
    """A service that has not started yet; each `main.py` has a `create_service(settings)` that returns it."""

    name: str
    """On the bus: queue group and first token of its subjects."""
    settings: ServiceSettings
    open: Callable[[Bus], AbstractAsyncContextManager[Probes]]
    """Opens the service's resources, attaches its routers to the connected bus, and yields a probe for each dependency
    beside the bus; closes the resources afterwards."""

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; requests and jobs in hand are finished first.

        Exits with code 1 if a task that `bus.supervise` runs has ended before the process was told to stop.
        """
        telemetry.setup(f"everloop-{self.name}", self.settings.log_level)
        _tune_garbage_collection()
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
        async with self.open(bus) as probes:
            try:
                health: Router[Probes] = Router()
                health.answers(health_query(self.name))(_get_health)
                health.attach(bus, {"bus": bus_is_connected, **probes})
                await bus.start_subscribers()
                serving.set()
                logger.info("ready")
                await stopped.wait()
            finally:  # what was accepted since it was opened is finished, however early the stop comes
                logger.info("stopping")
                await bus.close()


def _tune_garbage_collection() -> None:
    """Collect cycles less often: messages hold none, and looking for some took half the time to store a log."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _get_health(_: GetHealth, probes: Probes) -> Health:
    """Return whether every probe answers; they run concurrently."""
    names = list(probes)
    answers = await asyncio.gather(*(probes[name]() for name in names))
    return Health(ready=all(answers), parts=dict(zip(names, answers, strict=True)))
