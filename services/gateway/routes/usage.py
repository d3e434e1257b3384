"""Routes of usage and budgets. The v4 contract has none of them."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from services.gateway.deps import Gateway, GatewayDep, require
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.usage import (
    BudgetRequest,
    BudgetResponse,
    UsageResponse,
    budget_response,
    parse_group_by,
    usage_response,
)
from shared.contracts.access.keys import ListKeys
from shared.contracts.generation.usage import BudgetScope, DeleteBudget, Dimension, GetUsage, ListBudgets, Month
from shared.contracts.permissions import MANAGE_BILLING
from shared.contracts.principal import Principal
from shared.errors import Invalid, NotFound

router = APIRouter(tags=["Usage and budgets"], route_class=BodyRoute)

AdminDep = Annotated[Principal, Depends(require(MANAGE_BILLING))]
Id = Annotated[str, Path(max_length=100)]
MonthQuery = Annotated[Month | None, Query(description="In UTC, as `2026-11`.")]
Filter = Annotated[str | None, Query(max_length=500, description="Only calls with this value.")]


async def _filters(
    provider: Filter = None,
    model: Filter = None,
    project_id: Filter = None,
    environment: Filter = None,
    key_id: Filter = None,
    user_id: Filter = None,
) -> dict[Dimension, str]:
    """Return the filters of a request."""
    filters: dict[Dimension, str | None] = {
        "provider": provider,
        "model": model,
        "project_id": project_id,
        "environment": environment,
        "key_id": key_id,
        "user_id": user_id,
    }
    return {dimension: value for dimension, value in filters.items() if value is not None}


@router.get("/usage", summary="Get tokens, calls and costs")
async def get_usage(
    caller: AdminDep,
    gateway: GatewayDep,
    filters: Annotated[dict[Dimension, str], Depends(_filters)],
    month: MonthQuery = None,
    until: MonthQuery = None,
    group_by: Annotated[
        str, Query(max_length=200, description="Comma-separated: month, provider, model, project_id, environment, …")
    ] = "",
) -> UsageResponse:
    """Of calls to models from `month` (default: the current one) to `until` (default: the same), by month and falling
    cost. 404 for a project or API key that is not in the organisation."""
    first = month or f"{datetime.now(UTC):%Y-%m}"
    last, dimensions = until or first, parse_group_by(group_by)
    if last < first:
        raise Invalid(f"until={last} is before month={first}.")
    if (key_id := filters.get("key_id")) is not None:
        await _check_key(gateway, caller, key_id)
    query = GetUsage(principal=caller, first_month=first, last_month=last, group_by=dimensions, filters=filters)
    return usage_response(await gateway.bus.request(query), (first, last), dimensions)


@router.get("/budgets", summary="List the monthly budgets")
async def list_budgets(caller: AdminDep, gateway: GatewayDep) -> list[BudgetResponse]:
    """The organisation's first, then those of projects and of API keys, each with what was spent this month."""
    budgets = (await gateway.bus.request(ListBudgets(principal=caller))).budgets
    return [budget_response(budget) for budget in budgets]


@router.put("/budgets/organization", summary="Set the budget of the organisation")
async def set_organisation_budget(body: BudgetRequest, caller: AdminDep, gateway: GatewayDep) -> BudgetResponse:
    """In effect from the next call on. A call that reaches the budget is still answered; those after it are a 429."""
    return budget_response(await gateway.bus.request(body.command(caller, "organisation", None)))


@router.put("/budgets/projects/{id}", summary="Set the budget of a project")
async def set_project_budget(id: Id, body: BudgetRequest, caller: AdminDep, gateway: GatewayDep) -> BudgetResponse:  # noqa: A002
    """As that of the organisation, for the calls in one project."""
    return budget_response(await gateway.bus.request(body.command(caller, "project", id)))


@router.put("/budgets/keys/{id}", summary="Set the budget of an API key")
async def set_key_budget(id: Id, body: BudgetRequest, caller: AdminDep, gateway: GatewayDep) -> BudgetResponse:  # noqa: A002
    """As that of the organisation, for the calls with one API key."""
    await _check_key(gateway, caller, id)
    return budget_response(await gateway.bus.request(body.command(caller, "key", id)))


@router.delete(
    "/budgets/organization", status_code=204, summary="Delete the budget of the organisation", responses={404: {}}
)
async def delete_organisation_budget(caller: AdminDep, gateway: GatewayDep) -> Response:
    """404 if it has none."""
    return await _delete(gateway, caller, "organisation", None)


@router.delete("/budgets/projects/{id}", status_code=204, summary="Delete the budget of a project")
async def delete_project_budget(id: Id, caller: AdminDep, gateway: GatewayDep) -> Response:  # noqa: A002
    """404 if it has none. The project may be deleted."""
    return await _delete(gateway, caller, "project", id)


@router.delete("/budgets/keys/{id}", status_code=204, summary="Delete the budget of an API key")
async def delete_key_budget(id: Id, caller: AdminDep, gateway: GatewayDep) -> Response:  # noqa: A002
    """404 if it has none. The key may be revoked."""
    return await _delete(gateway, caller, "key", id)


async def _delete(gateway: Gateway, caller: Principal, scope: BudgetScope, scope_id: str | None) -> Response:
    await gateway.bus.request(DeleteBudget(principal=caller, scope=scope, scope_id=scope_id))
    return Response(status_code=204)


async def _check_key(gateway: Gateway, caller: Principal, key_id: str) -> None:
    """Raise NotFound unless the API key, which may be revoked, is of the organisation: authz alone knows the keys."""
    keys = (await gateway.bus.request(ListKeys(principal=caller))).keys
    if all(key.id != key_id for key in keys):
        raise NotFound(f"There is no API key {key_id!r}.")
