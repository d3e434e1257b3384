"""Maps a run to what it used and cost, one booking a call to a provider, however the run ended."""

import logging
from collections.abc import Iterator

from services.generation.completions.run import GenerationRun
from services.generation.completions.sample import ProviderCall
from services.generation.store import Counts, UsageKey
from services.generation.usage.budgets import Caller
from services.generation.usage.ledger import Booking
from services.generation.usage.money import to_nanos
from services.generation.usage.months import month_of

logger = logging.getLogger(__name__)


def caller(run: GenerationRun) -> Caller:
    """Return whose budgets the run counts for."""
    project, principal = run.resolved.project, run.command.principal
    return Caller(run.command.organisation, project.id, project.name, principal.key_id if principal else None)


async def count_bookings(run: GenerationRun) -> list[Booking]:
    """Return the bookings of a run whose tokens may not be counted yet."""
    try:
        await run.count_tokens()
    except Exception:
        logger.exception("the tokens of a call cannot be counted: log %s", run.command.log_ids[0])
    return list(bookings(run))


def bookings(run: GenerationRun) -> Iterator[Booking]:
    """Yield a booking for each call, with tokens as far as they are counted; they add up to those of the run's logs."""
    for result in run.results:
        for call in result.billed_calls:
            yield Booking(_key(run, call), _counts(call))


def _key(run: GenerationRun, call: ProviderCall) -> UsageKey:
    config, principal = call.prepared.request.config, run.command.principal
    return UsageKey(
        organisation=run.command.organisation,
        month=month_of(run.received_at),
        provider=config.provider,
        model=config.model,
        project_id=run.resolved.project.id,
        environment=run.environment,
        key_id=principal.key_id if principal else None,
        user_id=principal.user_id if principal else None,
    )


def _counts(call: ProviderCall) -> Counts:
    """Return what a call counts; a result without readable costs is counted as a call."""
    counts = Counts(calls=1, failed_calls=0 if call.answered else 1)
    try:
        usage, costs = call.usage, call.costs
    except Exception:
        logger.exception("the costs of a call cannot be calculated")
        return counts
    if usage is not None:
        counts.prompt_tokens, counts.completion_tokens = usage.prompt_tokens, usage.generation_tokens
        counts.cached_tokens = usage.cached_tokens
        counts.unpriced_calls = 0 if costs else 1
    if costs is not None:
        counts.cost_nanos = to_nanos(costs.prompt) + to_nanos(costs.output)
    return counts
