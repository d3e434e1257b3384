"""Projects, environments and deployments: two generation processes on a real MongoDB and a real NATS."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.aio.msg import Msg

from services.gateway.project_cache import ProjectCache
from services.gateway.settings import Settings as GatewaySettings
from shared import ids
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.blobs import GetHeldBlobs
from shared.contracts.generation.deployments import (
    CreateEnvironment,
    DeleteEnvironment,
    Deploy,
    Deployment,
    Environment,
    GetActiveConfig,
    ListDeployed,
    ListDeployments,
    ListEnvironments,
    Undeploy,
    UpdateEnvironment,
)
from shared.contracts.generation.projects import (
    CreateProject,
    DefineFeedbackTypes,
    DeleteProject,
    FeedbackLabel,
    FeedbackType,
    GetProject,
    GetVersions,
    ListProjects,
    ListVersions,
    ModelConfig,
    ProjectChanged,
    ProjectRef,
    ResolveConfig,
    ResolvedConfig,
    UpdateProject,
)
from shared.contracts.logs import INTAKE, Page, ProjectDeleted
from shared.contracts.message import Request
from shared.contracts.principal import Actor, Principal
from shared.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from tests.integration.generation.stack import (
    GenerationStack,
    chat,
    collect_answer,
    config,
    new_organisation,
    principal_of,
    run_generation_stack,
)
from tests.integration.servers import SECRET, connected, running, service
from tests.principals import member

ADA = Actor(user_id="usr_ada", email="ada@example.org")
BOB = Actor(user_id="usr_bob", email="bob@example.org")


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GenerationStack]:
    """Two replicas: what one changes the other has to know at once."""
    folder = tmp_path_factory.mktemp("projects")
    async with run_generation_stack(folder) as started:
        (folder / "other").mkdir()
        other = service("generation", folder / "other", started.nats, started.mongo)
        with running(other):
            async with asyncio.timeout(20):
                while b'"ready"' not in other.log.read_bytes():  # noqa: ASYNC110 - the log is a file
                    await asyncio.sleep(0.05)
            yield started


async def register(stack: GenerationStack, org: str, given: ModelConfig | None = None, **fields: Any) -> ResolvedConfig:
    values = {"project": ProjectRef(name="desk"), "config": given or config()} | fields
    return await stack.bus.request(ResolveConfig(principal=principal_of(org, actor=ADA), **values))


async def used(stack: GenerationStack, org: str, **fields: Any) -> set[str]:
    """Which configs deployed calls use, asked often enough for both replicas to answer."""
    commands = [chat(organisation=org, config=None, deployed=True, **fields) for _ in range(6)]
    return {
        generation.config_id
        for _, generation in await asyncio.gather(*(collect_answer(stack.bus, it) for it in commands))
    }


async def unusable(stack: GenerationStack, org: str, said: str, **fields: Any) -> None:
    """Every one of as many calls is told 404."""
    commands = [chat(organisation=org, config=None, deployed=True, **fields) for _ in range(6)]
    told = await asyncio.gather(*(collect_answer(stack.bus, it) for it in commands), return_exceptions=True)
    assert [type(one) for one in told] == [NotFound] * len(commands)
    assert all(said in str(one) for one in told)


async def environments(stack: GenerationStack, org: str) -> list[Environment]:
    return (await stack.bus.request(ListEnvironments(principal=member(org)))).environments


async def history(stack: GenerationStack, org: str, project_id: str, **fields: Any) -> list[Deployment]:
    return (
        await stack.bus.request(ListDeployments(principal=member(org), project_id=project_id, **fields))
    ).deployments


class TestDeploying:
    async def test_a_deployment_is_used_by_the_very_next_calls_of_all_replicas(self, stack: GenerationStack) -> None:
        org = new_organisation()
        versions = [(await register(stack, org, config(seed=number))).version for number in range(2)]
        assert await used(stack, org) == {versions[0].id}
        for number in range(1, 13):
            wanted = versions[number % 2]
            await stack.bus.request(
                Deploy(principal=principal_of(org, actor=BOB), project_id=wanted.project_id, config_id=wanted.id)
            )
            assert await used(stack, org) == {wanted.id}

    async def test_who_deployed_and_removed_what_is_kept(self, stack: GenerationStack) -> None:
        org = new_organisation()
        first, second = [(await register(stack, org, config(seed=number))).version for number in range(2)]
        project_id = first.project_id
        (production,) = await environments(stack, org)
        staging = await stack.bus.request(CreateEnvironment(principal=member(org), name="staging"))
        both = [production.id, staging.id]
        deploy = Deploy(
            principal=principal_of(org, actor=BOB), project_id=project_id, config_id=second.id, environment_ids=both
        )
        answer = await stack.bus.request(deploy)
        assert [(one.environment.name, one.config_id) for one in answer.deployed] == [
            ("production", second.id),
            ("staging", second.id),
        ]
        await stack.bus.request(deploy)  # what is so already is no change
        await stack.bus.request(
            Undeploy(principal=principal_of(org, actor=ADA), project_id=project_id, environment="staging")
        )
        await stack.bus.request(
            Undeploy(principal=principal_of(org, actor=BOB), project_id=project_id, environment_id=staging.id)
        )
        found = await history(stack, org, project_id)
        assert [(one.environment, one.config_id, one.previous_config_id, one.by) for one in found] == [
            ("staging", None, second.id, ADA),
            ("staging", second.id, None, BOB),
            ("production", second.id, first.id, BOB),
            ("production", first.id, None, ADA),
        ]
        assert found == sorted(found, key=lambda one: one.at, reverse=True)
        assert await history(stack, org, project_id, page=Page(number=1, size=3)) == found[3:]

    async def test_many_deployments_at_once_leave_one_line_of_history(self, stack: GenerationStack) -> None:
        org = new_organisation()
        versions = [(await register(stack, org, config(seed=number))).version for number in range(8)]
        project_id = versions[0].project_id
        commands = [
            Deploy(principal=principal_of(org, actor=ADA), project_id=project_id, config_id=it.id)
            for it in versions[1:]
        ]
        await asyncio.gather(*(stack.bus.request(command) for command in commands))
        found = await history(stack, org, project_id)
        assert {one.config_id for one in found} == {version.id for version in versions}
        active = await stack.bus.request(GetActiveConfig(principal=member(org), project_id=project_id))
        chain = {one.previous_config_id: one.config_id for one in found}
        line: list[str] = []
        while (following := chain.get(line[-1] if line else None)) is not None:
            line.append(following)
        assert len(line) == len(versions), "each change begins where another ended"
        assert line[-1] == active.version.id

    async def test_nothing_is_deployed_if_something_is_wrong(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = (await register(stack, org)).version
        other = (await register(stack, org, config(seed=1), project=ProjectRef(name="other"))).version
        (production,) = await environments(stack, org)
        deploy = Deploy(principal=member(org), project_id=made.project_id, config_id=made.id)
        for wrong, error in (
            ({"config_id": other.id}, Invalid),
            ({"config_id": "config_unknown"}, NotFound),
            ({"project_id": "pr_unknown"}, NotFound),
            ({"environment_ids": [production.id, "env_unknown"]}, NotFound),
        ):
            with pytest.raises(error):
                await stack.bus.request(deploy.model_copy(update=wrong))
        assert len(await history(stack, org, made.project_id)) == 1
        with pytest.raises(NotFound, match="no environment 'staging'"):
            await stack.bus.request(
                GetActiveConfig(principal=member(org), project_id=made.project_id, environment="staging")
            )

    async def test_large_configs_in_many_environments_are_told_by_id_and_name(self, stack: GenerationStack) -> None:
        org = new_organisation()
        large = config(name="Large", chat_template=[{"role": "system", "content": "x" * 1_000_000}])
        made = (await register(stack, org, large)).version
        places = [
            await stack.bus.request(CreateEnvironment(principal=member(org), name=f"place {it}")) for it in range(10)
        ]
        deploy = Deploy(
            principal=member(org),
            project_id=made.project_id,
            config_id=made.id,
            environment_ids=[one.id for one in places],
        )
        answer = await stack.bus.request(deploy)
        assert {(one.config_id, one.config_name) for one in answer.deployed} == {(made.id, "Large")}
        listed = await stack.bus.request(ListDeployed(principal=member(org), project_id=made.project_id))
        assert [one.config_name for one in listed.deployed] == ["Large"] * 11

    async def test_what_was_removed_stays_removed_for_later_configs(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = (await register(stack, org)).version
        await stack.bus.request(Undeploy(principal=member(org), project_id=made.project_id))
        await register(stack, org, config(seed=1))
        await register(stack, org)
        await unusable(stack, org, "nothing deployed")

    async def test_a_deployment_older_than_the_history_is_still_there(self, stack: GenerationStack) -> None:
        org = new_organisation()
        first, second = [(await register(stack, org, config(seed=number))).version for number in range(2)]
        (production,) = await environments(stack, org)
        place_ = {"organisation": org, "project_id": first.project_id, "environment_id": production.id}
        old = await stack.database["deployments"].find_one_and_delete(place_)
        assert old is not None
        await stack.database["deployments"].insert_one(
            place_ | {"config_id": first.id, "deployed_at": old["deployed_at"]}
        )
        active = await stack.bus.request(GetActiveConfig(principal=member(org), project_id=first.project_id))
        assert active.version == first
        await stack.bus.request(
            Deploy(principal=principal_of(org, actor=BOB), project_id=first.project_id, config_id=second.id)
        )
        newest, oldest = await history(stack, org, first.project_id)
        assert (newest.config_id, newest.previous_config_id, newest.by) == (second.id, first.id, BOB)
        assert (oldest.config_id, oldest.by) == (first.id, None)


class TestEnvironments:
    async def test_every_organisation_begins_with_production(self, stack: GenerationStack) -> None:
        org = new_organisation()
        (production,) = await environments(stack, org)
        assert (production.name, production.default) == ("production", True)
        assert ids.is_id("env", production.id)
        assert await environments(stack, org) == [production]

    async def test_the_default_one_counts_at_the_time_of_the_call(self, stack: GenerationStack) -> None:
        org = new_organisation()
        first, second = [(await register(stack, org, config(seed=number))).version for number in range(2)]
        staging = await stack.bus.request(CreateEnvironment(principal=member(org), name="staging"))
        await stack.bus.request(
            Deploy(
                principal=member(org), project_id=first.project_id, config_id=second.id, environment_ids=[staging.id]
            )
        )
        assert await used(stack, org) == {first.id}
        assert await used(stack, org, environment="staging") == {second.id}
        for _ in range(3):
            (production,) = [one for one in await environments(stack, org) if one.name == "production"]
            await stack.bus.request(UpdateEnvironment(principal=member(org), id=staging.id, make_default=True))
            assert await used(stack, org) == {second.id}
            assert [(one.name, one.default) for one in await environments(stack, org)] == [
                ("staging", True),
                ("production", False),
            ]
            await stack.bus.request(UpdateEnvironment(principal=member(org), id=production.id, make_default=True))
            assert await used(stack, org) == {first.id}

    async def test_a_new_name_holds_at_once_and_the_old_one_no_more(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = (await register(stack, org)).version
        (production,) = await environments(stack, org)
        before, after = "production", "live"
        for _ in range(4):
            assert await used(stack, org, environment=before) == {made.id}
            await stack.bus.request(UpdateEnvironment(principal=member(org), id=production.id, name=after))
            assert await used(stack, org, environment=after) == {made.id}
            await unusable(stack, org, before, environment=before)
            before, after = after, before

    async def test_names_are_unique(self, stack: GenerationStack) -> None:
        org = new_organisation()
        staging = await stack.bus.request(CreateEnvironment(principal=member(org), name="staging"))
        with pytest.raises(Conflict, match="staging"):
            await stack.bus.request(CreateEnvironment(principal=member(org), name="staging"))
        with pytest.raises(Conflict, match="production"):
            await stack.bus.request(
                UpdateEnvironment(principal=member(org), id=staging.id, name="production", make_default=True)
            )
        assert [one.name for one in await environments(stack, org)] == ["production", "staging"]
        await stack.bus.request(CreateEnvironment(principal=member(new_organisation()), name="staging"))

    async def test_one_default_and_unique_names_however_many_change_at_once(self, stack: GenerationStack) -> None:
        org = new_organisation()
        names = ["a", "b", "a", "b", "c", "c"]
        made = await asyncio.gather(
            *(stack.bus.request(CreateEnvironment(principal=member(org), name=name)) for name in names),
            return_exceptions=True,
        )
        there = [one for one in made if isinstance(one, Environment)]
        assert sorted(one.name for one in there) == ["a", "b", "c"]
        assert all(isinstance(one, Conflict) for one in made if not isinstance(one, Environment))
        await asyncio.gather(
            *(
                stack.bus.request(UpdateEnvironment(principal=member(org), id=one.id, make_default=True))
                for one in there
                for _ in range(3)
            ),
            return_exceptions=True,
        )
        found = await environments(stack, org)
        assert [one.default for one in found] == [True, False, False, False]
        assert found[0].name in names

    async def test_deleting_one_removes_what_is_deployed_in_it(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = (await register(stack, org)).version
        staging = await stack.bus.request(CreateEnvironment(principal=member(org), name="staging"))
        deploy = Deploy(
            principal=member(org), project_id=made.project_id, config_id=made.id, environment_ids=[staging.id]
        )
        await stack.bus.request(deploy)
        assert await used(stack, org, environment="staging") == {made.id}
        await stack.bus.request(DeleteEnvironment(principal=principal_of(org, actor=BOB), id=staging.id))
        await unusable(stack, org, "staging", environment="staging")
        removal = (await history(stack, org, made.project_id))[0]
        assert (removal.environment, removal.config_id, removal.previous_config_id) == (None, None, made.id)
        assert removal.by == BOB
        again = await stack.bus.request(CreateEnvironment(principal=member(org), name="staging"))
        listed = await stack.bus.request(ListDeployed(principal=member(org), project_id=made.project_id))
        assert [(one.environment.id, one.config_id) for one in listed.deployed][1] == (again.id, None)

    async def test_the_default_one_cannot_be_deleted(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = (await register(stack, org)).version
        (production,) = await environments(stack, org)
        with pytest.raises(Conflict, match="default"):
            await stack.bus.request(DeleteEnvironment(principal=member(org), id=production.id))
        assert await used(stack, org) == {made.id}
        with pytest.raises(NotFound):
            await stack.bus.request(DeleteEnvironment(principal=member(new_organisation()), id=production.id))


class TestProjects:
    async def test_a_name_is_taken_once(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = await stack.bus.request(CreateProject(principal=member(org), name="desk"))
        with pytest.raises(Conflict, match="desk"):
            await stack.bus.request(CreateProject(principal=member(org), name="desk"))
        other = await stack.bus.request(CreateProject(principal=member(org), name="other"))
        with pytest.raises(Conflict, match="desk"):
            await stack.bus.request(UpdateProject(principal=member(org), id=other.project.id, name="desk"))
        assert (await register(stack, org)).project.id == made.project.id
        await stack.bus.request(CreateProject(principal=member(new_organisation()), name="desk"))

    async def test_no_new_project_has_a_name_without_end_and_old_ones_keep_theirs(self, stack: GenerationStack) -> None:
        org = new_organisation()
        with pytest.raises(Invalid, match=r"project: .*255"):
            await register(stack, org, project=ProjectRef(name="x" * 256))
        made = (await register(stack, org, project=ProjectRef(name="x" * 255))).project
        await stack.database["projects"].update_one({"_id": made.id}, {"$set": {"name": "y" * 300}})
        assert (await register(stack, org, project=ProjectRef(name="y" * 300))).project.id == made.id

    async def test_the_same_command_twice_makes_one_project(self, stack: GenerationStack) -> None:
        command = CreateProject(principal=member(new_organisation()), name="desk")
        assert await stack.bus.request(command) == await stack.bus.request(command)

    async def test_a_new_name_holds_at_once_everywhere(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = (await register(stack, org)).version
        before, after = "desk", "counter"
        for _ in range(4):
            assert await used(stack, org, project=ProjectRef(name=before)) == {made.id}
            await stack.bus.request(UpdateProject(principal=member(org), id=made.project_id, name=after))
            assert await used(stack, org, project=ProjectRef(name=after)) == {made.id}
            await unusable(stack, org, before, project=ProjectRef(name=before))
            before, after = after, before

    async def test_of_an_update_all_is_done_or_nothing(self, stack: GenerationStack) -> None:
        org = new_organisation()
        first, second = [(await register(stack, org, config(seed=number))).version for number in range(2)]
        await stack.bus.request(CreateProject(principal=member(org), name="taken"))
        update = UpdateProject(
            principal=principal_of(org, actor=BOB), id=first.project_id, name="new", active_config_id=second.id
        )
        with pytest.raises(NotFound):
            await stack.bus.request(update.model_copy(update={"active_config_id": "config_unknown"}))
        with pytest.raises(Conflict):
            await stack.bus.request(update.model_copy(update={"name": "taken"}))
        unchanged = await stack.bus.request(GetProject(principal=member(org), id=first.project_id))
        assert (unchanged.project.name, unchanged.active) == ("desk", first)
        changed = await stack.bus.request(update)
        assert (changed.project.name, changed.active) == ("new", second)

    async def test_projects_are_listed_filtered_sorted_and_paged(self, stack: GenerationStack) -> None:
        org = new_organisation()
        for name in ("banana", "Apple", "cherry (ripe)", "APRICOT"):
            await stack.bus.request(CreateProject(principal=member(org), name=name))

        async def found(**fields: Any) -> list[str]:
            page = await stack.bus.request(ListProjects(principal=member(org), **fields))
            return [one.project.name for one in page.projects]

        assert await found() == ["APRICOT", "cherry (ripe)", "Apple", "banana"]
        assert await found(sort_by="name", descending=False) == ["Apple", "APRICOT", "banana", "cherry (ripe)"]
        assert await found(name="ap") == ["APRICOT", "Apple"]
        assert await found(name="(") == ["cherry (ripe)"]
        assert await found(name="\x00") == []
        assert await found(page=Page(number=1, size=3)) == ["banana"]

    async def test_a_list_reads_no_project_of_another_organisation(self, stack: GenerationStack) -> None:
        org, other = new_organisation(), new_organisation()
        now = datetime.now(UTC)
        await stack.database["projects"].insert_many(
            {"_id": ids.mint("pr"), "organisation": one, "name": f"{it}", "created_at": now, "updated_at": now}
            for one, many in ((org, 30), (other, 300))
            for it in range(many)
        )
        try:
            for sort_by in ("created_at", "updated_at", "name"):
                await stack.database.command("profile", 2)
                query = ListProjects(principal=member(org), sort_by=sort_by, page=Page(size=10))
                assert len((await stack.bus.request(query)).projects) == 10
                await stack.database.command("profile", 0)
                wanted = {"command.find": "projects", "command.filter.organisation": org}
                (found,) = [one async for one in stack.database["system.profile"].find(wanted)]
                assert found["docsExamined"] <= (10 if sort_by != "updated_at" else 30), found["planSummary"]
                assert found["keysExamined"] <= 31, found["planSummary"]
                await stack.database["system.profile"].drop()
        finally:
            await stack.database.command("profile", 0)
            await stack.database["projects"].delete_many({"organisation": {"$in": [org, other]}})

    async def test_versions_are_listed_newest_first(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = [(await register(stack, org, config(seed=number))).version for number in range(3)]
        query = ListVersions(principal=member(org), project_id=made[0].project_id, page=Page(size=2))
        page = await stack.bus.request(query)
        assert (page.versions, page.total) == ([made[2], made[1]], 3)

    async def test_feedback_types_defined_at_once_are_all_there(self, stack: GenerationStack) -> None:
        org = new_organisation()
        project = (await stack.bus.request(CreateProject(principal=member(org), name="desk"))).project
        labels = [FeedbackType(type="action", labels=[FeedbackLabel(value=f"label {number}")]) for number in range(40)]
        await asyncio.gather(
            *(
                stack.bus.request(DefineFeedbackTypes(principal=member(org), project_id=project.id, types=[one]))
                for one in labels
            )
        )
        types = (await stack.bus.request(GetProject(principal=member(org), id=project.id))).feedback_types
        (action,) = [one for one in types if one.type == "action"]
        assert sorted(label.value for label in action.labels) == sorted(f"label {number}" for number in range(40))

    async def test_changes_are_announced(self, stack: GenerationStack) -> None:
        org = new_organisation()
        heard: list[str] = []

        async def record(message: Msg) -> None:
            heard.append(ProjectChanged.model_validate_json(message.data).what)

        subscription = await stack.bus.client.subscribe(f"events.{org}.project.changed", cb=record)
        made = (await register(stack, org)).version
        await stack.bus.request(UpdateProject(principal=member(org), id=made.project_id, name="counter"))
        await stack.bus.request(Undeploy(principal=member(org), project_id=made.project_id))
        await stack.bus.request(CreateEnvironment(principal=member(org), name="staging"))
        await stack.bus.request(DeleteProject(principal=principal_of(org), id=made.project_id))
        await stack.bus.client.flush()
        await subscription.unsubscribe()
        assert heard == ["created", "deployed", "configured", "renamed", "undeployed", "environments", "deleted"]


class TestGateways:
    """What gateways remember of projects; each has a connection of its own."""

    async def test_every_gateway_forgets_what_changed(self, stack: GenerationStack) -> None:
        caller = Principal(
            organisation=new_organisation(), role="Admin", key_id="key_1", user_id="usr_1", email="a@b.c"
        )
        gateway = GatewaySettings(secret=SECRET)
        async with connected(stack.nats) as one, connected(stack.nats) as other:
            project_caches = [ProjectCache(one, gateway), ProjectCache(other, gateway)]
            for project_cache in project_caches:
                await project_cache.subscribe()

            async def resolved(name: str) -> list[ResolvedConfig]:
                ref = ProjectRef(name=name)
                return [await it.resolve(caller, ref, config=config()) for it in project_caches]

            first, same = await resolved("desk")
            project_id = first.project.id
            assert first == same
            for name in ("counter", "desk", "counter"):
                await one.request(UpdateProject(principal=member(caller.organisation), id=project_id, name=name))
                for project_cache in project_caches:
                    assert (await project_cache.get_project(caller.organisation, project_id)).name == name
            await other.request(DeleteProject(principal=principal_of(caller.organisation), id=project_id))
            for project_cache in project_caches:
                assert await project_cache.get_many_projects(caller.organisation, [project_id]) == {}
                assert await project_cache.get_many_versions(caller.organisation, [first.version.id]) == {}
            anew, again = await resolved("counter")
            assert anew.project.id == again.project.id != project_id
            (record,) = await history(stack, caller.organisation, anew.project.id)
            assert record.by == caller.actor

    async def test_who_was_away_trusts_nothing_remembered(self, stack: GenerationStack) -> None:
        org = new_organisation()
        project_id = (await register(stack, org)).project.id
        async with connected(stack.nats) as bus:
            project_cache = ProjectCache(bus, GatewaySettings(secret=SECRET))
            await project_cache.subscribe()
            assert (await project_cache.get_project(org, project_id)).name == "desk"
            await stack.database["projects"].update_one({"_id": project_id}, {"$set": {"name": "changed unheard"}})
            assert (await project_cache.get_project(org, project_id)).name == "desk"
            await bus._on_reconnected()
            assert (await project_cache.get_project(org, project_id)).name == "changed unheard"


class TestDeleting:
    async def test_everything_of_it_is_gone_and_its_name_is_free(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = (await register(stack, org)).version
        assert await used(stack, org) == {made.id}
        await stack.bus.request(DeleteProject(principal=principal_of(org), id=made.project_id))
        await unusable(stack, org, "desk")
        with pytest.raises(NotFound):
            await stack.bus.request(GetProject(principal=member(org), id=made.project_id))
        with pytest.raises(NotFound):
            await stack.bus.request(DeleteProject(principal=principal_of(org), id=made.project_id))
        for _ in range(6):
            with pytest.raises(NotFound):
                await stack.bus.request(ResolveConfig(principal=member(org), project=ProjectRef(), config_id=made.id))
        assert (await stack.bus.request(GetVersions(principal=member(org), ids=[made.id]))).versions == []
        for collection in ("projects", "versions", "deployments"):
            assert await stack.database[collection].count_documents({"organisation": org}) == 0
        again = await register(stack, org)
        assert again.project.id != made.project_id
        assert (await stack.bus.request(ListProjects(principal=member(org)))).total == 1

    async def test_logging_is_told_once_it_is_hidden(self, stack: GenerationStack) -> None:
        org = new_organisation()
        project_id = (await register(stack, org)).project.id
        await stack.bus.request(DeleteProject(principal=principal_of(org), id=project_id))
        records = [record for payload in await stack.messages("LOGS") for record in INTAKE.validate_json(payload)]
        told = [record for record in records if isinstance(record, ProjectDeleted) and record.organisation == org]
        assert [record.project_id for record in told] == [project_id]

    async def test_logging_is_told_which_blobs_its_versions_had(self, stack: GenerationStack) -> None:
        org, other = new_organisation(), new_organisation()
        mine, shared, unknown = (letter * 64 for letter in "abc")
        texts = {
            name: f"![](data:image/png;base64,everloop-blob:{digest})" for name, digest in [("m", mine), ("s", shared)]
        }
        made = (
            await register(stack, org, config(chat_template=[ChatMessage(role="user", content=texts["m"])]))
        ).version
        await register(stack, org, config(chat_template=[ChatMessage(role="user", content=texts["s"])]))
        template = [ChatMessage(role="user", content=texts["s"])]
        await register(stack, org, config(chat_template=template), project=ProjectRef(name="other"))

        async def held(organisation: str) -> list[str]:
            query = GetHeldBlobs(
                principal=Principal.for_service("logging", organisation), digests=[mine, shared, unknown]
            )
            return (await stack.bus.request(query)).digests

        assert (await held(org), await held(other)) == ([mine, shared], [])
        await stack.bus.request(DeleteProject(principal=principal_of(org), id=made.project_id))
        records = [record for payload in await stack.messages("LOGS") for record in INTAKE.validate_json(payload)]
        (told,) = (it for it in records if isinstance(it, ProjectDeleted) and it.organisation == org)
        assert (told.blobs, await held(org)) == ([mine, shared], [shared])

    async def test_a_repeat_finishes_what_a_crash_left(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = (await register(stack, org)).version
        hidden = {"$set": {"deleted_at": made.created_at}, "$unset": {"name": ""}}
        await stack.database["projects"].update_one({"_id": made.project_id}, hidden)
        with pytest.raises(NotFound):
            await stack.bus.request(GetProject(principal=member(org), id=made.project_id))
        assert (await stack.bus.request(ListProjects(principal=member(org)))).total == 0
        assert (await stack.bus.request(GetVersions(principal=member(org), ids=[made.id]))).versions == []
        await stack.bus.request(CreateProject(principal=member(org), name="desk"))
        await stack.bus.request(DeleteProject(principal=principal_of(org), id=made.project_id))
        assert await stack.database["versions"].count_documents({"organisation": org}) == 0
        assert await stack.database["projects"].count_documents({"organisation": org}) == 1

    async def test_what_is_deployed_is_deleted_only_by_who_may_change_that(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = (await register(stack, org)).version
        await stack.bus.request(CreateEnvironment(principal=member(org), name="staging"))
        with pytest.raises(Denied, match="deployed"):
            await stack.bus.request(DeleteProject(principal=member(org, "Member"), id=made.project_id))
        assert await used(stack, org) == {made.id}
        await stack.bus.request(Undeploy(principal=member(org), project_id=made.project_id))
        await stack.bus.request(DeleteProject(principal=member(org, "Member"), id=made.project_id))
        with pytest.raises(NotFound):
            await stack.bus.request(GetProject(principal=member(org), id=made.project_id))

    async def test_a_member_deploys_nothing_by_an_update(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = (await register(stack, org)).version
        update = UpdateProject(
            principal=member(org, "Member"), id=made.project_id, name="new", active_config_id=made.id
        )
        with pytest.raises(Denied, match="change what is deployed"):
            await stack.bus.request(update)
        details = await stack.bus.request(GetProject(principal=member(org), id=made.project_id))
        assert details.project.name != "new"

    async def test_what_nobody_repeats_a_service_that_starts_finishes(self, stack: GenerationStack) -> None:
        org = new_organisation()
        old, new = [(await register(stack, org, project=ProjectRef(name=name))).version for name in ("old", "new")]
        now = datetime.now(UTC)
        for version, hidden_at in ((old, now - timedelta(minutes=2)), (new, now)):
            change = {"$set": {"deleted_at": hidden_at}, "$unset": {"name": ""}}
            await stack.database["projects"].update_one({"_id": version.project_id}, change)
        folder = stack.generation.log.parent / "third"
        folder.mkdir()
        with running(service("generation", folder, stack.nats, stack.mongo)):
            async with asyncio.timeout(20):
                while await stack.database["projects"].count_documents({"_id": old.project_id}):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        left = [document["_id"] async for document in stack.database["versions"].find({"organisation": org})]
        assert left == [new.id], "the other one may still be somebody's work"
        records = [record for payload in await stack.messages("LOGS") for record in INTAKE.validate_json(payload)]
        told = [record for record in records if isinstance(record, ProjectDeleted) and record.organisation == org]
        assert [record.project_id for record in told] == [old.project_id]

    async def test_another_organisation_can_do_nothing_to_it(self, stack: GenerationStack) -> None:
        org, other = new_organisation(), new_organisation()
        made = (await register(stack, org)).version
        requests: list[Request[Any]] = [
            DeleteProject(principal=member(other), id=made.project_id),
            UpdateProject(principal=member(other), id=made.project_id, name="mine"),
            Deploy(principal=member(other), project_id=made.project_id, config_id=made.id),
            Undeploy(principal=member(other), project_id=made.project_id),
            DefineFeedbackTypes(principal=member(other), project_id=made.project_id, types=[FeedbackType(type="x")]),
            ListDeployments(principal=member(other), project_id=made.project_id),
            ListVersions(principal=member(other), project_id=made.project_id),
        ]
        for request in requests:
            with pytest.raises(NotFound):
                await stack.bus.request(request)
        assert await used(stack, org) == {made.id}


class TestAway:
    async def test_replicas_that_were_away_trust_nothing_remembered(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = (await register(stack, org)).version
        assert await used(stack, org) == {made.id}
        await stack.database["projects"].update_one({"_id": made.project_id}, {"$set": {"name": "changed unheard"}})
        assert await used(stack, org) == {made.id}, "nobody told them"
        stack.nats.kill()
        stack.nats.start()
        async with asyncio.timeout(30):
            while True:
                try:
                    await used(stack, org)
                except NotFound:
                    break
                except Unavailable:
                    await asyncio.sleep(0.1)
        for _ in range(3):
            assert await used(stack, org, project=ProjectRef(name="changed unheard")) == {made.id}
