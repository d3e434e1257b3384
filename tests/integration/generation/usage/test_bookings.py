"""What calls used and cost is booked once, whatever ends, and adds up to the logs: generation on real servers."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime

import pytest

from services.generation.store import Counts, SpendKey, UsageBatch, UsageKey, UsageStore
from shared.contracts.generation.generations import Chunk, Generate
from shared.contracts.generation.projects import ModelConfig
from shared.contracts.generation.routing import SetRedirect, Target
from shared.contracts.generation.usage import Dimension, GetUsage, Usage, UsageReport
from shared.contracts.logs import LogRecord
from shared.contracts.principal import Actor
from shared.errors import Invalid, NotFound, Problem, Unavailable
from tests.integration.generation.stack import (
    GenerationStack,
    chat,
    collect_answer,
    complete,
    config,
    new_organisation,
    principal_of,
    run_generation_stack,
)
from tests.integration.servers import until_ready

MODEL = "gpt-4-1106-preview"
MONTH = f"{datetime.now(UTC):%Y-%m}"
CALL_NANOS = 12 * 10_000 + 5 * 30_000
"""Of a call with the fake server's default reply: 12 tokens at 10 USD a million, and 5 at 30."""
DIMENSIONS: list[Dimension] = ["provider", "model", "project_id", "environment", "key_id", "user_id"]


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GenerationStack]:
    """One place for all tests; each works in an organisation of its own."""
    async with run_generation_stack(tmp_path_factory.mktemp("usage"), EVERLOOP_PROVIDER_TRIES="1") as started:
        yield started


def priced(**fields: object) -> ModelConfig:
    """A config of a model that has a price, at the fake server."""
    return config(**{"provider": "openai", "model": MODEL} | fields)


async def usage(stack: GenerationStack, organisation: str, *group_by: Dimension, **filters: str) -> UsageReport:
    query = {"first_month": MONTH, "last_month": MONTH, "group_by": group_by, "filters": filters}
    return await stack.bus.request(GetUsage.model_validate({"principal": principal_of(organisation, "Admin"), **query}))


async def logged(stack: GenerationStack, organisation: str) -> Usage:
    """What the logs of an organisation say, calls not counted."""
    logs = [log for log in await stack.recorded() if log.organisation == organisation]
    return Usage(
        prompt_tokens=sum(log.prompt_tokens or 0 for log in logs),
        completion_tokens=sum(log.output_tokens or 0 for log in logs),
        cached_tokens=sum(log.cached_tokens or 0 for log in logs),
        cost_nanos=sum(map(nanos, logs)),
    )


def nanos(log: LogRecord) -> int:
    return round((log.prompt_cost or 0) * 1e9) + round((log.output_cost or 0) * 1e9)


async def try_call(stack: GenerationStack, command: Generate) -> Problem | None:
    try:
        await collect_answer(stack.bus, command)
    except Problem as problem:
        return problem
    return None


