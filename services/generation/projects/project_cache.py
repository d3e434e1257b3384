"""Finds or creates projects and config versions, through a cache: a call with a cached config reads no database.

While the database is away, cached entries are served on.
"""

from typing import NamedTuple

from services.generation.projects import versions
from services.generation.projects.deployments import Deployer, TargetNames
from services.generation.projects.environments import EnvironmentSets
from services.generation.projects.invalidation import Invalidation
from services.generation.store import DeploymentTarget, Stores
from shared.audit import AuditOutbox, audit_entry
from shared.blobs import TOKEN
from shared.cache import Cache
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.generation.projects import (
    MAX_NAME_CHARACTERS,
    Config,
    ConfigVersion,
    Project,
    ProjectChanged,
    ProjectRef,
    ResolvedConfig,
)
from shared.contracts.principal import Principal
from shared.errors import Invalid, NotFound

_FRESH_SECONDS = 30.0
"""How long an entry is used without reading it again. Events invalidate entries at once; this is for a lost event."""
_UNLIMITED_SECONDS = 10.0**9

_ProjectKey = tuple[str, str, str]
_VersionKey = tuple[str, str, str]
"""Organisation, kind of read, id or name. Reads that create have a kind of their own: a read that only finds is shared
by all who wait for it, and must not answer NotFound to one who would create."""


class _Deployed(NamedTuple):
    project_id: str
    environment: str
    """Its name."""
    config_id: str


