"""Budgets refuse calls exactly, over two replicas of generation on real servers, and are announced once."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.generation.projects import DeleteProject, ModelConfig
from shared.contracts.generation.usage import (
    Budget,
    BudgetScope,
    DeleteBudget,
    GetUsage,
    ListBudgets,
    SetBudget,
)
from shared.contracts.principal import Actor, Principal
from shared.errors import Invalid, NotFound, RateLimited, Unavailable
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
from tests.integration.servers import running, service

CALL_NANOS = 12 * 10_000 + 5 * 30_000
"""Of a call with the fake server's default reply: 12 tokens at 10 USD a million, and 5 at 30."""
MONTH = f"{datetime.now(UTC):%Y-%m}"
KEYED = Actor(user_id="usr_ada", key_id="key_ada")


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GenerationStack]:
    """Two replicas of generation, and one place for all tests; each works in an organisation of its own."""
    folder: Path = tmp_path_factory.mktemp("budgets")
    async with run_generation_stack(folder) as started:
        environment = {"OPENAI_BASE_URL": started.upstream.url, "OPENAI_API_KEY": "sk-installation"}
        (folder / "second").mkdir()
        second = service("generation", folder / "second", started.nats, started.mongo, **environment)
        with running(second):
            for _ in range(200):
                if '"ready"' in second.log.read_text():
                    break
                await asyncio.sleep(0.1)
            yield started


def priced(**fields: Any) -> ModelConfig:
    """A config of a model that has a price, at the fake server."""
    return config(**{"provider": "openai", "model": "gpt-4-1106-preview"} | fields)


async def set_budget(
    stack: GenerationStack, org: str, calls: float, scope: BudgetScope = "organisation", **fields: Any
) -> Budget:
    """Set a budget of so many calls."""
    command = {"principal": principal_of(org, "Admin"), "scope": scope, "amount_nanos": round(calls * CALL_NANOS)}
    return await stack.bus.request(SetBudget.model_validate(command | fields))


async def budgets(stack: GenerationStack, org: str) -> list[Budget]:
    return (await stack.bus.request(ListBudgets(principal=principal_of(org, "Admin")))).budgets


async def spent(stack: GenerationStack, org: str) -> int:
    query = GetUsage(principal=principal_of(org, "Admin"), first_month=MONTH, last_month=MONTH)
    return (await stack.bus.request(query)).total.cost_nanos


async def events(stack: GenerationStack, org: str, count: int) -> list[dict[str, Any]]:
    """Wait for so many events that a budget was reached, and a little for more; return them."""
    found: list[dict[str, Any]] = []
    for _ in range(100):
        found = [
            event
            for event in map(json.loads, await stack.messages("EVENTS"))
            if event["organisation"] == org and "spent_nanos" in event
        ]
        if len(found) >= count:
            break
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    assert len(found) == count
    return found


async def is_answered(stack: GenerationStack, **fields: Any) -> bool:
    try:
        await collect_answer(stack.bus, chat(**{"config": priced()} | fields))
    except RateLimited:
        return False
    return True


async def test_no_call_begins_after_the_bookings_reached_the_budget_whatever_replica_takes_it(
    stack: GenerationStack,
) -> None:
    org, workers, finished, answered = new_organisation(), asyncio.Semaphore(8), 0, 0
    await collect_answer(stack.bus, chat(organisation=org))  # so that the project is there
    await set_budget(stack, org, 10)

    async def call() -> None:
        nonlocal finished, answered
        async with workers:
            may_be_answered = finished < 10
            is_stream = bool(finished % 2)
            if await is_answered(stack, organisation=org, stream=is_stream):
                assert may_be_answered
                answered += 1
                finished += 1

    await asyncio.gather(*(call() for _ in range(50)))
    assert 10 <= answered < 10 + 8
    assert await spent(stack, org) == answered * CALL_NANOS
    (budget,) = await budgets(stack, org)
    assert budget.spent_nanos == answered * CALL_NANOS
    assert not any([await is_answered(stack, organisation=org) for _ in range(10)])


async def test_one_after_another_the_call_that_reaches_the_budget_is_the_last(stack: GenerationStack) -> None:
    org = new_organisation()
    await set_budget(stack, org, 3)
    assert [await is_answered(stack, organisation=org) for _ in range(6)] == [True] * 3 + [False] * 3
    await set_budget(stack, org, 4)
    assert [await is_answered(stack, organisation=org) for _ in range(3)] == [True, False, False]
    await stack.bus.request(DeleteBudget(principal=principal_of(org, "Admin"), scope="organisation"))
    assert [await is_answered(stack, organisation=org) for _ in range(6)] == [True] * 6


