"""Projects and config versions as generation knows them, remembered: a log is accepted without touching a database."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence

from services.gateway.paging import by_ids
from services.gateway.settings import Settings
from shared.bus import Bus
from shared.cache import Cache
from shared.contracts.chat import LinkedTool
from shared.contracts.principal import Principal
from shared.contracts.projects import (
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
    Resolve,
    Resolved,
)
from shared.contracts.tools import GetTools, JsonSchema, Tool
from shared.errors import NotFound, Problem
from shared.permissions import CHANGE_DEPLOYMENTS, allows

_PROJECT_FRESH_SECONDS = 30.0
"""Changes are heard of; this bounds how long one would stay unseen whose event was lost."""
_FOR_EVER = 10.0**9
_MOST_LOGS = 20_000
_MOST_BYTES = 32 * 1024 * 1024
"""Of JSON, in each memory whose entries may be large: a config may take 4 MiB. 20,000 configs of 1.6 kB."""

logger = logging.getLogger(__name__)

_Wanted = tuple[str, str | None, str | None, str | bytes | None, bool]
"""Organisation, project by name and id, config by id or by the digest of its text, whether the caller may deploy."""


class ProjectCache:
    """What generation said about projects and versions."""

    def __init__(self, bus: Bus, settings: Settings) -> None:
        self._bus = bus
        stale = settings.stale_seconds
        self._resolved: Cache[_Wanted, Resolved] = Cache(
            most=20_000, fresh_seconds=_PROJECT_FRESH_SECONDS, stale_seconds=stale, most_bytes=_MOST_BYTES
        )
        self._projects: Cache[tuple[str, str], Project] = Cache(
            most=10_000, fresh_seconds=_PROJECT_FRESH_SECONDS, stale_seconds=stale
        )
        self._versions: Cache[tuple[str, str], ConfigVersion] = Cache(
            most=20_000, fresh_seconds=_FOR_EVER, stale_seconds=_FOR_EVER, most_bytes=_MOST_BYTES
        )
        self._feedback_types: Cache[tuple[str, str], dict[str, FeedbackType]] = Cache(
            most=10_000, fresh_seconds=_PROJECT_FRESH_SECONDS, stale_seconds=stale, most_bytes=_MOST_BYTES
        )
        self._logs: dict[tuple[str, str], str] = {}

    async def listen(self) -> None:
        """Hear of changes. Some may be missed while offline, so coming back forgets everything that can change."""
        await self._bus.subscribe(ProjectChanged, self._changed)

    def forget(self, organisation: str, project_id: str) -> None:
        """The project changed: ask again."""
        self._resolved.forget(lambda key, known: key[0] == organisation and known.project.id == project_id)
        self._projects.forget(lambda key, _: key == (organisation, project_id))
        self._versions.forget(lambda key, known: key[0] == organisation and known.project_id == project_id)
        self._feedback_types.forget(lambda key, _: key == (organisation, project_id))

    def _changed(self, change: ProjectChanged | None) -> None:
        if change is None:
            for memory in (self._resolved, self._projects, self._versions, self._feedback_types):
                memory.forget(lambda _, __: True)
        elif change.what == "feedback types":
            self._feedback_types.forget(lambda key, _: key == (change.organisation, change.project_id))
        elif change.project_id is not None:
            self.forget(change.organisation, change.project_id)

    async def resolve(
        self,
        caller: Principal,
        project: ProjectRef,
        *,
        config: Config | None = None,
        config_id: str | None = None,
    ) -> Resolved:
        """The project and version, created when unknown. Errors as of `Resolve`."""
        # The key is the config as sent: what makes two of them the same version is generation's rule alone.
        wanted = config_id if config is None else _digest(config)
        key = (caller.organisation, project.name, project.id, wanted, allows(caller, CHANGE_DEPLOYMENTS))
        return await self._resolved.get(
            key,
            lambda: self._bus.request(
                Resolve(
                    principal=caller,
                    project=project,
                    config=config,
                    config_id=config_id,
                )
            ),
        )

    async def project(self, organisation: str, project_id: str) -> Project:
        """One project. Errors: NotFound."""

        async def ask() -> Project:
            answer = await self._bus.request(GetProjects(principal=_gateway(organisation), ids=[project_id]))
            if not answer.projects:
                raise NotFound(f"There is no project {project_id!r}.")
            return answer.projects[0]

        return await self._projects.get((organisation, project_id), ask)

    async def projects(self, organisation: str, ids: Iterable[str]) -> dict[str, Project]:
        """Projects by id; unknown ones are left out."""
        found = {}
        for project_id in dict.fromkeys(ids):
            try:
                found[project_id] = await self.project(organisation, project_id)
            except NotFound:
                continue
        return found

    async def feedback_types(self, organisation: str, project_id: str) -> dict[str, FeedbackType]:
        """The types of feedback of a project, by name. Errors: NotFound."""

        async def ask() -> dict[str, FeedbackType]:
            found = await self._bus.request(GetProject(principal=_gateway(organisation), id=project_id))
            return {one.type: one for one in found.feedback_types}

        return await self._feedback_types.get((organisation, project_id), ask)

    async def define_feedback(self, organisation: str, project_id: str, types: list[FeedbackType]) -> None:
        """Add types of feedback, or labels, to a project. Errors as of `DefineFeedbackTypes`."""
        await self._bus.request(
            DefineFeedbackTypes(principal=_gateway(organisation), project_id=project_id, types=types)
        )
        self._feedback_types.forget(lambda key, _: key == (organisation, project_id))

    def note_log(self, organisation: str, log_id: str, project_id: str | None) -> None:
        """Note where a log belongs that callers hear of now: it may not be stored yet, nor even accepted."""
        if project_id is not None:
            self._logs[organisation, log_id] = project_id
        if len(self._logs) > _MOST_LOGS:
            del self._logs[next(iter(self._logs))]

    def project_of_log(self, organisation: str, log_id: str) -> str | None:
        """The project of a log of which callers of this process heard lately."""
        return self._logs.get((organisation, log_id))

    async def version(self, organisation: str, config_id: str) -> ConfigVersion:
        """One config version. Errors: NotFound."""
        return (await self.with_tools(organisation, [await self._version(organisation, config_id)]))[0]

    async def versions(self, organisation: str, ids: Iterable[str]) -> dict[str, ConfigVersion]:
        """Config versions by id; unknown ones are left out."""
        found = []
        for config_id in dict.fromkeys(ids):
            try:
                found.append(await self._version(organisation, config_id))
            except NotFound:
                continue
        return {version.id: version for version in await self.with_tools(organisation, found)}

    async def _version(self, organisation: str, config_id: str) -> ConfigVersion:
        async def ask() -> ConfigVersion:
            answer = await self._bus.request(GetVersions(principal=_gateway(organisation), ids=[config_id]))
            if not answer.versions:
                raise NotFound(f"There is no config {config_id!r}.")
            return answer.versions[0]

        return await self._versions.get((organisation, config_id), ask)

    async def with_tools(self, organisation: str, versions: Sequence[ConfigVersion]) -> list[ConfigVersion]:
        """The versions with the tools they link to as they are now. If they cannot be had, links stay bare."""

        async def ask(ids: Sequence[str]) -> list[Tool]:
            return (await self._bus.request(GetTools(principal=_gateway(organisation), ids=list(ids)))).tools

        linked = dict.fromkeys(tool.id for version in versions for tool in _links(version.config))
        if not linked:
            return list(versions)
        try:
            known = {tool.id: tool for tool in await by_ids(list(linked), ask)}
        except Problem as problem:
            logger.warning("tools that configs link to are not shown: %s", problem)
            return list(versions)
        return [version.model_copy(update={"config": _filled(version.config, known)}) for version in versions]


def _gateway(organisation: str) -> Principal:
    """Return the principal of what is read for the cache, which callers of one organisation share."""
    return Principal.of_service("gateway", organisation)


def _digest(config: Config) -> bytes:
    """Remembered in its place, because it may be large."""
    return hashlib.sha256(config.model_dump_json(exclude_defaults=True).encode()).digest()


def _links(config: Config) -> list[LinkedTool]:
    tools = config.tools or [] if isinstance(config, ModelConfig) else []
    return [tool for tool in tools if isinstance(tool, LinkedTool)]


def _filled(config: Config, known: Mapping[str, Tool]) -> Config:
    if not isinstance(config, ModelConfig) or not _links(config):
        return config
    tools = [_as_it_is_now(tool, known) if isinstance(tool, LinkedTool) else tool for tool in config.tools or []]
    return config.model_copy(update={"tools": tools})


def _as_it_is_now(link: LinkedTool, known: Mapping[str, Tool]) -> LinkedTool:
    tool = known.get(link.id)
    if tool is None or not isinstance(tool.settings, JsonSchema):
        return link
    return link.model_copy(update=tool.settings.function(tool.name))
