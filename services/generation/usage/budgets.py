"""Refuses calls whose budget is used up, and announces once that a budget is nearly or wholly used up."""

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from services.generation.store import Announcement, BudgetStore, SpendKey, StoredBudget
from services.generation.usage import months
from services.generation.usage.ledger import Ledger
from services.generation.usage.money import format_usd
from services.generation.usage.spend_reader import SpendReader
from shared import ids
from shared.bus import Bus
from shared.cache import Cache
from shared.contracts.generation.usage import Budget, BudgetChanged, BudgetExceeded, BudgetWarned
from shared.errors import RateLimited, Unavailable

logger = logging.getLogger(__name__)

_FRESH_SECONDS = 30.0
"""How long cached budgets are used without reading them again. Events drop them at once; this is for a lost event."""
_UNLIMITED_SECONDS = 10.0**9
_READ_SECONDS = 0.5
"""How long a call waits for what was spent before it goes by what is known."""
_MAX_KNOWN = 50_000
_RETRY_SECONDS = 5.0


class Caller(NamedTuple):
    """Whose budgets a call counts for."""

    organisation: str
    project_id: str
    project_name: str
    key_id: str | None


class BudgetGuard:
    """Checks calls against budgets; `run` publishes events."""

    def __init__(self, store: BudgetStore, spend: SpendReader, ledger: Ledger, bus: Bus) -> None:
        self._store = store
        self._spend = spend
        self._ledger = ledger
        self._bus = bus
        self._budgets: Cache[str, list[StoredBudget]] = Cache(
            tags=lambda organisation, _: [organisation],
            max_entries=20_000,
            fresh_seconds=_FRESH_SECONDS,
            stale_seconds=_UNLIMITED_SECONDS,
        )
        self._known: dict[SpendKey, int] = {}
        """Nano-dollars as last read, for while the database is away."""
        self._reads_fail = False
        self._announced: set[tuple[str, Announcement, str]] = set()
        """Revisions of budgets, with what was announced for which month."""
        self._changed: set[str] = set()
        """Organisations whose spend is to be compared with their budgets."""
        self._has_changed = asyncio.Event()

    async def subscribe(self) -> None:
        """Subscribe to changes of budgets. After a reconnect everything is dropped: events may be missed."""
        await self._bus.subscribe(BudgetChanged, self._on_change)

    def _on_change(self, change: BudgetChanged | None) -> None:
        if change is None:
            self._budgets.clear()
        else:
            self._budgets.invalidate(change.organisation)

    async def publish(self, change: BudgetChanged) -> None:
        """Drop the organisation's cached budgets here and, by an event, in other replicas. Raises Unavailable."""
        self._budgets.invalidate(change.organisation)
        await self._bus.publish_event(change, message_id=ids.mint("change"))
        self.compare(change.organisation)

    async def check(self, caller: Caller) -> None:
        """Raise RateLimited if a budget of the call is used up, Unavailable if the call could not be booked.

        Without budgets it costs a cached look-up. With some, what was spent is read from the database, so that bookings
        of other replicas count. While the database is away a call goes by what was last read, and what was booked here
        since.
        """
        self._ledger.check_room()
        now = datetime.now(UTC)
        month = months.month_of(now)
        budgets = [budget for budget in await self._get(caller.organisation) if _concerns(budget, caller)]
        if not budgets:
            return
        spent = await self._read(caller.organisation, [_key(caller.organisation, month, one) for one in budgets])
        for budget in budgets:
            if (nanos := spent[_key(caller.organisation, month, budget)]) >= budget.amount_nanos:
                self.compare(caller.organisation)
                raise RateLimited(_refusal(budget, caller, month, nanos), retry_after_seconds=months.seconds_left(now))

    async def _get(self, organisation: str) -> list[StoredBudget]:
        return await self._budgets.get(organisation, lambda: self._store.list_all(organisation))

    async def _read(self, organisation: str, keys: list[SpendKey]) -> dict[SpendKey, int]:
        if not self._ledger.is_away:
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    return await self._read_stored(organisation, keys)
            except (Unavailable, TimeoutError):
                if not self._reads_fail:
                    logger.warning("what was spent cannot be read; calls go by what was read last")
                self._reads_fail = True
        return {key: self._known.get(key, 0) + self._ledger.unwritten_spend(key) for key in keys}

    async def _read_stored(self, organisation: str, keys: list[SpendKey]) -> dict[SpendKey, int]:
        spent = await self._spend.read(organisation, keys)
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        self._known |= spent
        self._reads_fail = False
        return spent

    def compare_written(self, keys: Iterable[SpendKey]) -> None:
        """Have `run` compare the spend of the organisations of these totals, which have grown."""
        for key in keys:
            self.compare(key.organisation)

    def compare(self, organisation: str) -> None:
        """Have `run` compare the spend of an organisation with its budgets."""
        self._changed.add(organisation)
        self._has_changed.set()

    async def run(self) -> None:
        """Publish events about budgets until cancelled."""
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            organisations, self._changed = self._changed, set()
            for organisation in organisations:
                try:
                    await self._announce_reached(organisation)
                except Unavailable as error:
                    logger.warning("an event about a budget is published later", extra={"error": error.message})
                    asyncio.get_running_loop().call_later(_RETRY_SECONDS, self.compare, organisation)

    async def _announce_reached(self, organisation: str) -> None:
        month = months.month_of(datetime.now(UTC))
        budgets = [budget for budget in await self._get(organisation) if not self._is_done(budget, month)]
        if not budgets:
            return
        spent = await self._read_stored(organisation, [_key(organisation, month, budget) for budget in budgets])
        for stored in budgets:
            budget = stored.with_spend(month, spent[_key(organisation, month, stored)])
            if budget.spent_nanos >= budget.warn_nanos:
                await self._announce(organisation, stored, "warned", budget)
            if budget.spent_nanos >= budget.amount_nanos:
                await self._announce(organisation, stored, "exceeded", budget)

    def _is_done(self, budget: StoredBudget, month: str) -> bool:
        return (budget.revision, "exceeded", month) in self._announced

    async def _announce(self, organisation: str, stored: StoredBudget, what: Announcement, budget: Budget) -> None:
        """Publish an event unless it was. The message id drops what replicas publish at once, the mark what comes
        later."""
        done = (stored.revision, what, budget.month)
        if done in self._announced:
            return
        if not await self._store.is_announced(organisation, stored, what, budget.month):
            message_id = ids.derive("evt", organisation, stored.revision, what, budget.month)
            await self._bus.publish_event(_event(organisation, what, budget), message_id=message_id)
            await self._store.mark_announced(organisation, stored, what, budget.month)
        if len(self._announced) > _MAX_KNOWN:
            self._announced.clear()
        self._announced.add(done)


