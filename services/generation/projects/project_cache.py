"""Projects and config versions, found or made, and remembered: a call with a known config touches no database.

While the database is away, what is remembered goes on serving.
"""

from typing import NamedTuple

from services.generation.projects import versions
from services.generation.projects.deployments import Deployer
from services.generation.projects.environments import Environments
from services.generation.projects.invalidation import Invalidation
from services.generation.store import Place, Stores
from shared.cache import Cache
from shared.contracts.principal import Actor
from shared.contracts.projects import (
    LONGEST_NAME,
    Config,
    ConfigVersion,
    Project,
    ProjectChanged,
    ProjectRef,
    Resolved,
)
from shared.errors import Invalid, NotFound

_FRESH_SECONDS = 30.0
"""Changes are heard of; this bounds how long one would stay unseen whose event was lost."""
_FOR_EVER = 10.0**9

_ProjectKey = tuple[str, str, str]
_VersionKey = tuple[str, str, str]
"""Organisation, question, id. Whoever would make something must not be told that it was not found."""


class _Deployed(NamedTuple):
    project_id: str
    environment: str
    config_id: str


def _unnamed() -> Invalid:
    return Invalid("Name the project: either project (its name) or project_id is needed.")


class ProjectCache:
    """The store behind a memory."""

    def __init__(
        self, stores: Stores, environments: Environments, invalidation: Invalidation, deployer: Deployer
    ) -> None:
        self._stores = stores
        self._environments = environments
        self._invalidation = invalidation
        self._deployer = deployer
        self._projects: Cache[_ProjectKey, Project] = Cache(
            most=20_000, fresh_seconds=_FRESH_SECONDS, stale_seconds=_FOR_EVER
        )
        self._versions: Cache[_VersionKey, ConfigVersion] = Cache(
            most=20_000, fresh_seconds=_FOR_EVER, stale_seconds=_FOR_EVER, most_bytes=32 * 1024 * 1024
        )
        self._deployed: Cache[tuple[str, str, str | None], _Deployed] = Cache(
            most=20_000, fresh_seconds=_FRESH_SECONDS, stale_seconds=_FOR_EVER
        )
        invalidation.register(self._forget)

    async def register(
        self, organisation: str, ref: ProjectRef, config: Config, *, may_deploy: bool, actor: Actor | None = None
    ) -> Resolved:
        """The project and this config's version, both made when unknown. Errors: NotFound (project id), Invalid."""
        project = await self._project(organisation, ref, make=True)
        config_id = versions.version_id(project.id, config)
        made = (organisation, "made", config_id)
        first = project.config_type is None

        async def make() -> ConfigVersion:
            version = await self._make(organisation, project.id, config_id, config)
            if not await self._stores.projects.has_configs(organisation, project.id):
                await self._first(organisation, version, actor, may_deploy=may_deploy)
            return version

        if first:  # whatever is remembered of the version, the project still has to learn of it
            self._versions.forget(lambda key, _: key == made)
        version = await self._versions.get(made, make)
        if first:
            self._projects.forget(lambda key, known: key[0] == organisation and known.id == project.id)
            project = await self._project(organisation, ref, make=True)
        return Resolved(project=project, version=version)

    async def _make(self, organisation: str, project_id: str, config_id: str, config: Config) -> ConfigVersion:
        """Whoever deletes the project hides it before removing its versions; so one that comes late is removed here."""
        version, made = await self._stores.versions.ensure(organisation, project_id, config_id, config)
        if made and not await self._stores.projects.touch(organisation, project_id, version.created_at):
            await self._stores.versions.remove(organisation, project_id)
            raise NotFound(f"The project {project_id!r} was deleted at this moment.")
        return version

    async def _first(self, organisation: str, version: ConfigVersion, actor: Actor | None, *, may_deploy: bool) -> None:
        """Deploying before the mark means that a crash between the two is made good by the next registration."""
        if may_deploy:
            environments = await self._environments.get(organisation)
            place = Place(organisation, version.project_id, environments.default.id)
            await self._deployer.put_first(place, version.id, actor)
        await self._stores.projects.mark_first(organisation, version.project_id, version.id, version.config)
        change = ProjectChanged(
            organisation=organisation, project_id=version.project_id, what="configured", actor=actor
        )
        await self._invalidation.publish(change)

    async def by_id(self, organisation: str, ref: ProjectRef, config_id: str) -> Resolved:
        """A known config and its project; `ref` may be empty. Errors: NotFound, Invalid (of another project)."""
        version = await self.version(organisation, config_id)
        if ref.name is None and ref.id is None:
            ref = ProjectRef(id=version.project_id)
        project = await self._project(organisation, ref)
        if version.project_id != project.id:
            raise Invalid(f"The config {config_id!r} does not belong to the project {project.name!r} ({project.id}).")
        return Resolved(project=project, version=version)

    async def deployed(self, organisation: str, ref: ProjectRef, environment: str | None) -> tuple[Resolved, str]:
        """What is deployed, and the name of the environment. Errors: NotFound, Invalid."""
        project = await self._project(organisation, ref)

        async def ask() -> _Deployed:
            place = (await self._environments.get(organisation)).named(environment)
            last = await self._stores.deployments.last(Place(organisation, project.id, place.id))
            if last.config_id is None:
                raise NotFound(f"The project {project.name!r} has nothing deployed in {place.name!r}.")
            return _Deployed(project.id, place.name, last.config_id)

        found = await self._deployed.get((organisation, project.id, environment), ask)
        return Resolved(project=project, version=await self.version(organisation, found.config_id)), found.environment

    async def version(self, organisation: str, config_id: str) -> ConfigVersion:
        """One version. Errors: NotFound."""

        async def ask() -> ConfigVersion:
            found = await self._stores.versions.several(organisation, [config_id])
            if not found:
                raise NotFound(f"There is no config {config_id!r}.")
            return found[0]

        return await self._versions.get((organisation, "known", config_id), ask)

    async def _project(self, organisation: str, ref: ProjectRef, *, make: bool = False) -> Project:
        if ref.id is None:
            return await self._project_named(organisation, ref.name or "", make=make)
        project_id = ref.id

        async def ask() -> Project:
            if stored := await self._stores.projects.get(organisation, project_id):
                return stored.project
            raise NotFound(f"There is no project {project_id!r}.")

        project = await self._projects.get((organisation, "id", project_id), ask)
        if ref.name is not None and ref.name != project.name:
            raise Invalid(f"project {ref.name!r} and project_id {project_id!r} are not the same project.")
        return project

    async def _project_named(self, organisation: str, name: str, *, make: bool) -> Project:
        if not name:
            raise _unnamed()

        async def ask() -> Project:
            if make:
                return await self._ensure(organisation, name)
            if project := await self._stores.projects.named(organisation, name):
                return project
            raise NotFound(f"There is no project {name!r}.")

        return await self._projects.get((organisation, "made" if make else "name", name), ask)

    async def _ensure(self, organisation: str, name: str) -> Project:
        if len(name) > LONGEST_NAME and await self._stores.projects.named(organisation, name) is None:
            raise Invalid(f"project: the name of a new project has at most {LONGEST_NAME} characters.")
        project, made = await self._stores.projects.ensure(organisation, name)
        if made:
            await self._invalidation.publish(
                ProjectChanged(organisation=organisation, project_id=project.id, what="created"), project.id
            )
        return project

    def _forget(self, change: ProjectChanged | None) -> None:
        """Forget what a change concerns; everything if None."""
        if change is None:
            self._projects.forget(lambda _, __: True)
            self._versions.forget(lambda _, __: True)
            self._deployed.forget(lambda _, __: True)
            return
        organisation, project_id = change.organisation, change.project_id
        if change.what == "environments":
            self._deployed.forget(lambda key, _: key[0] == organisation)
            return
        self._projects.forget(lambda key, known: key[0] == organisation and known.id == project_id)
        self._deployed.forget(lambda key, _: key[:2] == (organisation, project_id))
        if change.what == "deleted":
            self._versions.forget(lambda key, known: key[0] == organisation and known.project_id == project_id)
