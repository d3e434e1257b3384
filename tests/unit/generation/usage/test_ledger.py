"""The ledger writes increments in batches, each until it is taken; nobody waits for a database that is away."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from services.generation.store import Counts, SpendKey, UsageBatch, UsageKey
from services.generation.usage import ledger as ledgers
from services.generation.usage.ledger import Booking, Ledger
from shared.errors import Unavailable


class RecordingStore:
    """Takes batches when `is_open`; fails with `error` if there is one."""

    def __init__(self) -> None:
        self.written: list[tuple[UsageBatch, str, int]] = []
        self.tried: list[int] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.error: Exception | None = None

    async def add(self, batch: UsageBatch, writer: str, number: int) -> None:
        self.tried.append(number)
        await self.is_open.wait()
        if self.error:
            raise self.error
        self.written.append((batch, writer, number))

    @property
    def nanos(self) -> list[int]:
        """What each batch adds to the organisation."""
        return [batch.spend[total("tm_1")] for batch, _, _ in self.written]


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


@pytest.fixture
async def ledger(store: RecordingStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ledger]:
    monkeypatch.setattr(ledgers, "_RETRY_SECONDS", 0.01)
    made = Ledger(store)
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()


def booking(nanos: int = 5, model: str = "gpt-4", key_id: str | None = "key_1") -> Booking:
    key = UsageKey("tm_1", "2026-11", "openai", model, "pr_1", None, key_id, "usr_1")
    return Booking(key, Counts(calls=1, prompt_tokens=2, cost_nanos=nanos))


def total(organisation: str) -> SpendKey:
    return SpendKey(organisation, "2026-11", "organisation", None)


async def test_a_booking_is_durable_when_its_wait_ends(ledger: Ledger, store: RecordingStore) -> None:
    await ledger.book([booking()]).wait()
    assert store.nanos == [5]
    assert set(store.written[0][0].spend) == {
        total("tm_1"),
        SpendKey("tm_1", "2026-11", "project", "pr_1"),
        SpendKey("tm_1", "2026-11", "key", "key_1"),
    }


async def test_a_call_without_a_key_counts_for_no_key(ledger: Ledger, store: RecordingStore) -> None:
    await ledger.book([booking(key_id=None)]).wait()
    assert {key.scope for key in store.written[0][0].spend} == {"organisation", "project"}


async def test_what_comes_while_a_batch_is_written_is_the_next_batch(ledger: Ledger, store: RecordingStore) -> None:
    store.is_open.clear()
    first = ledger.book([booking(1)])
    await asyncio.sleep(0)
    others = [ledger.book([booking(10), booking(10, "other")]) for _ in range(20)]
    assert ledger.unwritten_spend(total("tm_1")) == 401
    store.is_open.set()
    await asyncio.gather(*(receipt.wait() for receipt in (first, *others)))
    assert store.nanos == [1, 400]
    assert [number for _, _, number in store.written] == [1, 2]
    assert {key.model: counts.calls for key, counts in store.written[1][0].rows.items()} == {"gpt-4": 20, "other": 20}
    assert ledger.unwritten_spend(total("tm_1")) == 0


async def test_a_batch_waits_for_more_only_after_one_of_several_calls(
    ledger: Ledger, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "LINGER_SECONDS", 0.1)
    monkeypatch.setattr(ledgers, "WAIT_SECONDS", 60)

    async def book_twice() -> list[int]:
        """Book a second call when the ledger has had time to begin a batch for the first; return what was written."""
        before, first = len(store.written), ledger.book([booking(1)])
        await asyncio.sleep(0.02)
        await asyncio.gather(first.wait(), ledger.book([booking(10)]).wait())
        return store.nanos[before:]

    assert await book_twice() == [1, 10]
    await asyncio.gather(*(ledger.book([booking(0)]).wait() for _ in range(2)))
    assert await book_twice() == [11]


async def test_a_batch_is_repeated_under_its_number_and_nobody_waits_for_it(
    ledger: Ledger, store: RecordingStore
) -> None:
    store.error = Unavailable("away")
    async with asyncio.timeout(ledgers.WAIT_SECONDS / 2):
        await ledger.book([booking(1)]).wait()
        assert ledger.is_away
        await ledger.book([booking(2)]).wait()
    while len(store.tried) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert set(store.tried) == {1}
    assert ledger.unwritten_spend(total("tm_1")) == 3
    store.error = None
    await ledger.close()
    assert store.nanos == [1, 2]
    assert not ledger.is_away


async def test_an_unexpected_error_loses_nothing_either(ledger: Ledger, store: RecordingStore) -> None:
    store.error = ValueError("a defect")
    await ledger.book([booking(1)]).wait()
    store.error = None
    await ledger.close()
    assert store.nanos == [1]


async def test_after_one_wait_in_vain_nobody_waits_until_a_batch_is_written(
    ledger: Ledger, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.is_open.clear()
    monkeypatch.setattr(ledgers, "WAIT_SECONDS", 0.02)
    await ledger.book([booking(1)]).wait()
    assert ledger.is_away
    monkeypatch.setattr(ledgers, "WAIT_SECONDS", 60)
    async with asyncio.timeout(10):
        await ledger.book([booking(2)]).wait()
    store.is_open.set()
    await ledger.close()
    assert store.nanos == [1, 2]
    assert not ledger.is_away


async def test_nothing_to_book_is_not_waited_for(ledger: Ledger, store: RecordingStore) -> None:
    store.is_open.clear()
    async with asyncio.timeout(ledgers.WAIT_SECONDS / 2):
        await ledger.book([]).wait()
    assert store.tried == []


async def test_calls_are_refused_when_too_many_rows_wait(
    ledger: Ledger, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "MAX_ROWS", 3)
    store.error = Unavailable("away")
    await ledger.book([booking(model="a")]).wait()
    ledger.book([booking(model="b")] * 100)
    ledger.check_room()
    ledger.book([booking(model="c")])
    with pytest.raises(Unavailable, match="Try again"):
        ledger.check_room()
    store.error = None
    await ledger.close()
    ledger.check_room()
    assert sum(store.nanos) == 5 * 102


async def test_what_is_lost_at_a_stop_is_in_the_log(
    ledger: Ledger, store: RecordingStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ledgers, "_CLOSE_SECONDS", 0.05)
    store.error = Unavailable("away")
    await ledger.book([booking(123, "first")]).wait()
    ledger.book([booking(456, "second")])
    with caplog.at_level(logging.CRITICAL):
        await ledger.close()
    (record,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "123" in record.getMessage()
    assert "second" in record.getMessage()


async def test_written_totals_are_told(ledger: Ledger) -> None:
    told: list[set[SpendKey]] = []
    ledger.on_written = lambda keys: told.append(set(keys))
    await ledger.book([booking(0)]).wait()
    await ledger.book([booking(5, key_id=None)]).wait()
    await asyncio.sleep(0)
    assert told == [{total("tm_1"), SpendKey("tm_1", "2026-11", "project", "pr_1")}]
