"""Projects and config versions, found or made, and remembered: a call with a known config touches no database.

While the database is away, what is remembered goes on serving.
"""

from collections.abc import Sequence

from services.generation import versions
from services.generation.store import Deployed, Store
from shared.contracts.projects import Config, ConfigVersion, Project, ProjectRef, Resolved
from shared.errors import Invalid, NotFound
from shared.memory import Memory

_PROJECT_FRESH_SECONDS = 30.0
"""A project may be renamed or deleted by another replica."""
_DEPLOYED_FRESH_SECONDS = 1.0
"""How long another replica's deployment may stay unseen here."""
_FOR_EVER = 10.0**9

_ProjectKey = tuple[str, str, str]


def _unnamed() -> Invalid:
    return Invalid("Name the project: either project (its name) or project_id is needed.")


class Catalogue:
    """The store behind a memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._projects: Memory[_ProjectKey, Project] = Memory(
            most=20_000, fresh_seconds=_PROJECT_FRESH_SECONDS, stale_seconds=_FOR_EVER
        )
        self._versions: Memory[tuple[str, str], ConfigVersion] = Memory(
            most=20_000, fresh_seconds=_FOR_EVER, stale_seconds=_FOR_EVER
        )
        self._deployed: Memory[tuple[str, str, str | None], Deployed] = Memory(
            most=20_000, fresh_seconds=_DEPLOYED_FRESH_SECONDS, stale_seconds=_FOR_EVER
        )

    async def register(self, organisation: str, ref: ProjectRef, config: Config, *, may_deploy: bool) -> Resolved:
        """The project and this config's version, both made when unknown. Errors: NotFound (project id), Invalid."""
        project = await self._project(organisation, ref, make=True)
        config_id = versions.version_id(project.id, config)

        async def make() -> ConfigVersion:
            return await self._make(organisation, project.id, config_id, config, may_deploy=may_deploy)

        first = project.config_type is None
        if first:  # whatever is remembered of the version, the project still has to learn of it
            self._versions.forget(lambda key, _: key == (organisation, config_id))
        version = await self._versions.get((organisation, config_id), make)
        if first:
            self._projects.forget(lambda _, known: known.id == project.id)
            project = await self._project(organisation, ref, make=True)
        return Resolved(project=project, version=version)

    async def _make(
        self, organisation: str, project_id: str, config_id: str, config: Config, *, may_deploy: bool
    ) -> ConfigVersion:
        """Deploying before the mark means that a crash between the two is made good by the next registration."""
        version = await self._store.ensure_version(organisation, project_id, config_id, config)
        if not await self._store.has_configs(organisation, project_id):
            if may_deploy and (environment := await self._store.environment(organisation, None)):
                await self._store.deploy_first(organisation, project_id, environment.id, config_id)
            await self._store.mark_first(organisation, project_id, config_id, config)
        return version

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

        async def ask() -> Deployed:
            found = await self._store.deployed(organisation, project.id, environment)
            if found is None:
                raise NotFound(f"There is no environment {environment!r}.")
            if found.config_id is None:
                raise NotFound(f"The project {project.name!r} has nothing deployed in {found.environment!r}.")
            return found

        name, config_id = await self._deployed.get((organisation, project.id, environment), ask)
        return Resolved(project=project, version=await self.version(organisation, config_id or "")), name

    async def version(self, organisation: str, config_id: str) -> ConfigVersion:
        """One version. Errors: NotFound."""

        async def ask() -> ConfigVersion:
            found = await self._store.versions(organisation, [config_id])
            if not found:
                raise NotFound(f"There is no config {config_id!r}.")
            return found[0]

        return await self._versions.get((organisation, config_id), ask)

    async def versions(self, organisation: str, config_ids: Sequence[str]) -> list[ConfigVersion]:
        """Those that exist."""
        return await self._store.versions(organisation, config_ids)

    async def projects(self, organisation: str, project_ids: Sequence[str]) -> list[Project]:
        """Those that exist, as they are now."""
        return await self._store.projects(organisation, project_ids)

    async def _project(self, organisation: str, ref: ProjectRef, *, make: bool = False) -> Project:
        if ref.id is None:
            return await self._project_named(organisation, ref.name or "", make=make)
        project_id = ref.id

        async def ask() -> Project:
            if project := await self._store.project(organisation, project_id):
                return project
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
                return await self._store.ensure_project(organisation, name)
            if project := await self._store.project_named(organisation, name):
                return project
            raise NotFound(f"There is no project {name!r}.")

        # Two kinds of key: whoever would make the project must not be told that it was not found.
        return await self._projects.get((organisation, "made" if make else "name", name), ask)
