"""A service named `probe` for tests of the bus: attached in the test's process, or run as a module in its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from shared.bus import Bus, Router
from shared.contracts.message import Command, SystemQuery
from shared.contracts.value import Value
from shared.errors import Conflict
from shared.service import Probes, Service
from shared.settings import ServiceSettings


class Said(Value):
    """A text."""

    text: str


class Say(SystemQuery[Said]):
    """Returns `text` repeated `times` times, after `after_seconds`."""

    subject: ClassVar[str] = "probe.say"

    text: str
    after_seconds: float = 0
    times: int = 1


class Refuse(SystemQuery[Said]):
    """Raises Conflict if `how` is `conflict` or (not encodable) `surrogate`, otherwise ZeroDivisionError."""

    subject: ClassVar[str] = "probe.refuse"

    how: str


class Count(Command[Said]):
    """Streams the numbers below `to`, then the text `done` as the answer."""

    subject: ClassVar[str] = "probe.count"

    organisation: str = "tm_1"
    to: int
    every_seconds: float = 0
    fail_at: int = -1
    forget_the_answer: bool = False


class Number(Value):
    """One number."""

    value: int


@dataclass
class Seen:
    """What the handlers have done, for assertions."""

    counted: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cleaned: bool = False


router = Router[Seen]()


@router.answers(Say, workers=4)
async def say(query: Say, seen: Seen) -> Said:
    seen.said.append(query.text)
    await asyncio.sleep(query.after_seconds)
    return Said(text=query.text * query.times)


@router.answers(Refuse)
async def refuse(query: Refuse, _: Seen) -> Said:
    if query.how == "conflict":
        raise Conflict("The name is taken.", origin="Probe", retry_after_seconds=7)
    if query.how == "surrogate":
        raise Conflict("half of a pair: \ud83d")
    raise ZeroDivisionError("the secret is 42")


@router.streams(Count)
async def count(command: Count, seen: Seen) -> AsyncIterator[Value]:
    try:
        for value in range(command.to):
            if value == command.fail_at:
                raise Conflict("No further.")
            seen.counted.append(value)
            yield Number(value=value)
            await asyncio.sleep(command.every_seconds)
        if not command.forget_the_answer:
            yield Said(text="done")
    finally:
        await asyncio.sleep(0.01)  # saving what there is takes a moment
        seen.cleaned = True
        seen.ended.set()


@asynccontextmanager
async def open_probe(bus: Bus) -> AsyncIterator[Probes]:
    """Attach the handlers."""
    router.attach(bus, Seen())
    yield {}


if __name__ == "__main__":
    Service("probe", ServiceSettings(), open_probe).run()
