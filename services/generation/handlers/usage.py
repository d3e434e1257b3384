"""Answers queries about usage, and commands and queries about budgets."""

from datetime import UTC, datetime

from services.generation.deps import Deps
from services.generation.store import SpendKey, StoredBudget
from services.generation.usage import months
from shared.bus import Router
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
    """Insert or replace a budget, in effect from the next call on. Raises Invalid (scope), NotFound (project)."""
    if (command.scope == "organisation") != (command.scope_id is None):
        raise Invalid("A budget names the id of its project or API key; that of the organisation names none.")
    if command.scope == "project" and command.scope_id is not None:
        await _check_project(deps, command.organisation, command.scope_id)
    stored = await deps.stores.budgets.upsert(command.organisation, command)
    await _publish(deps, command, "set")
    (budget,) = await _with_spend(deps, command.organisation, [stored])
    return budget


@router.answers(DeleteBudget)
async def delete_budget(command: DeleteBudget, deps: Deps) -> Done:
    """Delete a budget, also of a project that is deleted. Raises NotFound."""
    if not await deps.stores.budgets.delete(command.organisation, command.scope, command.scope_id):
        whose = f"{command.scope} {command.scope_id!r}" if command.scope_id else command.scope
        raise NotFound(f"The {whose} has no budget.")
    await _publish(deps, command, "deleted")
    return Done()


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
