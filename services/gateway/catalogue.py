"""Projects and config versions as generation knows them, remembered: a log is accepted without touching a database."""

import logging
from collections.abc import Iterable

from services.gateway.settings import Settings
from shared.bus import Bus
from shared.contracts.access import Caller
from shared.contracts.chat import InlineTool, LinkedTool
from shared.contracts.projects import (
    Config,
    ConfigVersion,
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
from shared.memory import Memory

_PROJECT_FRESH_SECONDS = 30.0
"""Changes are heard of; this bounds how long one would stay unseen whose event was lost."""
_FOR_EVER = 10.0**9

logger = logging.getLogger(__name__)

_Wanted = tuple[str, str | None, str | None, str, bool]


class Catalogue:
    """What generation said about projects and versions."""

    def __init__(self, bus: Bus, settings: Settings) -> None:
        self._bus = bus
        stale = settings.stale_seconds
        self._resolved: Memory[_Wanted, Resolved] = Memory(
            most=20_000, fresh_seconds=_PROJECT_FRESH_SECONDS, stale_seconds=stale
        )
        self._projects: Memory[tuple[str, str], Project] = Memory(
            most=10_000, fresh_seconds=_PROJECT_FRESH_SECONDS, stale_seconds=stale
        )
        self._versions: Memory[tuple[str, str], ConfigVersion] = Memory(
            most=20_000, fresh_seconds=_FOR_EVER, stale_seconds=_FOR_EVER
        )

    async def listen(self) -> None:
        """Hear of changes. Some may be missed while offline, so coming back forgets everything that can change."""
        await self._bus.hear(ProjectChanged, self._changed)

    def forget(self, project_id: str) -> None:
        """The project changed: ask again."""
        self._resolved.forget(lambda _, known: known.project.id == project_id)
        self._projects.forget(lambda key, _: key[1] == project_id)
        self._versions.forget(lambda _, known: known.project_id == project_id)

    def _changed(self, change: ProjectChanged | None) -> None:
        if change is None:
            for memory in (self._resolved, self._projects, self._versions):
                memory.forget(lambda _, __: True)
        elif change.project_id is not None:
            self.forget(change.project_id)

    async def resolve(
        self,
        caller: Caller,
        project: ProjectRef,
        *,
        config: Config | None = None,
        config_id: str | None = None,
        may_deploy: bool,
    ) -> Resolved:
        """The project and version, created when unknown. Errors as of `Resolve`."""
        # The key is the config as sent: what makes two of them the same version is generation's rule alone.
        wanted = (config_id or "") if config is None else config.model_dump_json(exclude_defaults=True)
        key = (caller.organisation, project.name, project.id, wanted, may_deploy)
        return await self._resolved.get(
            key,
            lambda: self._bus.ask(
                Resolve(
                    organisation=caller.organisation,
                    project=project,
                    config=config,
                    config_id=config_id,
                    may_deploy=may_deploy,
                    by=caller.author,
                )
            ),
        )

    async def project(self, organisation: str, project_id: str) -> Project:
        """One project. Errors: NotFound."""

        async def ask() -> Project:
            answer = await self._bus.ask(GetProjects(organisation=organisation, ids=[project_id]))
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

    async def version(self, organisation: str, config_id: str) -> ConfigVersion:
        """One config version. Errors: NotFound."""

        async def ask() -> ConfigVersion:
            answer = await self._bus.ask(GetVersions(organisation=organisation, ids=[config_id]))
            if not answer.versions:
                raise NotFound(f"There is no config {config_id!r}.")
            return answer.versions[0]

        return await self.with_tools(organisation, await self._versions.get((organisation, config_id), ask))

    async def with_tools(self, organisation: str, version: ConfigVersion) -> ConfigVersion:
        """The version with the tools it links to as they are now. If they cannot be had, links stay bare."""
        config = version.config
        linked = [tool.id for tool in _tools(config) if isinstance(tool, LinkedTool)]
        if not linked:
            return version
        try:
            answer = await self._bus.ask(GetTools(organisation=organisation, ids=linked))
        except Problem as problem:
            logger.warning("tools that configs link to are not shown: %s", problem)
            return version
        known = {tool.id: tool for tool in answer.tools}
        tools = [_filled(tool, known) if isinstance(tool, LinkedTool) else tool for tool in _tools(config)]
        return version.model_copy(update={"config": config.model_copy(update={"tools": tools})})

    async def versions(self, organisation: str, ids: Iterable[str]) -> dict[str, ConfigVersion]:
        """Config versions by id; unknown ones are left out."""
        found = {}
        for config_id in dict.fromkeys(ids):
            try:
                found[config_id] = await self.version(organisation, config_id)
            except NotFound:
                continue
        return found


def _tools(config: Config) -> list[LinkedTool | InlineTool]:
    return config.tools or [] if isinstance(config, ModelConfig) else []


def _filled(link: LinkedTool, known: dict[str, Tool]) -> LinkedTool:
    tool = known.get(link.id)
    if tool is None or not isinstance(tool.settings, JsonSchema):
        return link
    settings = tool.settings.model_dump(include={"description", "parameters", "strict"})
    return link.model_copy(update={"name": tool.name, **settings})
