"""Pages of things that may be large: one that does not fit into a message of the bus is asked for piece by piece."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.contracts.logs import Page
from shared.errors import TooLarge

T = TypeVar("T")

PAGE_SECONDS = 30.0
"""A search may have to read a whole project."""
COUNT_SECONDS = 3.0
"""What was changed is answered without a count of its logs rather than later."""


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
