"""A service named `probe` for tests of the bus: attached in the test's process, or run as a module in its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from shared.bus import Bus, Router
from shared.contracts.message import Command, SystemQuery
from shared.contracts.permissions import EDIT_PROMPTS, Permission
from shared.contracts.principal import Principal
from shared.contracts.value import Value
from shared.errors import Conflict
from shared.service import Probes, Service
from shared.settings import ServiceSettings
from tests.principals import member


class Text(Value):
    """A text."""

    text: str


class Echo(SystemQuery[Text]):
    """Returns `text` repeated `times` times, after `after_seconds`."""

    subject: ClassVar[str] = "probe.echo"

    text: str
    after_seconds: float = 0
    times: int = 1


class Fail(SystemQuery[Text]):
    """Raises Conflict if `how` is `conflict` or (not encodable) `surrogate`, otherwise ZeroDivisionError."""

    subject: ClassVar[str] = "probe.fail"

    how: str


class Count(Command[Text]):
    """Streams the numbers below `to`, then the text `done` as the answer."""

    subject: ClassVar[str] = "probe.count"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS

    principal: Principal | None = member("tm_1")
    to: int
    every_seconds: float = 0
    fail_at: int = -1
    omit_answer: bool = False
    padding: int = 0
    """Characters sent with each number."""


class Number(Value):
    """One number."""

    value: int
    padding: str = ""


@dataclass
class Calls:
    """What the handlers have done, for assertions."""

    counted: list[int] = field(default_factory=list)
    echoed: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cleaned: bool = False


router = Router[Calls]()


@router.answers(Echo, workers=4)
async def echo(query: Echo, calls: Calls) -> Text:
    calls.echoed.append(query.text)
    await asyncio.sleep(query.after_seconds)
    return Text(text=query.text * query.times)


@router.answers(Fail)
async def fail(query: Fail, _: Calls) -> Text:
    if query.how == "conflict":
        raise Conflict("The name is taken.", origin="Probe", retry_after_seconds=7)
    if query.how == "surrogate":
        raise Conflict("half of a pair: \ud83d")
    raise ZeroDivisionError("the secret is 42")


@router.streams(Count)
async def count(command: Count, calls: Calls) -> AsyncIterator[Value]:
    try:
        for value in range(command.to):
            if value == command.fail_at:
                raise Conflict("No further.")
            calls.counted.append(value)
            yield Number(value=value, padding="x" * command.padding)
            await asyncio.sleep(command.every_seconds)
        if not command.omit_answer:
            yield Text(text="done")
    finally:
        await asyncio.sleep(0.01)  # saving what there is takes a moment
        calls.cleaned = True
        calls.ended.set()


@asynccontextmanager
async def open_probe(bus: Bus, _: Probes) -> AsyncIterator[None]:
    """Attach the handlers."""
    router.attach(bus, Calls())
    yield


if __name__ == "__main__":
    Service("probe", ServiceSettings(), open_probe).run()
