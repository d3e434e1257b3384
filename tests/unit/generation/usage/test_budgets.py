"""The guard refuses by what was spent, asks nothing without budgets, and announces once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.generation.store import Announcement, BudgetStore, Counts, SpendKey, StoredBudget, UsageBatch, UsageKey
from services.generation.usage import budgets as guards
from services.generation.usage.budgets import BudgetGuard, Caller
from services.generation.usage.ledger import Booking, Ledger
from services.generation.usage.months import month_of
from services.generation.usage.spend_reader import SpendReader
from shared.bus import Bus
from shared.contracts.generation.usage import BudgetChanged, BudgetExceeded, BudgetScope, BudgetWarned
from shared.errors import RateLimited, Unavailable

CALLER = Caller("tm_1", "pr_1", "desk", "key_1")
MONTH = month_of(datetime.now(UTC))


@dataclass
class World:
    """A database and a bus in memory: the budgets, what was spent, and what was asked and published."""

    budgets: list[StoredBudget] = field(default_factory=list)
    spent: dict[SpendKey, int] = field(default_factory=dict)
    marks: set[tuple[str, str, str]] = field(default_factory=set)
    listed: int = 0
    reads: int = 0
    away: bool = False
    published: list[tuple[Any, str]] = field(default_factory=list)
    bus_away: bool = False
    callback: Callable[[BudgetChanged | None], None] | None = None

    async def list_all(self, _: str) -> list[StoredBudget]:
        self.listed += 1
        return list(self.budgets)

    async def get_spend(self, keys: Iterable[SpendKey]) -> dict[SpendKey, int]:
        self.reads += 1
        if self.away:
            raise Unavailable("away")
        return {key: self.spent.get(key, 0) for key in keys}

    async def add(self, _: UsageBatch, __: str, ___: int) -> None:
        if self.away:
            raise Unavailable("away")

    async def is_announced(self, _: str, budget: StoredBudget, what: Announcement, month: str) -> bool:
        return (budget.revision, what, month) in self.marks

    async def mark_announced(self, _: str, budget: StoredBudget, what: Announcement, month: str) -> None:
        self.marks.add((budget.revision, what, month))

    async def publish_event(self, event: Any, *, message_id: str) -> None:
        if self.bus_away:
            raise Unavailable("away")
        self.published.append((event, message_id))

    async def subscribe(self, _: type[BudgetChanged], callback: Callable[[BudgetChanged | None], None]) -> None:
        self.callback = callback

    def budget(self, scope: BudgetScope = "organisation", amount: int = 100, warn_at: float = 0.8) -> None:
        """Add a budget of the caller's."""
        scope_id = {"organisation": None, "project": "pr_1", "key": "key_1"}[scope]
        self.budgets.append(
            StoredBudget(scope, scope_id, amount, warn_at, f"rev_{len(self.budgets)}", datetime.now(UTC), "")
        )

    def spend(self, nanos: int, scope: BudgetScope = "organisation", scope_id: str | None = None) -> None:
        """Set what was spent this month."""
        self.spent[SpendKey("tm_1", MONTH, scope, scope_id)] = nanos


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ledger(world: World) -> Ledger:
    return Ledger(world)


@pytest.fixture
async def guard(world: World, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BudgetGuard]:
    monkeypatch.setattr(guards, "_RETRY_SECONDS", 0.01)
    made = BudgetGuard(cast("BudgetStore", world), SpendReader(world), ledger, cast("Bus", world))
    await made.subscribe()
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()


async def until_published(world: World, count: int) -> list[Any]:
    async with asyncio.timeout(5):
        while len(world.published) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.03)
    assert len(world.published) == count
    return [event for event, _ in world.published]


async def test_without_budgets_nothing_but_the_cache_is_asked(guard: BudgetGuard, world: World) -> None:
    for _ in range(10):
        await guard.check(CALLER)
    assert (world.listed, world.reads) == (1, 0)


async def test_budgets_of_others_are_not_read_either(guard: BudgetGuard, world: World) -> None:
    world.budget("project", 0)
    world.budget("key", 0)
    await guard.check(Caller("tm_1", "pr_2", "other", "key_2"))
    await guard.check(Caller("tm_1", "pr_2", "other", None))
    assert world.reads == 0


@pytest.mark.parametrize(
    ("scope", "whose"),
    [("organisation", "your organisation"), ("project", "the project 'desk'"), ("key", "this API key")],
)
async def test_a_call_is_refused_when_what_was_spent_has_reached_its_budget(
    guard: BudgetGuard, world: World, scope: BudgetScope, whose: str
) -> None:
    world.budget(scope, 2_500_000_000)
    scope_id = world.budgets[0].scope_id
    world.spend(2_499_999_999, scope, scope_id)
    await guard.check(CALLER)
    world.spend(2_500_000_000, scope, scope_id)
    with pytest.raises(RateLimited) as refused:
        await guard.check(CALLER)
    month = f"{datetime.now(UTC):%B %Y}"
    assert refused.value.message.startswith(f"The budget of {whose} for {month}, $2.50, is used up: $2.50 was spent.")
    assert 0 < (refused.value.retry_after_seconds or 0) <= 31 * 86_400


