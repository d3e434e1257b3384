"""The collection `budgets`: what organisations may spend in a month, one document a budget."""

from datetime import UTC, datetime
from typing import Literal, NamedTuple

from shared import ids, mongo
from shared.contracts.generation.usage import Budget, BudgetScope, SetBudget

Announcement = Literal["warned", "exceeded"]


class StoredBudget(NamedTuple):
    """A budget without what was spent."""

    scope: BudgetScope
    scope_id: str | None
    amount_nanos: int
    warn_at: float
    revision: str
    """Another one after each change of amount or fraction: what is announced is announced anew."""
    changed_at: datetime
    changed_by: str

    @classmethod
    def from_command(cls, command: SetBudget) -> "StoredBudget":
        """Return the budget that a command sets, with a new revision."""
        now = datetime.now(UTC)
        return cls(
            scope=command.scope,
            scope_id=command.scope_id,
            amount_nanos=command.amount_nanos,
            warn_at=command.warn_at,
            revision=ids.mint("rev"),
            changed_at=now.replace(microsecond=now.microsecond // 1000 * 1000),  # BSON dates have milliseconds
            changed_by=(command.actor and command.actor.email) or "",
        )

    def with_spend(self, month: str, spent_nanos: int) -> Budget:
        """Return the contract's budget."""
        fields = self._asdict()
        del fields["revision"]
        return Budget(**fields, month=month, spent_nanos=spent_nanos)


def _budget(document: mongo.Document) -> StoredBudget:
    return StoredBudget(**{name: document[name] for name in StoredBudget._fields})


@mongo.raises_unavailable
class BudgetStore:
    """Reads and writes budgets; `_id` is `<organisation>/<scope>/<id of project or key>`."""

    def __init__(self, database: mongo.Database) -> None:
        self._budgets = database["budgets"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._budgets.create_index([("organisation", 1), ("scope", 1), ("scope_id", 1)], unique=True)

    async def list_all(self, organisation: str) -> list[StoredBudget]:
        """Return the budgets of the organisation in no order."""
        return [_budget(document) async for document in self._budgets.find({"organisation": organisation})]

    async def find(self, organisation: str, scope: BudgetScope, scope_id: str | None) -> StoredBudget | None:
        """Return a budget; None if there is none."""
        document = await self._budgets.find_one({"_id": _id(organisation, scope, scope_id)})
        return _budget(document) if document else None

    async def upsert(self, organisation: str, budget: StoredBudget, session: mongo.Session) -> StoredBudget:
        """Insert or replace a budget; return it as it was given. Nothing is announced of it yet."""
        document: mongo.Document = {"organisation": organisation, **budget._asdict(), "announced": {}}
        wanted = {"_id": _id(organisation, budget.scope, budget.scope_id)}
        await self._budgets.replace_one(wanted, document, upsert=True, session=session)
        return budget

    async def delete(self, organisation: str, scope: BudgetScope, scope_id: str | None, session: mongo.Session) -> bool:
        """Delete a budget; return False if there was none."""
        deleted = await self._budgets.delete_one({"_id": _id(organisation, scope, scope_id)}, session=session)
        return bool(deleted.deleted_count)

    async def is_announced(self, organisation: str, budget: StoredBudget, what: Announcement, month: str) -> bool:
        """Return whether this was announced for the month, or the budget is another by now."""
        document = await self._budgets.find_one({"_id": _id(organisation, budget.scope, budget.scope_id)})
        if document is None or document["revision"] != budget.revision:
            return True
        return bool(document["announced"].get(what, "") >= month)

    async def mark_announced(self, organisation: str, budget: StoredBudget, what: Announcement, month: str) -> None:
        """Note that this was announced for the month."""
        wanted = {"_id": _id(organisation, budget.scope, budget.scope_id), "revision": budget.revision}
        await self._budgets.update_one(wanted, {"$set": {f"announced.{what}": month}})


def _id(organisation: str, scope: BudgetScope, scope_id: str | None) -> str:
    return "/".join((organisation, scope, *((scope_id,) if scope_id else ())))
