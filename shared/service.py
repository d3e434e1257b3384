"""The shape of every process: open what it works with, serve, tell how it is, drain, stop."""

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
from shared.contracts.health import GetHealth, Health, health_of
from shared.settings import ServiceSettings

logger = logging.getLogger(__name__)

Probe = Callable[[], Awaitable[bool]]
"""Returns whether one thing that a service needs answers at the moment."""
Probes = dict[str, Probe]


@dataclass(frozen=True)
class Service:
    """A composed process that has not started; each `main.py` has a `create_service(settings)` that returns it."""

    name: str
    """Its name on the bus: queue group, first token of its subjects, NATS user."""
    settings: ServiceSettings
    open: Callable[[Bus], AbstractAsyncContextManager[Probes]]
    """Opens what the service works with, attaches its routers to the connected bus, and yields a probe for each thing
    beside the bus that may be away; closes it all afterwards."""

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; requests and jobs in hand are finished first.

        Exits with code 1 if a task that `bus.supervise` runs has ended before its time: nothing dies quietly.
        """
        telemetry.start(f"everloop-{self.name}", self.settings.log_level)
        _collect_garbage_less_often()
        bus = Bus(self.settings, self.name)
        try:
            uvloop.run(self._run(bus))
        finally:
            telemetry.stop()
        if bus.failed.is_set():
            sys.exit(1)

    async def _run(self, bus: Bus) -> None:
        stopped, serving = asyncio.Event(), asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
        work = asyncio.create_task(self._serve(bus, serving, stopped))
        reasons = {asyncio.create_task(stopped.wait()), asyncio.create_task(bus.failed.wait())}
        await asyncio.wait({work, *reasons}, return_when=asyncio.FIRST_COMPLETED)
        stopped.set()
        for reason in reasons:
            reason.cancel()
        if not serving.is_set():
            work.cancel()  # it still waits for its peers; there is nothing to finish
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _serve(self, bus: Bus, serving: asyncio.Event, stopped: asyncio.Event) -> None:
        async def bus_answers() -> bool:
            return bus.is_online

        await bus.open()
        async with self.open(bus) as probes:
            health: Router[Probes] = Router()
            health.answers(health_of(self.name))(_get_health)
            health.attach(bus, {"bus": bus_answers, **probes})
            await bus.serve()
            serving.set()
            logger.info("ready")
            await stopped.wait()
            logger.info("stopping")
            await bus.close()


def _collect_garbage_less_often() -> None:
    """Messages come and go by the thousand and hold no cycles: looking for some took half the time to store a log."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _get_health(_: GetHealth, probes: Probes) -> Health:
    """Return the answer of every probe, asked at once."""
    names = list(probes)
    answers = await asyncio.gather(*(probes[name]() for name in names))
    return Health(ready=all(answers), parts=dict(zip(names, answers, strict=True)))