async def test_a_budget_of_nothing_refuses_the_first_call(guard: BudgetGuard, world: World) -> None:
    world.budget(amount=0)
    with pytest.raises(RateLimited):
        await guard.check(CALLER)


async def test_last_months_spend_does_not_count(guard: BudgetGuard, world: World) -> None:
    world.budget(amount=100)
    world.spent[SpendKey("tm_1", "2020-01", "organisation", None)] = 1000
    await guard.check(CALLER)


async def test_a_change_of_budgets_is_in_effect_at_once(guard: BudgetGuard, world: World) -> None:
    await guard.check(CALLER)
    world.budget(amount=0)
    await guard.check(CALLER)
    assert world.callback is not None
    world.callback(BudgetChanged(organisation="tm_1", scope="organisation", what="set"))
    with pytest.raises(RateLimited):
        await guard.check(CALLER)
    world.budgets.clear()
    world.callback(None)
    await guard.check(CALLER)


async def test_an_own_change_is_in_effect_and_compared_with_what_was_spent(guard: BudgetGuard, world: World) -> None:
    await guard.check(CALLER)
    world.budget(amount=100)
    world.spend(90)
    change = BudgetChanged(organisation="tm_1", scope="organisation", what="set")
    await guard.publish(change)
    events = await until_published(world, 2)
    assert events[0] == change
    assert isinstance(events[1], BudgetWarned)


async def test_while_the_database_is_away_calls_go_by_what_is_known(
    guard: BudgetGuard, world: World, ledger: Ledger
) -> None:
    world.budget(amount=100)
    world.spend(90)
    await guard.check(CALLER)
    world.away = True
    await guard.check(CALLER)
    assert world.reads == 2
    key = UsageKey("tm_1", MONTH, "openai", "m", "pr_1", None, None, None)
    writing = asyncio.create_task(ledger.run())
    await ledger.book([Booking(key, Counts(calls=1, cost_nanos=9))]).wait()
    await guard.check(CALLER)
    assert world.reads == 2, "nobody waits for a database that is known to be away"
    await ledger.book([Booking(key, Counts(calls=1, cost_nanos=1))]).wait()
    with pytest.raises(RateLimited, match="is used up"):
        await guard.check(CALLER)
    writing.cancel()


async def test_a_budget_is_announced_once(guard: BudgetGuard, world: World) -> None:
    world.budget(amount=101, warn_at=0.5)
    for spent in (50, 51, 60, 100, 101, 150):
        world.spend(spent)
        guard.compare("tm_1")
        await asyncio.sleep(0.02)
    warned, exceeded = await until_published(world, 2)
    assert warned == BudgetWarned(
        organisation="tm_1", scope="organisation", month=MONTH, amount_nanos=101, warn_at=0.5, spent_nanos=51
    )
    assert exceeded == BudgetExceeded(
        organisation="tm_1", scope="organisation", month=MONTH, amount_nanos=101, spent_nanos=101
    )


async def test_another_replica_publishes_nothing_that_is_marked_and_else_under_the_same_id(
    guard: BudgetGuard, world: World, ledger: Ledger
) -> None:
    world.budget(amount=100)
    world.spend(100)
    guard.compare("tm_1")
    await until_published(world, 2)
    other = BudgetGuard(cast("BudgetStore", world), SpendReader(world), ledger, cast("Bus", world))
    running = asyncio.create_task(other.run())
    other.compare("tm_1")
    await until_published(world, 2)
    world.marks.clear()
    third = BudgetGuard(cast("BudgetStore", world), SpendReader(world), ledger, cast("Bus", world))
    running_too = asyncio.create_task(third.run())
    third.compare("tm_1")
    await until_published(world, 4)
    assert [message_id for _, message_id in world.published[:2]] == [one for _, one in world.published[2:]]
    running.cancel()
    running_too.cancel()


async def test_an_event_is_published_when_the_bus_is_back(guard: BudgetGuard, world: World) -> None:
    world.budget(amount=100)
    world.spend(85)
    world.bus_away = True
    guard.compare("tm_1")
    await asyncio.sleep(0.05)
    world.bus_away = False
    (event,) = await until_published(world, 1)
    assert isinstance(event, BudgetWarned)


async def test_a_refused_call_has_its_budget_compared(guard: BudgetGuard, world: World) -> None:
    """Else a process that was killed after its booking would have announced nothing."""
    world.budget(amount=100)
    world.spend(100)
    with pytest.raises(RateLimited):
        await guard.check(CALLER)
    await until_published(world, 2)
