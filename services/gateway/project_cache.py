"""Caches projects, config versions and feedback types of generation; most logs are accepted without a request to it."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence

from services.gateway.paging import fetch_by_ids
from services.gateway.settings import Settings
from shared.bus import Bus
from shared.cache import Cache
from shared.contracts.chat import LinkedTool
from shared.contracts.generation.projects import (
    Config,
    ConfigVersion,
    DefineFeedbackTypes,
    FeedbackType,
    GetProject,
    GetProjects,
    GetVersions,
    ModelConfig,
    Project,
    ProjectChanged,
    ProjectRef,
    ResolveConfig,
    ResolvedConfig,
)
from shared.contracts.generation.tools import GetTools, JsonSchema, Tool
from shared.contracts.permissions import CHANGE_DEPLOYMENTS
from shared.contracts.principal import Principal
from shared.errors import NotFound, Problem
from shared.permissions import allows

_PROJECT_FRESH_SECONDS = 30.0
"""How long an entry is used without a new request. `ProjectChanged` drops it earlier; this covers a lost event."""
_NEVER_STALE_SECONDS = 10.0**9
_MAX_LOGS = 20_000
"""The newest logs whose projects are kept."""
_MAX_BYTES = 32 * 1024 * 1024
"""Of JSON, in each cache whose entries may be large: a config may take 4 MiB. Enough for 20,000 configs of 1.6 kB."""

logger = logging.getLogger(__name__)

_ResolveKey = tuple[str, str | None, str | None, str | bytes | None, bool, tuple[str, ...] | None]
"""Organisation, name and id of the project, id of the config or sha256 of its JSON, whether the caller may deploy, the
projects that its key is limited to."""


def _own_key(key: tuple[str, str], _: object) -> list[tuple[str, str]]:
    """Tag an entry whose key is (organisation, project id) with its key."""
    return [key]


class ProjectCache:
    """Answers of generation about projects and config versions, dropped on `ProjectChanged`; one per process."""

    def __init__(self, bus: Bus, settings: Settings) -> None:
        self._bus = bus
        stale = settings.stale_seconds
        self._resolved: Cache[_ResolveKey, ResolvedConfig] = Cache(
            tags=lambda key, resolved: [(key[0], resolved.project.id)],
            max_entries=20_000,
            fresh_seconds=_PROJECT_FRESH_SECONDS,
            stale_seconds=stale,
            max_bytes=_MAX_BYTES,
        )
        self._projects: Cache[tuple[str, str], Project] = Cache(
            tags=_own_key, max_entries=10_000, fresh_seconds=_PROJECT_FRESH_SECONDS, stale_seconds=stale
        )
        self._versions: Cache[tuple[str, str], ConfigVersion] = Cache(
            tags=lambda key, version: [(key[0], version.project_id)],
            max_entries=20_000,
            fresh_seconds=_NEVER_STALE_SECONDS,
            stale_seconds=_NEVER_STALE_SECONDS,
            max_bytes=_MAX_BYTES,
        )
        self._feedback_types: Cache[tuple[str, str], dict[str, FeedbackType]] = Cache(
            tags=_own_key,
            max_entries=10_000,
            fresh_seconds=_PROJECT_FRESH_SECONDS,
            stale_seconds=stale,
            max_bytes=_MAX_BYTES,
        )
        self._projects_of_logs: dict[tuple[str, str], str] = {}

    async def subscribe(self) -> None:
        """Subscribe to `ProjectChanged`. Reconnecting drops every entry, because events may have been missed."""
        await self._bus.subscribe(ProjectChanged, self._on_project_changed)

    def invalidate(self, organisation: str, project_id: str) -> None:
        """Drop all entries of a project."""
        for cache in (self._resolved, self._projects, self._versions, self._feedback_types):
            cache.invalidate((organisation, project_id))

    def _on_project_changed(self, change: ProjectChanged | None) -> None:
        """Drop what `change` concerns; everything if it is None, after a reconnect."""
        if change is None:
            for cache in (self._resolved, self._projects, self._versions, self._feedback_types):
                cache.clear()
        elif change.what == "feedback types":
            self._feedback_types.invalidate((change.organisation, change.project_id))
        elif change.project_id is not None:
            self.invalidate(change.organisation, change.project_id)

    async def resolve(
        self,
        caller: Principal,
        project: ProjectRef,
        *,
        config: Config | None = None,
        config_id: str | None = None,
    ) -> ResolvedConfig:
        """Return the project and config version, created if they do not exist. Raises the errors of `ResolveConfig`."""
        # The key is the config as sent: what makes two of them the same version is generation's rule alone.
        config_key = config_id if config is None else _digest(config)
        may_deploy = allows(caller, CHANGE_DEPLOYMENTS)
        key = (caller.organisation, project.name, project.id, config_key, may_deploy, caller.projects)
        return await self._resolved.get(
            key,
            lambda: self._bus.request(
                ResolveConfig(
                    principal=caller,
                    project=project,
                    config=config,
                    config_id=config_id,
                )
            ),
        )

    async def get_project(self, organisation: str, project_id: str) -> Project:
        """Return the project. Raises NotFound if it does not exist."""

        async def fetch() -> Project:
            answer = await self._bus.request(GetProjects(principal=_gateway(organisation), ids=[project_id]))
            if not answer.projects:
                raise NotFound(f"There is no project {project_id!r}.")
            return answer.projects[0]

        return await self._projects.get((organisation, project_id), fetch)

    async def get_many_projects(self, organisation: str, ids: Iterable[str]) -> dict[str, Project]:
        """Return projects by id, without those that do not exist."""
        projects = {}
        for project_id in dict.fromkeys(ids):
            try:
                projects[project_id] = await self.get_project(organisation, project_id)
            except NotFound:
                continue
        return projects

    async def get_feedback_types(self, organisation: str, project_id: str) -> dict[str, FeedbackType]:
        """Return the feedback types of a project by name. Raises NotFound if the project does not exist."""

        async def fetch() -> dict[str, FeedbackType]:
            details = await self._bus.request(GetProject(principal=_gateway(organisation), id=project_id))
            return {one.type: one for one in details.feedback_types}

        return await self._feedback_types.get((organisation, project_id), fetch)

    async def define_feedback_types(self, organisation: str, project_id: str, types: list[FeedbackType]) -> None:
        """Add feedback types, or labels of existing ones, to a project. Raises the errors of `DefineFeedbackTypes`."""
        await self._bus.request(
            DefineFeedbackTypes(principal=_gateway(organisation), project_id=project_id, types=types)
        )
        self._feedback_types.invalidate((organisation, project_id))

    def set_project_of_log(self, organisation: str, log_id: str, project_id: str | None) -> None:
        """Keep the project of a log whose id a caller is given, so that feedback can precede the storing of the log."""
        if project_id is not None:
            self._projects_of_logs[organisation, log_id] = project_id
        if len(self._projects_of_logs) > _MAX_LOGS:
            del self._projects_of_logs[next(iter(self._projects_of_logs))]

    def get_project_of_log(self, organisation: str, log_id: str) -> str | None:
        """Return the project of a log set by `set_project_of_log`; None if it was not, or is no longer kept."""
        return self._projects_of_logs.get((organisation, log_id))

    async def get_version(self, organisation: str, config_id: str) -> ConfigVersion:
        """Return the config version, its linked tools filled in. Raises NotFound if it does not exist."""
        version = await self._get_version(organisation, config_id)
        return (await self.fill_linked_tools(organisation, [version]))[0]

    async def get_many_versions(self, organisation: str, ids: Iterable[str]) -> dict[str, ConfigVersion]:
        """Return config versions by id, their linked tools filled in, without those that do not exist."""
        versions = []
        for config_id in dict.fromkeys(ids):
            try:
                versions.append(await self._get_version(organisation, config_id))
            except NotFound:
                continue
        return {version.id: version for version in await self.fill_linked_tools(organisation, versions)}

    async def _get_version(self, organisation: str, config_id: str) -> ConfigVersion:
        async def fetch() -> ConfigVersion:
            answer = await self._bus.request(GetVersions(principal=_gateway(organisation), ids=[config_id]))
            if not answer.versions:
                raise NotFound(f"There is no config {config_id!r}.")
            return answer.versions[0]

        return await self._versions.get((organisation, config_id), fetch)

    async def fill_linked_tools(self, organisation: str, versions: Sequence[ConfigVersion]) -> list[ConfigVersion]:
        """Return the versions with the current fields of the tools they link to.

        Links stay as they are if generation does not answer: a reader gets its config all the same.
        """

        async def fetch(ids: Sequence[str]) -> list[Tool]:
            return (await self._bus.request(GetTools(principal=_gateway(organisation), ids=list(ids)))).tools

        tool_ids = list(dict.fromkeys(tool.id for version in versions for tool in _linked_tools(version.config)))
        if not tool_ids:
            return list(versions)
        try:
            tools = {tool.id: tool for tool in await fetch_by_ids(tool_ids, fetch)}
        except Problem as problem:
            logger.warning("linked tools of configs could not be fetched: %s", problem)
            return list(versions)
        return [version.model_copy(update={"config": _fill_links(version.config, tools)}) for version in versions]


def _gateway(organisation: str) -> Principal:
    """Return the principal of the cache's own requests: callers of one organisation share the answers."""
    return Principal.for_service("gateway", organisation)


def _digest(config: Config) -> bytes:
    """Return the sha256 of the config's JSON: the cache key, because the config itself may be large."""
    return hashlib.sha256(f"{config.type}{config.model_dump_json(exclude_defaults=True)}".encode()).digest()


def _linked_tools(config: Config) -> list[LinkedTool]:
    tools = config.tools or [] if isinstance(config, ModelConfig) else []
    return [tool for tool in tools if isinstance(tool, LinkedTool)]


def _fill_links(config: Config, tools: Mapping[str, Tool]) -> Config:
    if not isinstance(config, ModelConfig) or not _linked_tools(config):
        return config
    filled = [_fill_link(tool, tools) if isinstance(tool, LinkedTool) else tool for tool in config.tools or []]
    return config.model_copy(update={"tools": filled})


def _fill_link(link: LinkedTool, tools: Mapping[str, Tool]) -> LinkedTool:
    """Return the link with the function of its tool; unchanged if the tool does not exist or has no JSON schema."""
    tool = tools.get(link.id)
    if tool is None or not isinstance(tool.settings, JsonSchema):
        return link
    return link.model_copy(update=tool.settings.function(tool.name))
