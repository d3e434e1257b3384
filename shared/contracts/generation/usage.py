"""Messages and values owned by `generation`: what calls to models used and cost, and monthly budgets."""

import math
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from shared.contracts.audit_actions import AuditAction
from shared.contracts.message import Command, Done, Event, Query
from shared.contracts.permissions import MANAGE_BILLING, Permission
from shared.contracts.value import Value

NANOS_PER_USD = 1_000_000_000
"""Money is counted in nano-dollars, as integers: sums of floats depend on their order."""
MAX_BUDGET_NANOS = 1_000_000_000 * NANOS_PER_USD

Dimension = Literal["month", "provider", "model", "project_id", "environment", "key_id", "user_id"]
"""What usage can be grouped by."""

Month = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$")]
"""A month in UTC, as `2026-11`."""

BudgetScope = Literal["organisation", "project", "key"]


class Usage(Value):
    """Sums over calls to models: those that a call of the API caused, its samples and fallbacks, are a call each."""

    calls: int = 0
    failed_calls: int = 0
    """Of the calls: those without a complete answer. What they cost is counted."""
    unpriced_calls: int = 0
    """Of the calls: those that used tokens of a model whose price is not known, and are not in `cost_nanos`."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt tokens: read from the provider's cache, as far as providers tell it."""
    cost_nanos: int = 0
    """Nano-dollars by list price."""


class UsageRow(Usage):
    """The usage of one group. A dimension is None if the query does not group by it, or the calls have none."""

    month: str | None = None
    provider: str | None = None
    model: str | None = None
    """The model that served the call, as its provider was asked for it."""
    project_id: str | None = None
    environment: str | None = None
    """None: the config was in the call or named by its id, and not the deployed one."""
    key_id: str | None = None
    """None: called by a signed-in member or a service."""
    user_id: str | None = None
    """The member, or who made the API key; None: a service."""


class UsageReport(Value):
    """The groups by month and falling cost, and the sum over all of them."""

    rows: list[UsageRow]
    total: Usage


class GetUsage(Query[UsageReport]):
    """Return the organisation's usage in some months.

    Raises NotFound for a project that is not in the organisation and never was; Invalid if there are too many groups.
    """

    subject: ClassVar[str] = "generation.get_usage"
    permission: ClassVar[Permission | None] = MANAGE_BILLING

    first_month: Month
    last_month: Month
    """Included."""
    group_by: list[Dimension] = []
    filters: dict[Dimension, str] = {}
    """Only calls with these values."""


class Budget(Value):
    """What may be spent in a month, and what was in this one. From `amount_nanos` on calls are refused."""

    scope: BudgetScope
    scope_id: str | None = None
    """Of the project or API key; None for the organisation."""
    amount_nanos: int
    warn_at: float
    month: str
    """The month of `spent_nanos`, in UTC."""
    spent_nanos: int
    changed_at: datetime
    changed_by: str
    """Email address; empty if not known."""

    @property
    def warn_nanos(self) -> int:
        """Return the spend from which on a warning is given."""
        return math.ceil(self.amount_nanos * self.warn_at)


class Budgets(Value):
    """All budgets of an organisation: its own first, then those of projects and of API keys."""

    budgets: list[Budget]


class ListBudgets(Query[Budgets]):
    """Return the budgets of the organisation, with what was spent this month."""

    subject: ClassVar[str] = "generation.list_budgets"
    permission: ClassVar[Permission | None] = MANAGE_BILLING


class SetBudget(Command[Budget]):
    """Create or replace a budget. Raises NotFound for a project that is not in the organisation.

    Who sends it has checked that an API key is of the organisation: a budget of another's has no effect.
    """

    subject: ClassVar[str] = "generation.set_budget"
    permission: ClassVar[Permission | None] = MANAGE_BILLING
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("budget.set",)

    scope: BudgetScope
    scope_id: str | None = None
    amount_nanos: Annotated[int, Field(ge=0, le=MAX_BUDGET_NANOS)]
    warn_at: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Fraction of the amount."""


class DeleteBudget(Command[Done]):
    """Delete a budget. Raises NotFound."""

    subject: ClassVar[str] = "generation.delete_budget"
    permission: ClassVar[Permission | None] = MANAGE_BILLING
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("budget.deleted",)

    scope: BudgetScope
    scope_id: str | None = None


class BudgetChanged(Event):
    """A budget was set or deleted: cached ones of the organisation are void."""

    noun: ClassVar[str] = "budget"
    past_participle: ClassVar[str] = "changed"

    scope: BudgetScope
    scope_id: str | None = None
    what: str
    """`set` or `deleted`."""


class BudgetWarned(Event):
    """The spend of a month has reached the fraction of a budget at which a warning is given."""

    noun: ClassVar[str] = "budget"
    past_participle: ClassVar[str] = "warned"

    scope: BudgetScope
    scope_id: str | None = None
    month: str
    amount_nanos: int
    warn_at: float
    spent_nanos: int


class BudgetExceeded(Event):
    """The spend of a month has reached a budget: calls are refused until it is raised, or the month ends."""

    noun: ClassVar[str] = "budget"
    past_participle: ClassVar[str] = "exceeded"

    scope: BudgetScope
    scope_id: str | None = None
    month: str
    amount_nanos: int
    spent_nanos: int
