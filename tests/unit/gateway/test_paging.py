"""Pages that are too large for one message are fetched in parts."""

import pytest
from pydantic import BaseModel

from services.gateway import paging
from services.gateway.paging import fetch_page
from shared.contracts.logs import Page
from shared.errors import TooLarge


class Item(BaseModel):
    number: int


class Store:
    """Items, of which a reply holds so many; those in `huge` fit into none."""

    def __init__(self, total: int, fit: int, huge: frozenset[int] = frozenset()) -> None:
        self.total, self.fit, self.huge = total, fit, huge
        self.fetched: list[Page] = []

    async def fetch(self, page: Page) -> tuple[list[Item], int]:
        self.fetched.append(page)
        first = page.number * page.size
        numbers = range(first, min(first + page.size, self.total))
        if len(numbers) > self.fit or self.huge.intersection(numbers):
            raise TooLarge("The answer is too large.")
        return [Item(number=number) for number in numbers], self.total


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 2, 7, 10, 96, 97])
@pytest.mark.parametrize("fit", [1, 3, 50])
async def test_a_page_in_parts_has_what_the_whole_page_has(number: int, size: int, fit: int) -> None:
    page = Page(number=number, size=size)
    whole, total = await Store(150, fit=1000).fetch(page)
    assert await fetch_page(page, Store(150, fit).fetch) == (whole, total)


async def test_a_large_page_takes_few_requests() -> None:
    store = Store(5000, fit=499)
    items, _ = await fetch_page(Page(number=1, size=1000), store.fetch)
    assert [item.number for item in items] == list(range(1000, 2000))
    assert len(store.fetched) < 10


async def test_nothing_is_fetched_behind_the_last_item() -> None:
    store = Store(3, fit=2)
    await fetch_page(Page(number=0, size=1000), store.fetch)
    assert sum(page.size for page in store.fetched if page.size <= 2) <= 6


async def test_an_item_that_fits_into_no_message_is_an_error() -> None:
    with pytest.raises(TooLarge, match="The answer is too large"):
        await fetch_page(Page(number=0, size=8), Store(8, fit=8, huge=frozenset({5})).fetch)


async def test_parts_that_are_too_large_together_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MAX_PAGE_BYTES", 100)
    with pytest.raises(TooLarge, match="ask for a smaller size"):
        await fetch_page(Page(number=0, size=100), Store(100, fit=10).fetch)