async def until_calls(stack: GenerationStack, org: str, calls: int) -> Usage:
    """Wait until so many calls are booked, and a little for more that may be; return the usage."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(Unavailable):
            if (await usage(stack, org)).total.calls >= calls:
                break
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)
    total = (await usage(stack, org)).total
    assert total.calls == calls
    return total


class TestBooking:
    async def test_usage_adds_up_to_the_logs_however_calls_end(self, stack: GenerationStack) -> None:
        org = new_organisation()
        fallback = [Target(model="gpt-4o")]
        await stack.bus.request(
            SetRedirect(principal=principal_of(org), asked=Target(model="gpt-4-0613"), fallbacks=fallback)
        )
        stack.upstream.clear()
        stack.upstream.reply(prompt_tokens=101, generation_tokens=7)
        await collect_answer(stack.bus, chat(organisation=org, config=priced(), num_samples=3))
        await collect_answer(stack.bus, chat(organisation=org, config=priced(), num_samples=2, stream=True))
        await collect_answer(
            stack.bus,
            complete(organisation=org, config=config(provider="openai", model="davinci-002", endpoint="complete")),
        )
        stack.upstream.reply(status=401)
        assert await try_call(stack, chat(organisation=org, config=priced()))
        stack.upstream.reply(content="one two three four", break_after_chunks=3)
        assert await try_call(stack, chat(organisation=org, config=priced(), stream=True))
        stack.upstream.reply(status=500)  # which may have cost something; then the fallback answers
        await collect_answer(stack.bus, chat(organisation=org, config=priced(model="gpt-4-0613")))
        stack.upstream.reply(content="one two three four five", chunk_delay_seconds=0.2)
        async with aclosing(
            stack.bus.stream_request(chat(organisation=org, config=priced(), stream=True), Chunk)
        ) as parts:
            await anext(parts)
        await collect_answer(stack.bus, chat(organisation=org))  # the mock, which has no price
        found = await until_calls(stack, org, 10)  # that of the caller who left is recorded by itself
        expected = await logged(stack, org)
        assert found == expected.model_copy(update={"calls": 10, "failed_calls": 4, "unpriced_calls": 1})
        assert found.cost_nanos > 7 * CALL_NANOS

    async def test_usage_is_grouped_and_filtered(self, stack: GenerationStack) -> None:
        org = new_organisation()
        member = principal_of(org, "Member", Actor(kind="member", user_id="usr_bob"))
        keyed = principal_of(org, "Developer", Actor(user_id="usr_ada", key_id="key_1"))
        await collect_answer(stack.bus, chat(principal=keyed, config=priced()))
        await collect_answer(stack.bus, chat(principal=keyed, config=priced()))
        await collect_answer(stack.bus, chat(principal=member, project={"name": "other"}, config=priced()))
        await collect_answer(stack.bus, chat(principal=keyed, config=None, deployed=True))
        await collect_answer(stack.bus, chat(principal=keyed, config=config(model="$model")))
        report = await usage(stack, org, *DIMENSIONS)
        (project,) = {row.project_id for row in report.rows if row.user_id == "usr_ada"}
        (other,) = {row.project_id for row in report.rows if row.user_id == "usr_bob"}
        assert [(row.model, row.project_id, row.environment, row.key_id, row.calls) for row in report.rows] == [
            (MODEL, project, None, "key_1", 2),
            (MODEL, project, "production", "key_1", 1),
            (MODEL, other, None, None, 1),
            ("$model", project, None, "key_1", 1),
        ]
        assert report.total.cost_nanos == 4 * CALL_NANOS
        by_model = await usage(stack, org, "month", "provider", "model")
        assert [(row.month, row.provider, row.model, row.calls) for row in by_model.rows] == [
            (MONTH, "openai", MODEL, 4),
            (MONTH, "mock", "$model", 1),
        ]
        assert (await usage(stack, org, key_id="key_1", model=MODEL)).total.calls == 3
        assert (await usage(stack, org, project_id=other or "")).total.calls == 1
        assert (await usage(stack, org, environment="production")).total.calls == 1
        assert (await usage(stack, org, model="$model")).total.calls == 1
        with pytest.raises(NotFound):
            await usage(stack, new_organisation(), project_id=project or "")
        assert (await usage(stack, new_organisation(), *DIMENSIONS)).rows == []

    async def test_only_the_months_asked_for_are_summed(self, stack: GenerationStack) -> None:
        org, store = new_organisation(), UsageStore(stack.database)
        for number, month in enumerate(("2025-11", "2025-12", "2026-01"), 1):
            batch = UsageBatch()
            batch.add(_key(org, month=month), Counts(calls=number))
            await store.add(batch, "writer", number)
        fields = {"principal": principal_of(org, "Admin"), "group_by": ["month"]}
        query = GetUsage.model_validate(fields | {"first_month": "2025-12", "last_month": "2026-01"})
        found = await stack.bus.request(query)
        assert [(row.month, row.calls) for row in found.rows] == [("2025-12", 2), ("2026-01", 3)]

    async def test_too_many_groups_are_refused(self, stack: GenerationStack) -> None:
        org, batch = new_organisation(), UsageBatch()
        for number in range(10_001):
            batch.add(_key(org, model=f"m{number}"), Counts(calls=1))
        await UsageStore(stack.database).add(batch, "writer", 1)
        with pytest.raises(Invalid, match="group by less"):
            await usage(stack, org, "model")
        assert (await usage(stack, org)).total.calls == 10_001


def _key(organisation: str, month: str = MONTH, model: str = MODEL) -> UsageKey:
    return UsageKey(organisation, month, "openai", model, "pr_1", None, "key_1", "usr_1")


class TestBatches:
    @staticmethod
    def batch(org: str, nanos: int = 7) -> UsageBatch:
        batch = UsageBatch()
        batch.add(_key(org), Counts(calls=1, cost_nanos=nanos))
        return batch

    @staticmethod
    async def booked(store: UsageStore, org: str) -> list[int]:
        """Nano-dollars of the organisation, the project, the key, and of the row."""
        keys = SpendKey.of(_key(org))
        spent = await store.get_spend(keys)
        query = {"principal": principal_of(org, "Admin"), "first_month": MONTH, "last_month": MONTH}
        rows = await store.sum(org, GetUsage.model_validate(query), 10)
        return [*(spent[key] for key in keys), *(row.cost_nanos for row in rows)]

    async def test_a_batch_that_is_written_again_counts_once(self, stack: GenerationStack) -> None:
        org, store = new_organisation(), UsageStore(stack.database)
        for _ in range(3):
            await store.add(self.batch(org), "one", 1)
        assert await self.booked(store, org) == [7] * 4
        await store.add(self.batch(org), "one", 2)
        await store.add(self.batch(org), "one", 1)  # which had been delayed on its way
        assert await self.booked(store, org) == [14] * 4

    async def test_writers_do_not_hide_one_anothers_batches(self, stack: GenerationStack) -> None:
        org, store = new_organisation(), UsageStore(stack.database)
        writes = [(f"writer {writer}", number) for number in range(1, 6) for writer in range(8)]
        for writer, number in writes:  # in the order of numbers; each is written twice, at once with others
            await asyncio.gather(*(store.add(self.batch(org), writer, number) for _ in range(2)))
        assert await self.booked(store, org) == [7 * len(writes)] * 4

    async def test_replicas_that_begin_a_month_at_once_lose_nothing(self, stack: GenerationStack) -> None:
        org, store = new_organisation(), UsageStore(stack.database)
        await asyncio.gather(*(store.add(self.batch(org), f"writer {writer}", 1) for writer in range(30)))
        assert await self.booked(store, org) == [7 * 30] * 4

    async def test_sums_are_exact_integers(self, stack: GenerationStack) -> None:
        org, store, large = new_organisation(), UsageStore(stack.database), 2**53 + 1
        await store.add(self.batch(org, large), "one", 1)
        await store.add(self.batch(org, 1), "one", 2)
        assert await self.booked(store, org) == [large + 1] * 4


class TestFailures:
    async def test_calls_are_answered_while_mongod_is_dead_and_booked_when_it_is_back(
        self, stack: GenerationStack
    ) -> None:
        org = new_organisation()
        await collect_answer(stack.bus, chat(organisation=org, config=priced()))
        stack.mongo.kill()
        try:
            async with asyncio.timeout(30):
                for _ in range(5):
                    await collect_answer(stack.bus, chat(organisation=org, config=priced()))
        finally:
            stack.mongo.start()
        await until_calls(stack, org, 6)
        assert (await usage(stack, org)).total.cost_nanos == 6 * CALL_NANOS == (await logged(stack, org)).cost_nanos

    async def test_a_process_that_is_stopped_writes_what_it_has_in_memory(self, stack: GenerationStack) -> None:
        org = new_organisation()
        await collect_answer(stack.bus, chat(organisation=org, config=priced()))
        stack.mongo.pause()
        await collect_answer(stack.bus, chat(organisation=org, config=priced()))
        assert stack.generation.child.poll() is None
        stopping = asyncio.create_task(asyncio.to_thread(stack.generation.terminate))
        await asyncio.sleep(0.2)
        stack.mongo.resume()
        assert await stopping == 0
        stack.generation.start()
        await until_ready(stack.bus, "generation")
        await until_calls(stack, org, 2)

    async def test_what_was_answered_before_a_kill_is_booked(self, stack: GenerationStack) -> None:
        org, answered, begun = new_organisation(), 0, 0

        async def call_until_killed() -> None:
            nonlocal answered, begun
            while True:
                begun += 1
                if problem := await try_call(stack, chat(organisation=org, config=priced())):
                    assert isinstance(problem, Unavailable)
                    return
                answered += 1

        for _ in range(3):
            callers = [asyncio.create_task(call_until_killed()) for _ in range(8)]
            await asyncio.sleep(random.uniform(0.5, 1))  # noqa: S311
            stack.generation.kill()
            for caller in callers:
                caller.cancel()  # some wait for a call that nobody answers any more
            await asyncio.gather(*callers, return_exceptions=True)
            stack.generation.start()
            await until_ready(stack.bus, "generation")
        assert answered > 50
        total = (await usage(stack, org)).total
        assert answered <= total.calls <= begun
        spent = await UsageStore(stack.database).get_spend([SpendKey(org, MONTH, "organisation", None)])
        assert answered * CALL_NANOS <= sum(spent.values()) <= begun * CALL_NANOS
