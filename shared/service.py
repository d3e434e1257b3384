"""What the four services behind the gateway have in common: start, tell how they are, drain, stop."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import uvloop

from shared import telemetry
from shared.bus import Bus, Router
from shared.contracts.health import GetHealth, Health, health_of
from shared.settings import ServiceSettings

logger = logging.getLogger(__name__)

Probe = Callable[[], Awaitable[bool]]
Build = Callable[[Bus], AbstractAsyncContextManager[dict[str, Probe]]]
"""Opens what the service needs, attaches its routers to the bus, yields a probe for each thing that may be away."""


def collect_garbage_less_often() -> None:
    """Messages come and go by the thousand and hold no cycles: looking for some took half the time to store a log."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def run(name: str, settings: ServiceSettings, build: Build) -> None:
    """Run a service until SIGTERM or SIGINT; requests and jobs in hand are finished first.

    Exit code 1 when a task that `bus.supervise` runs has ended before its time: nothing dies quietly.
    """
    telemetry.start(f"everloop-{name}", settings.log_level)
    collect_garbage_less_often()
    bus = Bus(settings, name)
    try:
        uvloop.run(_run(bus, build))
    finally:
        telemetry.stop()
    if bus.failed.is_set():
        sys.exit(1)


async def _run(bus: Bus, build: Build) -> None:
    stopped, serving = asyncio.Event(), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    work = asyncio.create_task(_serve(bus, build, serving, stopped))
    reasons = {asyncio.create_task(stopped.wait()), asyncio.create_task(bus.failed.wait())}
    await asyncio.wait({work, *reasons}, return_when=asyncio.FIRST_COMPLETED)
    stopped.set()
    for reason in reasons:
        reason.cancel()
    if not serving.is_set():
        work.cancel()  # it still waits for its peers; there is nothing to finish
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _serve(bus: Bus, build: Build, serving: asyncio.Event, stopped: asyncio.Event) -> None:
    await bus.open()
    async with build(bus) as probes:
        health: Router[dict[str, Probe]] = Router()
        health.answers(health_of(bus.service))(_health)
        health.attach(bus, probes)
        await bus.serve()
        serving.set()
        logger.info("ready")
        await stopped.wait()
        logger.info("stopping")
        await bus.close()


async def _health(_: GetHealth, probes: dict[str, Probe]) -> Health:
    """Every part's own answer."""
    names = list(probes)
    answers = await asyncio.gather(*(probes[name]() for name in names))
    return Health(ready=all(answers), parts=dict(zip(names, answers, strict=True)))
