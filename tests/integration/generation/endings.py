"""Calls that end in every way, and what must be left of them: nothing."""

import asyncio
import contextlib
import gc
import random
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

_MAX_SECONDS = 0.06
"""Before which a call is cancelled, if it is: some at every stage."""
_AT_ONCE = 100

Call = Callable[[str, float], Awaitable[object]]
"""Makes one call to a URL, with a timeout in seconds."""


async def call_and_end_in_every_way(call: Call, urls: list[str], count: int, *, seed: int) -> dict[str, int]:
    """Make `count` calls to random ones of the URLs, most of which are cancelled or time out at a random moment.

    Return how many ended how: `returned`, `cancelled`, or the name of an exception.
    """
    choices, outcomes, slots = random.Random(seed), dict[str, int](), asyncio.Semaphore(_AT_ONCE)  # noqa: S311

    async def one(url: str, ends: str, seconds: float) -> None:
        async with slots:
            task = asyncio.ensure_future(call(url, seconds if ends == "timeout" else 0.5))
            if ends == "cancelled":
                await asyncio.sleep(seconds)
                task.cancel()
                if seconds < _MAX_SECONDS / 10:  # also while it cleans up
                    await asyncio.sleep(0)
                    task.cancel()
            try:
                await task
                outcome = "returned"
            except asyncio.CancelledError:
                outcome = "cancelled"
            except Exception as error:  # noqa: BLE001 - each is counted
                outcome = type(error).__name__
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

    await asyncio.gather(
        *(
            one(
                choices.choice(urls),
                choices.choice(["cancelled", "cancelled", "timeout", "itself"]),
                choices.choice([0.0, choices.uniform(0, 0.005), choices.uniform(0, _MAX_SECONDS)]),
            )
            for _ in range(count)
        )
    )
    return outcomes


@asynccontextmanager
async def leaving_nothing() -> AsyncIterator[None]:
    """Fail if the block leaves a task, a socket, an exception that nobody retrieved, or something for the collector."""
    problems: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: problems.append(str(context)))
    sockets, tasks = _open_sockets(), asyncio.all_tasks()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        try:
            yield
            await until(lambda: _open_sockets() <= sockets and asyncio.all_tasks() <= tasks)
            gc.collect()
            await asyncio.sleep(0.05)
        finally:
            loop.set_exception_handler(None)
    assert asyncio.all_tasks() <= tasks, asyncio.all_tasks() - tasks
    assert _open_sockets() <= sockets, _open_sockets() - sockets
    assert problems == []
    assert [str(warning.message) for warning in warned if issubclass(warning.category, ResourceWarning)] == []


async def until(condition: Callable[[], Any]) -> None:
    """Wait until the condition holds, at most 5 s."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def _open_sockets() -> set[str]:
    links = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.add(str(descriptor.readlink()))
    return {link for link in links if link.startswith("socket:")}
