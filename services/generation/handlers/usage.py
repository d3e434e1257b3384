"""Answers queries about usage, and commands and queries about budgets."""

from datetime import UTC, datetime

from pydantic import JsonValue

from services.generation.deps import Deps
from services.generation.store import SpendKey, StoredBudget
from services.generation.usage import months
from services.generation.usage.money import format_usd
from shared.audit import audit_entry
from shared.bus import Router
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.audit_actions import AuditAction
from shared.contracts.generation.usage import (
    Budget,
    BudgetChanged,
    Budgets,
    DeleteBudget,
    GetUsage,
    ListBudgets,
    SetBudget,
    Usage,
    UsageReport,
)
from shared.contracts.message import Done
from shared.errors import Invalid, NotFound

router: Router[Deps] = Router()

_MAX_ROWS = 10_000
"""Groups of one report; so many take about 3 MB."""
_SCOPES = ("organisation", "project", "key")


@router.answers(GetUsage, workers=8)
async def get_usage(query: GetUsage, deps: Deps) -> UsageReport:
    """Return the usage of some months. Raises NotFound (project), Invalid (too many groups)."""
    stores, organisation, project_id = deps.stores, query.organisation, query.filters.get("project_id")
    if project_id is not None and not await stores.usage.has_project(organisation, project_id):
        await _check_project(deps, organisation, project_id)
    rows = await stores.usage.sum(organisation, query, _MAX_ROWS + 1)
    if len(rows) > _MAX_ROWS:
        raise Invalid(f"group_by gives more than {_MAX_ROWS:,} groups: group by less, or filter.")
    total = {name: sum(getattr(row, name) for row in rows) for name in Usage.model_fields}
    return UsageReport(rows=rows, total=Usage(**total))


@router.answers(ListBudgets)
async def list_budgets(query: ListBudgets, deps: Deps) -> Budgets:
    """Return the budgets with what was spent this month."""
    stored = await deps.stores.budgets.list_all(query.organisation)
    stored.sort(key=lambda budget: (_SCOPES.index(budget.scope), budget.changed_at, budget.scope_id or ""))
    return Budgets(budgets=await _with_spend(deps, query.organisation, stored))


@router.answers(SetBudget)
async def set_budget(command: SetBudget, deps: Deps) -> Budget:
    """Insert or replace a budget, in effect from the next call on. Raises Invalid (scope), NotFound (project).

    One that is stored like this already stays as it is, and is not announced anew.
    """
    if (command.scope == "organisation") != (command.scope_id is None):
        raise Invalid("A budget names the id of its project or API key; that of the organisation names none.")
    if command.scope == "project" and command.scope_id is not None:
        await _check_project(deps, command.organisation, command.scope_id)
    stored = await _save(deps, command)
    await _publish(deps, command, "set")
    (budget,) = await _with_spend(deps, command.organisation, [stored])
    return budget


@router.answers(DeleteBudget)
async def delete_budget(command: DeleteBudget, deps: Deps) -> Done:
    """Delete a budget, also of a project that is deleted. Raises NotFound."""
    organisation, scope, scope_id = command.organisation, command.scope, command.scope_id
    deleted = await deps.audit.record(
        lambda session: deps.stores.budgets.delete(organisation, scope, scope_id, session),
        lambda _: _entry("budget.deleted", command, {}),
    )
    if not deleted:
        whose = f"{command.scope} {command.scope_id!r}" if command.scope_id else command.scope
        raise NotFound(f"The {whose} has no budget.")
    await _publish(deps, command, "deleted")
    return Done()


async def _save(deps: Deps, command: SetBudget) -> StoredBudget:
    organisation, new = command.organisation, StoredBudget.from_command(command)
    stored = await deps.stores.budgets.find(organisation, command.scope, command.scope_id)
    if stored and (stored.amount_nanos, stored.warn_at) == (new.amount_nanos, new.warn_at):
        return stored
    details: dict[str, JsonValue] = {"amount": format_usd(new.amount_nanos), "warn_at": new.warn_at}
    if stored:
        details["from_amount"] = format_usd(stored.amount_nanos)
    await deps.audit.record(
        lambda session: deps.stores.budgets.upsert(organisation, new, session),
        lambda _: _entry("budget.set", command, details),
    )
    return new


def _entry(action: AuditAction, command: SetBudget | DeleteBudget, details: dict[str, JsonValue]) -> AuditEntry:
    """Return the entry of a change; its object is known by what the budget is of."""
    changed = AuditObject(kind="budget", id=command.scope_id)
    return audit_entry(action, command.principal, command.organisation, changed, (), {"scope": command.scope} | details)


async def _check_project(deps: Deps, organisation: str, project_id: str) -> None:
    if await deps.stores.projects.get(organisation, project_id) is None:
        raise NotFound(f"There is no project {project_id!r}.")


async def _with_spend(deps: Deps, organisation: str, budgets: list[StoredBudget]) -> list[Budget]:
    month = months.month_of(datetime.now(UTC))
    keys = [SpendKey(organisation, month, budget.scope, budget.scope_id) for budget in budgets]
    spent = await deps.stores.usage.get_spend(keys)
    return [budget.with_spend(month, spent[key]) for budget, key in zip(budgets, keys, strict=True)]


async def _publish(deps: Deps, command: SetBudget | DeleteBudget, what: str) -> None:
    change = BudgetChanged(
        organisation=command.organisation,
        actor=command.actor,
        scope=command.scope,
        scope_id=command.scope_id,
        what=what,
    )
    await deps.budgets.publish(change)