def _key(organisation: str, month: str, budget: StoredBudget) -> SpendKey:
    return SpendKey(organisation, month, budget.scope, budget.scope_id)


def _concerns(budget: StoredBudget, caller: Caller) -> bool:
    ids_of = {"organisation": None, "project": caller.project_id, "key": caller.key_id}
    return budget.scope_id == ids_of[budget.scope]


def _refusal(budget: StoredBudget, caller: Caller, month: str, spent: int) -> str:
    whose = {
        "organisation": "your organisation",
        "project": f"the project {caller.project_name!r}",
        "key": "this API key",
    }
    amount = format_usd(budget.amount_nanos)
    return (
        f"The budget of {whose[budget.scope]} for {months.title(month)}, {amount}, is used up: "
        f"{format_usd(spent)} was spent. Ask an Admin to raise it; it begins anew with the next month (UTC)."
    )


def _event(organisation: str, what: Announcement, budget: Budget) -> BudgetWarned | BudgetExceeded:
    if what == "warned":
        return BudgetWarned(
            organisation=organisation,
            scope=budget.scope,
            scope_id=budget.scope_id,
            month=budget.month,
            amount_nanos=budget.amount_nanos,
            warn_at=budget.warn_at,
            spent_nanos=budget.spent_nanos,
        )
    return BudgetExceeded(
        organisation=organisation,
        scope=budget.scope,
        scope_id=budget.scope_id,
        month=budget.month,
        amount_nanos=budget.amount_nanos,
        spent_nanos=budget.spent_nanos,
    )
