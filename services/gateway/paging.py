"""Pages of things that may be large: one that does not fit into a message of the bus is asked for piece by piece."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from shared.contracts.logs import Page
from shared.errors import TooLarge

T = TypeVar("T")

PAGE_SECONDS = 30.0
"""A search may have to read a whole project."""
COUNT_SECONDS = 3.0
"""What was changed is answered without a count of its logs rather than later."""


_AT_ONCE = 100


async def every(ask: Callable[[Page], Awaitable[tuple[list[T], int]]]) -> list[T]:
    """The items of all pages."""
    found, total = await page_of(Page(size=_AT_ONCE), ask)
    for number in range(1, -(-total // _AT_ONCE)):
        found += (await page_of(Page(number=number, size=_AT_ONCE), ask))[0]
    return found


async def by_ids(ids: Sequence[str], ask: Callable[[Sequence[str]], Awaitable[list[T]]]) -> list[T]:
    """What `ask` gives of each; half of them at a time where all are too large."""
    try:
        return await ask(ids)
    except TooLarge:
        if len(ids) == 1:
            raise
    half = len(ids) // 2
    return await by_ids(ids[:half], ask) + await by_ids(ids[half:], ask)


async def page_of(page: Page, ask: Callable[[Page], Awaitable[tuple[list[T], int]]]) -> tuple[list[T], int]:
    """The items of the page and how many there are in all; `ask` gives both for any page."""
    try:
        return await ask(page)
    except TooLarge:
        if page.size == 1:
            raise
    found: list[T] = []
    total = 0
    first = page.number * page.size
    for number in range(first, first + page.size):
        items, total = await ask(Page(number=number, size=1))
        found += items
        if number + 1 >= total:
            break
    return found, total
