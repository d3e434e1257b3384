"""What generation writes into the audit log: one entry for each change, without any secret, whatever is killed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from shared import ids
from shared.audit import COLLECTION
from shared.bus import StreamSpec, ensure_stream
from shared.contracts.audit import AuditEntry, AuditRecorded
from shared.contracts.generation.credentials import DeleteProviderKey, SetProviderKey
from shared.contracts.generation.deployments import (
    CreateEnvironment,
    DeleteEnvironment,
    Deploy,
    Undeploy,
    UpdateEnvironment,
)
from shared.contracts.generation.projects import (
    CreateProject,
    DefineFeedbackTypes,
    DeleteProject,
    FeedbackLabel,
    FeedbackType,
    ProjectRef,
    ResolveConfig,
    UpdateProject,
)
from shared.contracts.generation.routing import DeleteRedirect, SetRedirect, Target
from shared.contracts.generation.tools import CreateTool, DeleteTool, GetApi, UpdateTool
from shared.contracts.message import Command
from shared.contracts.principal import Principal
from shared.encryption import SecretBox
from shared.errors import Conflict, Unavailable
from tests.integration.generation.stack import GenerationStack, chat, collect_answer, config, run_generation_stack
from tests.integration.servers import SECRET, running, until_ready

CANARY = "sk-canary-9d41e7c2-never-in-an-entry"
BOX = SecretBox(SecretStr(SECRET))


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GenerationStack]:
    async with run_generation_stack(tmp_path_factory.mktemp("audit")) as started:
        yield started


@pytest.fixture
def ada() -> Principal:
    """An Admin of a new organisation, with an address."""
    return Principal(
        organisation=ids.mint("tm"), role="Admin", user_id="usr_ada", email="ada@example.org", key_id="key_1",
        address="192.0.2.7",
    )  # fmt: skip


async def until_announced(stack: GenerationStack) -> None:
    async with asyncio.timeout(15):
        while await stack.database[COLLECTION].count_documents({}):  # noqa: ASYNC110 - another process empties it
            await asyncio.sleep(0.02)


async def entries_of(stack: GenerationStack, principal: Principal) -> list[AuditEntry]:
    """Return what was announced of the principal's organisation, in the order of the stream, repeats included.

    No event may have the canary, which these tests send in keys, secrets and URLs.
    """
    await until_announced(stack)
    messages = await stack.messages("EVENTS")
    assert not any(CANARY.encode() in message for message in messages)
    events = [AuditRecorded.model_validate_json(message) for message in messages if b'"entry"' in message]
    return [event.entry for event in events if event.organisation == principal.organisation]


async def actions_after(stack: GenerationStack, principal: Principal, *commands: Command[Any]) -> list[str]:
    """Send commands, each twice in a row, and return the actions that were announced meanwhile."""
    before = len(await entries_of(stack, principal))
    for command in commands:
        for _ in range(2):
            await stack.bus.request(command)
            await until_announced(stack)
    return [entry.action for entry in (await entries_of(stack, principal))[before:]]


async def test_projects_and_deployments(stack: GenerationStack, ada: Principal) -> None:
    create = CreateProject(principal=ada, name="desk", directory_id="dir_1")
    assert await actions_after(stack, ada, create) == ["project.created"]
    project = create.id
    update = UpdateProject(principal=ada, id=project, name="table", directory_id="dir_2")
    assert sorted(await actions_after(stack, ada, update)) == ["project.moved", "project.renamed"]
    types = [FeedbackType(type="mood", kind="select", labels=[FeedbackLabel(value="good", sentiment="positive")])]
    define = DefineFeedbackTypes(principal=ada, project_id=project, types=types)
    assert await actions_after(stack, ada, define) == ["feedback_types.defined"]
    first, second = (
        ResolveConfig(principal=ada, project=ProjectRef(id=project), config=config(temperature=number))
        for number in (0.1, 0.2)
    )
    assert await actions_after(stack, ada, first, second) == ["deployment.deployed"]  # the first by itself
    other = (await stack.bus.request(second)).version.id
    deploy = Deploy(principal=ada, project_id=project, config_id=other)
    assert await actions_after(stack, ada, deploy) == ["deployment.deployed"]
    assert await actions_after(stack, ada, Undeploy(principal=ada, project_id=project)) == ["deployment.undeployed"]
    activate = UpdateProject(principal=ada, id=project, active_config_id=other)
    assert await actions_after(stack, ada, activate) == ["deployment.deployed"]
    await stack.bus.request(DeleteProject(principal=ada, id=project))
    entries = await entries_of(stack, ada)
    assert (entries[-1].action, entries[-1].object.id, entries[-1].object.name) == ("project.deleted", project, "table")
    renamed = next(entry for entry in entries if entry.action == "project.renamed")
    assert (renamed.object.name, renamed.details) == ("table", {"from": "desk"})
    deployed = [entry for entry in entries if entry.action == "deployment.deployed"]
    assert deployed[1].details["previous_config_id"] == deployed[0].details["config_id"]
    assert {(one.object.name, one.details["environment"]) for one in deployed} == {("table", "production")}
    assert {entry.address for entry in entries} == {"192.0.2.7"}
    assert all(entry.actor == ada.actor for entry in entries)
    assert len({entry.id for entry in entries}) == len(entries)


async def test_environments(stack: GenerationStack, ada: Principal) -> None:
    create = CreateEnvironment(principal=ada, name="staging")
    assert await actions_after(stack, ada, create) == ["environment.created"]
    both = UpdateEnvironment(principal=ada, id=create.id, name="live", make_default=True)
    assert sorted(await actions_after(stack, ada, both)) == ["environment.made_default", "environment.renamed"]
    with pytest.raises(Conflict):
        await stack.bus.request(DeleteEnvironment(principal=ada, id=create.id))
    default = ids.derive("env", ada.organisation, "production")
    resolve = ResolveConfig(principal=ada, project=ProjectRef(name="desk"), config=config())
    assert await actions_after(stack, ada, resolve) == ["project.created", "deployment.deployed"]
    await stack.bus.request(UpdateEnvironment(principal=ada, id=default, make_default=True))
    await stack.bus.request(DeleteEnvironment(principal=ada, id=create.id))
    actions = [entry.action for entry in await entries_of(stack, ada)]
    assert actions[-3:] == ["environment.made_default", "environment.deleted", "deployment.undeployed"]


async def test_redirects_and_provider_keys(stack: GenerationStack, ada: Principal) -> None:
    asked = Target(provider="openai", model="gpt-4")
    redirect = SetRedirect(principal=ada, asked=asked, fallbacks=[Target(provider="mock", model="b")])
    assert await actions_after(stack, ada, redirect) == ["redirect.set"]
    changed = redirect.model_copy(update={"fallbacks": [Target(provider="mock", model="c")]})
    assert await actions_after(stack, ada, changed) == ["redirect.set"]
    await stack.bus.request(DeleteRedirect(principal=ada, asked=asked))
    key = SetProviderKey(principal=ada, name="groq", sealed=BOX.encrypt({"key": CANARY}))
    assert (await actions_after(stack, ada, key))[-1:] == ["provider_key.set"]
    replaced = key.model_copy(update={"sealed": BOX.encrypt({"key": f"{CANARY}-2"})})
    assert await actions_after(stack, ada, replaced) == ["provider_key.set"]
    await stack.bus.request(DeleteProviderKey(principal=ada, name="groq"))
    actions = [entry.action for entry in await entries_of(stack, ada)]
    assert actions == ["redirect.set"] * 2 + ["redirect.deleted"] + ["provider_key.set"] * 2 + ["provider_key.deleted"]


async def test_tools(stack: GenerationStack, ada: Principal) -> None:
    settings = GetApi(url=f"https://example.org/?token={CANARY}", query_parameters=["q"], key_header="X-Key")
    create = CreateTool(
        principal=ada, name="weather", settings=settings, sealed_secrets=BOX.encrypt({"key": f"{CANARY}-tool"})
    )
    assert await actions_after(stack, ada, create) == ["tool.created"]
    update = UpdateTool(
        principal=ada,
        id=create.id,
        name="climate",
        changes={"query_parameters": ["a", "b"]},
        sealed_secrets=BOX.encrypt({"key": f"{CANARY}-new"}),
    )
    assert await actions_after(stack, ada, update) == ["tool.updated"]
    same_secret = UpdateTool(principal=ada, id=create.id, sealed_secrets=BOX.encrypt({"key": f"{CANARY}-new"}))
    assert await actions_after(stack, ada, same_secret) == []
    await stack.bus.request(DeleteTool(principal=ada, id=create.id))
    created, updated, deleted = await entries_of(stack, ada)
    assert created.details == {"tool_kind": "get_api", "secrets": ["key"]}
    assert updated.details == {"changed": ["name", "query_parameters", "key"]}
    assert (deleted.action, deleted.object.name) == ("tool.deleted", "climate")


async def test_a_call_is_audited_only_where_it_makes_a_project(stack: GenerationStack, ada: Principal) -> None:
    for text in ("one", "two", "three"):
        await collect_answer(stack.bus, chat(text, principal=ada, organisation=ada.organisation))
    assert [entry.action for entry in await entries_of(stack, ada)] == ["project.created", "deployment.deployed"]


async def test_of_many_deployments_at_once_each_has_one_entry(stack: GenerationStack, ada: Principal) -> None:
    resolved = [
        await stack.bus.request(
            ResolveConfig(principal=ada, project=ProjectRef(name="desk"), config=config(max_tokens=number + 1))
        )
        for number in range(6)
    ]
    project = resolved[0].project.id
    await asyncio.gather(
        *(
            stack.bus.request(Deploy(principal=ada, project_id=project, config_id=one.version.id), timeout_seconds=15)
            for one in resolved * 2
        )
    )
    changes = await stack.database["deployments"].count_documents({"project_id": project})
    entries = [entry for entry in await entries_of(stack, ada) if entry.action == "deployment.deployed"]
    assert len({entry.id for entry in entries}) == len(entries) == changes


async def test_an_entry_of_a_process_that_was_killed_before_it_announced_it_arrives_once(
    stack: GenerationStack, ada: Principal
) -> None:
    jetstream = (await stack.bus.connected_client()).jetstream()
    await until_announced(stack)
    await jetstream.delete_stream("EVENTS")
    command = CreateEnvironment(principal=ada, name="staging")
    creating = asyncio.create_task(stack.bus.request(command))
    async with asyncio.timeout(10):
        while not await stack.database[COLLECTION].count_documents({}):  # noqa: ASYNC110 - another process fills it
            await asyncio.sleep(0.005)
    stack.generation.kill()
    with pytest.raises(Unavailable):
        await creating
    stored = await stack.database["environment_sets"].find_one({"_id": ada.organisation})
    assert stored is not None
    assert [one["name"] for one in stored["places"]] == ["production", "staging"]
    await ensure_stream(stack.bus, StreamSpec("EVENTS", ("events.>",)))
    stack.generation.start()
    await until_ready(stack.bus, "generation")
    assert await actions_after(stack, ada, command) == []
    assert [(entry.action, entry.object.id) for entry in await entries_of(stack, ada)] == [
        ("environment.created", command.id)
    ]


async def test_of_changes_while_the_database_dies_each_is_there_with_its_entry_or_not_at_all(
    stack: GenerationStack, ada: Principal
) -> None:
    commands = [CreateProject(principal=ada, name=f"project {number}") for number in range(60)]
    creating = [asyncio.create_task(stack.bus.request(command)) for command in commands]
    await asyncio.sleep(0.1)
    stack.mongo.kill()
    await asyncio.gather(*creating, return_exceptions=True)
    with running(stack.mongo):
        async with asyncio.timeout(20):
            while not (await stack.database.command("hello"))["isWritablePrimary"]:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.1)
        await until_ready(stack.bus, "generation")
        entries = await entries_of(stack, ada)
        cursor = stack.database["projects"].find({"organisation": ada.organisation})
        saved = {document["_id"] async for document in cursor}
        assert {entry.object.id for entry in entries} == saved
        assert len({entry.id for entry in entries}) == len(saved)