async def test_a_refused_call_asks_no_provider_and_is_logged(stack: GenerationStack) -> None:
    org = new_organisation()
    await collect_answer(stack.bus, chat(organisation=org, principal=principal_of(org), config=priced()))
    await collect_answer(
        stack.bus,
        complete(organisation=org, project={"name": "text"}, config=config(endpoint="complete", prompt_template="x")),
    )
    await set_budget(stack, org, 0.5)
    stack.upstream.clear()
    given = [
        chat(organisation=org, config=priced(), num_samples=2),
        chat(organisation=org, config=priced(), stream=True),
        chat(organisation=org, config=None, deployed=True),
        complete(organisation=org, project={"name": "text"}, config=config(endpoint="complete", prompt_template="x")),
    ]
    for command in given:
        with pytest.raises(RateLimited) as refused:
            await collect_answer(stack.bus, command)
        logs = await stack.logs(*command.log_ids)
        assert {log.error for log in logs} == {refused.value.message}
        assert {log.tokens for log in logs} == {None}
    assert stack.upstream.requests == []
    assert refused.value.message == (
        f"The budget of your organisation for {datetime.now(UTC):%B %Y}, $0.000135, is used up: $0.00027 was spent. "
        "Ask an Admin to raise it; it begins anew with the next month (UTC)."
    )
    now = datetime.now(UTC)
    begins = (now.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    seconds = refused.value.retry_after_seconds
    assert seconds is not None
    assert abs(seconds - (begins - now).total_seconds()) < 30


async def test_the_budget_of_a_project_or_key_leaves_others_alone(stack: GenerationStack) -> None:
    org = new_organisation()
    ada, bob = (principal_of(org, "Member", actor) for actor in (KEYED, Actor(user_id="usr_bob", key_id="key_bob")))
    generation = (await collect_answer(stack.bus, chat(principal=ada, config=priced())))[1]
    await set_budget(stack, org, 1, "project", scope_id=generation.project_id)
    assert not await is_answered(stack, principal=ada)
    assert await is_answered(stack, principal=ada, project={"name": "other"})
    await set_budget(stack, org, 2, "key", scope_id="key_ada")
    assert not await is_answered(stack, principal=ada, project={"name": "other"})
    assert await is_answered(stack, principal=bob, project={"name": "other"})
    member = Principal(kind="member", organisation=org, role="Member", user_id="usr_ada")
    assert await is_answered(stack, principal=member, project={"name": "other"})
    found = [(budget.scope, budget.scope_id, budget.spent_nanos) for budget in await budgets(stack, org)]
    assert found == [
        ("project", generation.project_id, CALL_NANOS),
        ("key", "key_ada", 2 * CALL_NANOS),
    ]
    assert await is_answered(stack, organisation=new_organisation())


async def test_a_budget_is_announced_once_and_anew_when_it_was_raised(stack: GenerationStack) -> None:
    org = new_organisation()
    await set_budget(stack, org, 5, warn_at=0.6)
    await asyncio.gather(*(is_answered(stack, organisation=org) for _ in range(2)))
    await events(stack, org, 0)
    await is_answered(stack, organisation=org)
    (warned,) = await events(stack, org, 1)
    assert (warned["warn_at"], warned["spent_nanos"]) == (0.6, 3 * CALL_NANOS)
    await set_budget(stack, org, 5, warn_at=0.6)  # as it was
    await asyncio.gather(*(is_answered(stack, organisation=org) for _ in range(2)))
    assert not any(await asyncio.gather(*(is_answered(stack, organisation=org) for _ in range(10))))
    exceeded = (await events(stack, org, 2))[1]
    expected = {"scope": "organisation", "month": MONTH, "amount_nanos": 5 * CALL_NANOS, "spent_nanos": 5 * CALL_NANOS}
    assert {name: exceeded[name] for name in expected} == expected
    await set_budget(stack, org, 8, warn_at=0.6)  # of which 5 are spent
    assert (await events(stack, org, 3))[2]["warn_at"] == 0.6


async def test_budgets_hold_while_mongod_is_dead(stack: GenerationStack) -> None:
    org = new_organisation()
    rich, begun = new_organisation(), 20
    await set_budget(stack, org, 3)
    await set_budget(stack, rich, 1000)
    for _ in range(begun):  # until both replicas have cached what they need
        await is_answered(stack, organisation=org)
        assert await is_answered(stack, organisation=rich)
    stack.mongo.kill()
    try:
        async with asyncio.timeout(60):
            for _ in range(5):
                assert await is_answered(stack, organisation=rich)
                assert not await is_answered(stack, organisation=org)
    finally:
        stack.mongo.start()
    for _ in range(200):
        with suppress(Unavailable):
            if await spent(stack, rich) == (begun + 5) * CALL_NANOS:
                break
        await asyncio.sleep(0.1)
    assert await spent(stack, rich) == (begun + 5) * CALL_NANOS
    assert await spent(stack, org) == 3 * CALL_NANOS
    assert not await is_answered(stack, organisation=org)


async def test_a_budget_outlives_its_project_and_can_be_deleted(stack: GenerationStack) -> None:
    org = new_organisation()
    admin = principal_of(org, "Admin")
    project_id = (await collect_answer(stack.bus, chat(organisation=org, config=priced())))[1].project_id
    assert project_id is not None
    await set_budget(stack, org, 1, "project", scope_id=project_id)
    await stack.bus.request(DeleteProject(principal=admin, id=project_id))
    (budget,) = await budgets(stack, org)
    assert (budget.scope_id, budget.spent_nanos) == (project_id, CALL_NANOS)
    with pytest.raises(NotFound):
        await set_budget(stack, org, 2, "project", scope_id=project_id)
    query = {"principal": admin, "first_month": MONTH, "last_month": MONTH, "filters": {"project_id": project_id}}
    assert (await stack.bus.request(GetUsage.model_validate(query))).total.cost_nanos == CALL_NANOS
    await stack.bus.request(DeleteBudget(principal=admin, scope="project", scope_id=project_id))
    assert await budgets(stack, org) == []
    with pytest.raises(NotFound):
        await stack.bus.request(DeleteBudget(principal=admin, scope="project", scope_id=project_id))


async def test_changes_of_budgets_are_audited(stack: GenerationStack) -> None:
    org = new_organisation()
    await set_budget(stack, org, 1)
    await set_budget(stack, org, 1)  # as it is
    await set_budget(stack, org, 2, warn_at=0.5)
    command = DeleteBudget(principal=principal_of(org, "Admin", KEYED), scope="organisation")
    await stack.bus.request(command)
    entries: list[dict[str, Any]] = []
    for _ in range(100):
        published = map(json.loads, await stack.messages("EVENTS"))
        entries = [event["entry"] for event in published if event["organisation"] == org and "entry" in event]
        if len(entries) >= 3:
            break
        await asyncio.sleep(0.05)
    assert [(entry["action"], entry["details"]) for entry in entries] == [
        ("budget.set", {"scope": "organisation", "amount": "$0.00027", "warn_at": 0.8}),
        ("budget.set", {"scope": "organisation", "amount": "$0.00054", "warn_at": 0.5, "from_amount": "$0.00027"}),
        ("budget.deleted", {"scope": "organisation"}),
    ]
    assert entries[2]["actor"]["key_id"] == "key_ada"


async def test_budgets_of_another_organisation_are_not_there(stack: GenerationStack) -> None:
    org, other = new_organisation(), new_organisation()
    project_id = (await collect_answer(stack.bus, chat(organisation=org, config=priced())))[1].project_id
    await set_budget(stack, org, 1, "project", scope_id=project_id)
    with pytest.raises(NotFound):
        await set_budget(stack, other, 0, "project", scope_id=project_id)
    with pytest.raises(NotFound):
        await stack.bus.request(
            DeleteBudget(principal=principal_of(other, "Admin"), scope="project", scope_id=project_id)
        )
    assert await budgets(stack, other) == []
    await set_budget(stack, other, 0, "key", scope_id="key_ada")
    assert await is_answered(stack, principal=principal_of(org, "Member", KEYED), project={"name": "other"})


@pytest.mark.parametrize(("scope", "scope_id"), [("organisation", "tm_1"), ("project", None), ("key", None)])
async def test_a_budget_that_names_too_much_or_too_little_is_refused(
    stack: GenerationStack, scope: BudgetScope, scope_id: str | None
) -> None:
    with pytest.raises(Invalid):
        await set_budget(stack, new_organisation(), 1, scope, scope_id=scope_id)
