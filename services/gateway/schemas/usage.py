"""Request and response models of usage and budgets; money is in US dollars."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, Field

from services.gateway.schemas.bodies import StrictRequestBody
from shared.contracts.generation.usage import (
    MAX_BUDGET_NANOS,
    NANOS_PER_USD,
    Budget,
    BudgetScope,
    Dimension,
    SetBudget,
    Usage,
    UsageReport,
)
from shared.contracts.principal import Principal
from shared.errors import Invalid

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)


class BudgetRequest(StrictRequestBody):
    """A monthly budget."""

    amount: Annotated[Decimal, Field(ge=0, le=MAX_BUDGET_NANOS // NANOS_PER_USD, decimal_places=9)] = Field(
        description="US dollars a month. From this spend on calls are refused; 0 refuses all."
    )
    warn_at: float = Field(
        0.8, gt=0, le=1, description="Fraction of the amount at which the event `budget.warned` is published."
    )

    def command(self, caller: Principal, scope: BudgetScope, scope_id: str | None) -> SetBudget:
        """Return the command for generation."""
        nanos = int(self.amount * NANOS_PER_USD)
        return SetBudget(principal=caller, scope=scope, scope_id=scope_id, amount_nanos=nanos, warn_at=self.warn_at)


class BudgetResponse(BaseModel):
    """A monthly budget, and what was spent of it this month."""

    scope: Literal["organization", "project", "key"]
    id: str | None = Field(description="Of the project or API key; null for the organisation.")
    amount: float = Field(description="US dollars a month.")
    warn_at: float
    month: str = Field(description="The current month in UTC, as `2026-11`.")
    spent: float = Field(description="US dollars this month.")
    is_exceeded: bool = Field(description="Whether calls are refused.")
    changed_at: datetime
    changed_by: str


class UsageSums(BaseModel):
    """Sums over calls to models."""

    calls: int = Field(description="Calls to models: each sample of a stream and each fallback is one.")
    failed_calls: int = Field(description="Those without a complete answer.")
    unpriced_calls: int = Field(description="Those that used tokens of a model whose price is not known.")
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = Field(description="Prompt tokens read from the provider's cache, as far as it tells them.")
    cost: float = Field(description="US dollars by list price.")


class UsageGroup(UsageSums):
    """The sums of one group; what it is not grouped by is null."""

    month: str | None
    provider: str | None
    model: str | None
    project_id: str | None
    environment: str | None = Field(
        description="Null also for calls of a config that was not named as the deployed one."
    )
    key_id: str | None = Field(description="Null also for calls without an API key.")
    user_id: str | None


class UsageResponse(BaseModel):
    """Usage of the organisation, and the sum over all groups."""

    month: str
    until: str
    group_by: list[Dimension]
    rows: list[UsageGroup]
    total: UsageSums


def parse_group_by(text: str) -> list[Dimension]:
    """Return the dimensions of a comma-separated list, each once. Raises Invalid for another name."""
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    found = [dimension for name in names for dimension in DIMENSIONS if dimension == name]
    if len(found) < len(names):
        raise Invalid(f"group_by: a comma-separated list of any of {', '.join(DIMENSIONS)}.")
    return found


def budget_response(budget: Budget) -> BudgetResponse:
    """Return the response model of a budget."""
    return BudgetResponse(
        scope="organization" if budget.scope == "organisation" else budget.scope,
        id=budget.scope_id,
        amount=budget.amount_nanos / NANOS_PER_USD,
        warn_at=budget.warn_at,
        month=budget.month,
        spent=budget.spent_nanos / NANOS_PER_USD,
        is_exceeded=budget.spent_nanos >= budget.amount_nanos,
        changed_at=budget.changed_at,
        changed_by=budget.changed_by,
    )


def usage_response(report: UsageReport, months: tuple[str, str], group_by: Sequence[Dimension]) -> UsageResponse:
    """Return the response model of a report about the months from the first to the last of `months`."""
    rows = [
        UsageGroup(**_sums(row), **{dimension: getattr(row, dimension) for dimension in DIMENSIONS})
        for row in report.rows
    ]
    return UsageResponse(
        month=months[0], until=months[1], group_by=list(group_by), rows=rows, total=UsageSums(**_sums(report.total))
    )


def _sums(usage: Usage) -> dict[str, int | float]:
    counts: dict[str, int | float] = {name: getattr(usage, name) for name in Usage.model_fields if name != "cost_nanos"}
    total = usage.prompt_tokens + usage.completion_tokens
    return counts | {"total_tokens": total, "cost": usage.cost_nanos / NANOS_PER_USD}
