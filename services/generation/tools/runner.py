"""Runs tools: finds them by name or id through a cache, makes the calls of templates, resolves the links of configs."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from opentelemetry.trace import Status, StatusCode

from services.generation.http.guarded_client import GuardedSession
from services.generation.store import StoredTool, ToolStore
from services.generation.templates.template import ToolReference
from services.generation.templates.text_budget import TextBudget
from services.generation.tools.base import Invocation, ToolServices
from services.generation.tools.registry import KINDS, parameter_names, signature
from shared import telemetry
from shared.bus import Bus
from shared.cache import Cache
from shared.contracts.chat import InlineTool, LinkedTool, ToolResult
from shared.contracts.generation.tools import CreateTool, DeleteTool, JsonSchema, ToolChanged, UpdateTool
from shared.encryption import SecretBox
from shared.errors import Invalid, NotFound, Problem

_FRESH_SECONDS = 10.0
"""How long a tool is used without reading it again. Events drop it at once; this is for a lost event."""
_UNLIMITED_SECONDS = 10.0**9
_MAX_CALLS = 100
"""Per request: bounds the requests that one template can make this server send."""
_MAX_RESPONSE_BYTES = 4 * 1024 * 1024
"""Of the responses to the calls of one request together: as much as the text of a body may have."""

_ToolKey = tuple[str, str, str]
"""Organisation, `id` or `name`, its value."""


class ToolRunner:
    """Reads the organisation's tools through a cache, and runs them."""

    def __init__(self, store: ToolStore, secret_box: SecretBox, services: ToolServices, bus: Bus) -> None:
        self._store = store
        self._secret_box = secret_box
        self._services = services
        self._bus = bus
        self._tools: Cache[_ToolKey, StoredTool] = Cache(
            tags=lambda key, _: [key[0]],
            max_entries=2_000,
            fresh_seconds=_FRESH_SECONDS,
            stale_seconds=_UNLIMITED_SECONDS,
            max_bytes=16 * 1024 * 1024,
        )

    async def subscribe(self) -> None:
        """Subscribe to the changes of other replicas. After a reconnect everything is dropped: events may be missed."""
        await self._bus.subscribe(
            ToolChanged, lambda change: self._invalidate(None if change is None else change.organisation)
        )

    def _invalidate(self, organisation: str | None) -> None:
        if organisation is None:
            self._tools.clear()
        else:
            self._tools.invalidate(organisation)

    async def publish_change(
        self,
        command: CreateTool | UpdateTool | DeleteTool,
        tool_id: str,
        what: Literal["created", "updated", "deleted"],
        revision: int,
    ) -> None:
        """Drop the organisation's cached tools and publish a saved change; the same change is one event.

        When this returns, no replica uses the tool as it was before. Raises Unavailable.
        """
        self._invalidate(command.organisation)
        event = ToolChanged(organisation=command.organisation, actor=command.actor, tool_id=tool_id, what=what)
        await self._bus.publish_event(event, message_id=f"{tool_id}.{what}.{revision}")

    async def run_all(self, organisation: str, calls: Sequence[ToolReference]) -> list[ToolResult]:
        """Run the calls of a template concurrently; return their results in the order of `calls`.

        Raises Invalid if there are too many calls or no tool of a name, before any is run, or if their results together
        are more than a populated template may be, as soon as they are; else as `run`.
        """
        if len(calls) > _MAX_CALLS:
            raise Invalid(f"The template calls tools in {len(calls)} ways; {_MAX_CALLS} are the most.")
        tools = [await self._get_by_name(organisation, call.name) for call in calls]
        received = TextBudget("The results of the template's tools")

        async def run(session: GuardedSession, tool: StoredTool, call: ToolReference) -> ToolResult:
            result = await self._run(session, tool, call.arguments, call.signature)
            received.take(result.result, call.signature)
            return result

        try:
            with self._session(organisation) as session:
                async with asyncio.TaskGroup() as group:
                    running = [
                        group.create_task(run(session, tool, call)) for tool, call in zip(tools, calls, strict=True)
                    ]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return [task.result() for task in running]

    async def run(
        self, organisation: str, tool: StoredTool, arguments: tuple[str, ...], call_signature: str
    ) -> ToolResult:
        """Make one call of a tool; `call_signature` is the call as it is written in the template.

        Raises Invalid, or the problem of the service the tool calls; each names the tool.
        """
        with self._session(organisation) as session:
            return await self._run(session, tool, arguments, call_signature)

    def _session(self, organisation: str) -> AbstractContextManager[GuardedSession]:
        return self._services.guarded_client.session(organisation, _MAX_RESPONSE_BYTES, "results of tools")

    async def _run(
        self, session: GuardedSession, tool: StoredTool, arguments: tuple[str, ...], call_signature: str
    ) -> ToolResult:
        kind, expected = KINDS[tool.settings.kind], parameter_names(tool.settings)
        if kind.run is None:
            raise Invalid(
                f"The tool {tool.name!r} is a JSON schema that models call: link it in the config's tools. "
                "It cannot be called in a template."
            )
        if len(arguments) != len(expected):
            raise Invalid(
                f"The tool {tool.name!r} takes {len(expected)} arguments, as in {signature(tool.name, tool.settings)}; "
                f"{call_signature!r} gives {len(arguments)}."
            )
        secrets: Mapping[str, str] = self._secret_box.decrypt(tool.sealed) if tool.sealed else {}
        with _span(tool):
            try:
                result = await kind.run(Invocation(session, tool.settings, arguments, secrets), self._services)
            except Problem as problem:
                raise type(problem)(
                    f"The tool {tool.name!r} failed. {problem.message}",
                    origin=problem.origin,
                    retry_after_seconds=problem.retry_after_seconds,
                ) from problem
        return ToolResult(id=tool.id, name=tool.name, signature=call_signature, result=result)

    async def _get_by_name(self, organisation: str, name: str) -> StoredTool:
        async def load() -> StoredTool:
            if tool := await self._store.find_by_name(organisation, name):
                return tool
            raise NotFound(name)

        try:
            return await self._tools.get((organisation, "name", name), load)
        except NotFound:
            raise Invalid(f"The template calls the tool {name!r}, but there is no tool of that name.") from None

    async def resolve_links(self, organisation: str, tools: Iterable[LinkedTool | InlineTool]) -> list[InlineTool]:
        """Return a config's tools with each link replaced by the definition that its tool has now.

        Raises Invalid for a link to no tool of the organisation, or to one that is no JSON schema.
        """
        return [tool if isinstance(tool, InlineTool) else await self._resolve(organisation, tool) for tool in tools]

    async def _resolve(self, organisation: str, link: LinkedTool) -> InlineTool:
        async def load() -> StoredTool:
            if tool := await self._store.get(organisation, link.id):
                return tool
            raise NotFound(link.id)

        try:
            tool = await self._tools.get((organisation, "id", link.id), load)
        except NotFound:
            name = f" ({link.name})" if link.name else ""
            raise Invalid(
                f"The config links to the tool {link.id!r}{name}, but this organisation has no tool of that id."
            ) from None
        if not isinstance(tool.settings, JsonSchema):
            raise Invalid(
                f"The config links to the tool {tool.name!r} ({tool.id}), which is a {tool.settings.kind} tool; "
                "only tools with a JSON schema can be linked."
            )
        return InlineTool(**tool.settings.function(tool.name), source="organization")


@contextmanager
def _span(tool: StoredTool) -> Iterator[None]:
    """Record the call as a span; of an error only its status, as its message may contain an input.

    https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/#execute-tool-span, 2025-10
    """
    with telemetry.tracer.start_as_current_span(
        f"execute_tool {telemetry.span_text(tool.name)}",
        attributes={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": telemetry.span_text(tool.name)},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except BaseException as error:
            kind = str(error.status) if isinstance(error, Problem) else type(error).__name__
            span.set_attribute("error.type", kind)
            span.set_status(Status(StatusCode.ERROR, kind))
            raise