class ProjectCache:
    """Reads and creates projects and config versions through a cache; `invalidation` drops entries."""

    def __init__(
        self,
        stores: Stores,
        environments: EnvironmentSets,
        invalidation: Invalidation,
        deployer: Deployer,
        audit: AuditOutbox,
    ) -> None:
        self._stores = stores
        self._environments = environments
        self._invalidation = invalidation
        self._deployer = deployer
        self._audit = audit
        self._projects: Cache[_ProjectKey, Project] = Cache(
            tags=lambda key, project: [(key[0], project.id)],
            max_entries=20_000,
            fresh_seconds=_FRESH_SECONDS,
            stale_seconds=_UNLIMITED_SECONDS,
        )
        self._versions: Cache[_VersionKey, ConfigVersion] = Cache(
            tags=lambda key, version: [(key[0], version.project_id)],
            max_entries=20_000,
            fresh_seconds=_UNLIMITED_SECONDS,
            stale_seconds=_UNLIMITED_SECONDS,
            max_bytes=32 * 1024 * 1024,
        )
        self._deployed: Cache[tuple[str, str, str | None], _Deployed] = Cache(
            tags=lambda key, _: [key[0], (key[0], key[1])],
            max_entries=20_000,
            fresh_seconds=_FRESH_SECONDS,
            stale_seconds=_UNLIMITED_SECONDS,
        )
        invalidation.register(self._invalidate)

    async def register(
        self,
        organisation: str,
        ref: ProjectRef,
        config: Config,
        *,
        may_deploy: bool,
        principal: Principal | None = None,
    ) -> ResolvedConfig:
        """Return the project and the version of this config; create either if there is none.

        A project's first config is deployed to the default environment if `may_deploy`. Raises NotFound for an unknown
        project id, Invalid for a `ref` without name and id or whose name and id differ.
        """
        project = await self._get_project(organisation, ref, create=True, principal=principal)
        config_id = versions.version_id(project.id, config)
        key = (organisation, "created", config_id)
        is_first = project.config_type is None

        async def load() -> ConfigVersion:
            version = await self._find_or_insert_version(organisation, project.id, config_id, config)
            if not await self._stores.projects.has_configs(organisation, project.id):
                await self._save_first_config(organisation, project, version, principal, may_deploy=may_deploy)
            return version

        if is_first:  # even if the version is cached, `load` has to run: the project has no first config yet
            self._versions.discard(key)
        version = await self._versions.get(key, load)
        if is_first:
            self._projects.invalidate((organisation, project.id))
            project = await self._get_project(organisation, ref, create=True)
        return ResolvedConfig(project=project, version=version)

    async def _find_or_insert_version(
        self, organisation: str, project_id: str, config_id: str, config: Config
    ) -> ConfigVersion:
        """Deleting a project marks it before it deletes the versions; one inserted after that is deleted here."""
        version, inserted = await self._stores.versions.find_or_insert(organisation, project_id, config_id, config)
        created_at = version.created_at
        if inserted and not await self._stores.projects.update_modified_time(organisation, project_id, created_at):
            await self._stores.versions.delete_by_project(organisation, project_id)
            raise NotFound(f"The project {project_id!r} was deleted at this moment.")
        return version

    async def _save_first_config(
        self,
        organisation: str,
        project: Project,
        version: ConfigVersion,
        principal: Principal | None,
        *,
        may_deploy: bool,
    ) -> None:
        """Deploy, then save: after a crash between the two the next registration does both again."""
        if may_deploy:
            environments = await self._environments.get(organisation)
            target = DeploymentTarget(organisation, version.project_id, environments.default.id)
            names = TargetNames(project.name, environments.default.name)
            await self._deployer.deploy_first(target, version.id, principal, names)
        await self._stores.projects.save_first_config(organisation, version.project_id, version.id, version.config)
        actor = principal and principal.actor
        change = ProjectChanged(
            organisation=organisation, project_id=version.project_id, what="configured", actor=actor
        )
        await self._invalidation.publish(change)

    async def resolve(self, organisation: str, ref: ProjectRef, config_id: str) -> ResolvedConfig:
        """Return a stored config and its project; `ref` may be empty. Raises NotFound, Invalid (of another project)."""
        version = await self.get_version(organisation, config_id)
        if ref.name is None and ref.id is None:
            ref = ProjectRef(id=version.project_id)
        project = await self._get_project(organisation, ref)
        if version.project_id != project.id:
            raise Invalid(f"The config {config_id!r} does not belong to the project {project.name!r} ({project.id}).")
        return ResolvedConfig(project=project, version=version)

    async def resolve_deployed(
        self, organisation: str, ref: ProjectRef, environment: str | None
    ) -> tuple[ResolvedConfig, str]:
        """Return what is deployed in the environment of this name (None: the default one), and the environment's name.

        Raises NotFound if there is no such project or environment, or nothing deployed there; Invalid as `register`.
        """
        project = await self._get_project(organisation, ref)

        async def load() -> _Deployed:
            target = (await self._environments.get(organisation)).get_by_name(environment)
            latest = await self._stores.deployments.get_latest(DeploymentTarget(organisation, project.id, target.id))
            if latest.config_id is None:
                raise NotFound(f"The project {project.name!r} has nothing deployed in {target.name!r}.")
            return _Deployed(project.id, target.name, latest.config_id)

        deployed = await self._deployed.get((organisation, project.id, environment), load)
        version = await self.get_version(organisation, deployed.config_id)
        return ResolvedConfig(project=project, version=version), deployed.environment

    async def get_version(self, organisation: str, config_id: str) -> ConfigVersion:
        """Return the version with this id. Raises NotFound."""

        async def load() -> ConfigVersion:
            found = await self._stores.versions.get_many(organisation, [config_id])
            if not found:
                raise NotFound(f"There is no config {config_id!r}.")
            return found[0]

        return await self._versions.get((organisation, "found", config_id), load)

    async def find_project(self, organisation: str, ref: ProjectRef) -> Project:
        """Return the project. Raises NotFound if there is none, Invalid as `register`."""
        return await self._get_project(organisation, ref)

    async def _get_project(
        self, organisation: str, ref: ProjectRef, *, create: bool = False, principal: Principal | None = None
    ) -> Project:
        if ref.id is None:
            return await self._get_project_by_name(organisation, ref.name or "", principal, create=create)
        project_id = ref.id

        async def load() -> Project:
            if stored := await self._stores.projects.get(organisation, project_id):
                return stored.project
            raise NotFound(f"There is no project {project_id!r}.")

        project = await self._projects.get((organisation, "id", project_id), load)
        if ref.name is not None and ref.name != project.name:
            raise Invalid(f"project {ref.name!r} and project_id {project_id!r} are not the same project.")
        return project

    async def _get_project_by_name(
        self, organisation: str, name: str, principal: Principal | None, *, create: bool
    ) -> Project:
        if not name:
            raise Invalid("Name the project: either project (its name) or project_id is needed.")

        async def load() -> Project:
            if create:
                return await self._find_or_insert_project(organisation, name, principal)
            if project := await self._stores.projects.find_by_name(organisation, name):
                return project
            raise NotFound(f"There is no project {name!r}.")

        return await self._projects.get((organisation, "created" if create else "name", name), load)

    async def _find_or_insert_project(self, organisation: str, name: str, principal: Principal | None) -> Project:
        if project := await self._stores.projects.find_by_name(organisation, name):
            return project
        if len(name) > MAX_NAME_CHARACTERS or TOKEN in name:  # a data URL, whose data the gateway has replaced
            raise Invalid(f"project: the name of a new project has at most {MAX_NAME_CHARACTERS} characters.")
        inserted = await self._audit.record(
            lambda session: self._stores.projects.insert_named(organisation, name, session),
            lambda project_id: project_created(principal, organisation, project_id, name),
        )
        project = await self._stores.projects.find_by_name(organisation, name)
        if project is None:
            raise NotFound(f"The project {name!r} was deleted or renamed at this moment.")
        if inserted:
            await self._invalidation.publish(
                ProjectChanged(organisation=organisation, project_id=project.id, what="created"), project.id
            )
        return project

    def _invalidate(self, change: ProjectChanged | None) -> None:
        """Drop the entries a change concerns; all if None."""
        if change is None:
            self._projects.clear()
            self._versions.clear()
            self._deployed.clear()
            return
        organisation, project_id = change.organisation, change.project_id
        if change.what == "environments":
            self._deployed.invalidate(organisation)
            return
        self._projects.invalidate((organisation, project_id))
        self._deployed.invalidate((organisation, project_id))
        if change.what == "deleted":
            self._versions.invalidate((organisation, project_id))


def project_created(principal: Principal | None, organisation: str, project_id: str, name: str) -> AuditEntry:
    """Return the audit log's entry for a new project, made by name or by the first call that names it."""
    changed = AuditObject(kind="project", id=project_id, name=name)
    return audit_entry("project.created", principal, organisation, changed, cause=[project_id])
