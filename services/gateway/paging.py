"""Fetches pages over the bus; one that is too large for a message is fetched in smaller requests."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from shared.contracts.logs import Page
from shared.errors import TooLarge

T = TypeVar("T")

PAGE_TIMEOUT_SECONDS = 30.0
"""A search may have to read all logs of a project."""
COUNT_TIMEOUT_SECONDS = 3.0
"""The answer to a change is given without the number of logs rather than later."""
_BATCH_SIZE = 100


async def fetch_all(fetch: Callable[[Page], Awaitable[tuple[list[T], int]]]) -> list[T]:
    """Return the items of all pages; `fetch` returns the items of one page and the total."""
    items, total = await fetch_page(Page(size=_BATCH_SIZE), fetch)
    for number in range(1, -(-total // _BATCH_SIZE)):
        items += (await fetch_page(Page(number=number, size=_BATCH_SIZE), fetch))[0]
    return items


async def fetch_by_ids(ids: Sequence[str], fetch: Callable[[Sequence[str]], Awaitable[list[T]]]) -> list[T]:
    """Return what `fetch` returns for `ids`, in halves where all together are too large.

    Raises TooLarge if one alone is.
    """
    try:
        return await fetch(ids)
    except TooLarge:
        if len(ids) == 1:
            raise
    half = len(ids) // 2
    return await fetch_by_ids(ids[:half], fetch) + await fetch_by_ids(ids[half:], fetch)


async def fetch_page(page: Page, fetch: Callable[[Page], Awaitable[tuple[list[T], int]]]) -> tuple[list[T], int]:
    """Return the items of `page` and the total, item by item where the page is too large.

    `fetch` returns both for any page. Raises TooLarge if one item alone is too large.
    """
    try:
        return await fetch(page)
    except TooLarge:
        if page.size == 1:
            raise
    items: list[T] = []
    total = 0
    first = page.number * page.size
    for number in range(first, first + page.size):
        single, total = await fetch(Page(number=number, size=1))
        items += single
        if number + 1 >= total:
            break
    return items, total
