"""Fetches pages over the bus; one that is too large for a message is fetched in smaller requests."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pydantic import BaseModel

from shared.contracts.logs import Page
from shared.errors import TooLarge

T = TypeVar("T", bound=BaseModel)

PAGE_TIMEOUT_SECONDS = 30.0
"""A search may have to read all logs of a project."""
COUNT_TIMEOUT_SECONDS = 3.0
"""The answer to a change is given without the number of logs rather than later."""
_BATCH_SIZE = 100
MAX_PAGE_BYTES = 16 * 1024 * 1024
"""Of JSON, of a page that is fetched in parts."""


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
    """Return the items of `page` and the total, in smaller pages where it is too large for a message.

    `fetch` returns both for any page. Raises TooLarge if one item alone is too large, or all of them.
    """
    try:
        return await fetch(page)
    except TooLarge:
        if page.size == 1:
            raise
    items: list[T] = []
    total = size = 0
    parts = deque(_split(page))
    while parts:
        part = parts.popleft()
        try:
            fetched, total = await fetch(part)
        except TooLarge:
            if part.size == 1:
                raise
            parts.extendleft(reversed(_split(part)))
            continue
        items += fetched
        size += sum(len(item.model_dump_json()) for item in fetched)
        if size > MAX_PAGE_BYTES:
            raise TooLarge(f"The first {len(items)} entries of this page are all that fit; ask for a smaller size.")
        if (part.number + 1) * part.size >= total:
            break
    return items, total


def _split(page: Page) -> list[Page]:
    """Return the pages of the next smaller size that together have what `page` has: two, if its size is even."""
    count = next(divisor for divisor in range(2, page.size + 1) if page.size % divisor == 0)
    return [Page(number=page.number * count + index, size=page.size // count) for index in range(count)]
