"""The image data in memory is bounded, whoever names how many images how often."""

import asyncio

import pytest

from services.generation.completions import image_memory
from services.generation.completions.image_memory import MAX_ORGANISATION_BYTES, MAX_REQUEST_BYTES, ImageMemory
from shared.errors import TooLarge, Unavailable

HALF = MAX_ORGANISATION_BYTES // 2


class Run:
    """Who holds memory."""


async def test_what_never_fits_is_refused_at_once_and_named() -> None:
    with pytest.raises(TooLarge, match=r"request to OpenAI takes 50,331,649 bytes"):
        await ImageMemory().acquire(Run(), "tm_1", "OpenAI", MAX_REQUEST_BYTES + 1)


async def test_a_run_does_not_wait_for_what_it_holds_itself() -> None:
    memory, run = ImageMemory(), Run()
    await memory.acquire(run, "tm_1", "OpenAI", HALF + 1)
    async with asyncio.timeout(1):
        with pytest.raises(TooLarge, match=r"request to Google takes 25,165,824 bytes; at most 25,165,823 fit"):
            await memory.acquire(run, "tm_1", "Google", HALF)


async def test_a_run_waits_until_another_of_its_organisation_has_ended() -> None:
    memory, first, second = ImageMemory(), Run(), Run()
    await memory.acquire(first, "tm_1", "OpenAI", HALF)
    await memory.acquire(first, "tm_1", "Google", HALF)
    waiting = asyncio.create_task(memory.acquire(second, "tm_1", "OpenAI", 1))
    await asyncio.sleep(0)
    await asyncio.wait_for(memory.acquire(Run(), "tm_2", "OpenAI", HALF), 1)
    assert not waiting.done()
    memory.release(first)
    await asyncio.wait_for(waiting, 1)


async def test_all_organisations_together_are_bounded_and_a_wait_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_memory, "_WAIT_SECONDS", 0.01)
    memory, runs = ImageMemory(), [Run() for _ in range(4)]
    for number, run in enumerate(runs):
        await memory.acquire(run, f"tm_{number // 2}", "OpenAI", HALF)
    with pytest.raises(Unavailable, match="Try again"):
        await memory.acquire(Run(), "tm_9", "OpenAI", 1)
    for run in runs:
        memory.release(run)
        memory.release(run)
    await memory.acquire(Run(), "tm_9", "OpenAI", HALF)
