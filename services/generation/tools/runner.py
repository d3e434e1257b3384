"""Tools at work: found by name or id, remembered for a little while, forgotten when they change."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from opentelemetry.trace import Status, StatusCode

from services.generation.store import StoredTool, ToolStore
from services.generation.templates.template import ToolReference
from services.generation.tools.base import Invocation, ToolServices
from services.generation.tools.registry import KINDS, parameters, signature
from shared import telemetry
from shared.bus import Bus
from shared.cache import Cache
from shared.contracts.chat import InlineTool, LinkedTool, ToolResult
from shared.contracts.tools import JsonSchema, ToolChanged
from shared.encryption import SecretBox
from shared.errors import Invalid, NotFound, Problem

_FRESH_SECONDS = 10.0
"""How long a change may stay unseen whose announcement was lost."""
_FOR_EVER = 10.0**9
_MOST_CALLS = 100
"""Of one request: a template may not make this server call others without end."""

_Key = tuple[str, str, str]


class ToolRunner:
    """The store behind a memory, and the way to run what is in it."""

    def __init__(self, store: ToolStore, secret_box: SecretBox, services: ToolServices, bus: Bus) -> None:
        self._store = store
        self._secret_box = secret_box
        self._world = services
        self._bus = bus
        self._tools: Cache[_Key, StoredTool] = Cache(
            most=2_000, fresh_seconds=_FRESH_SECONDS, stale_seconds=_FOR_EVER, most_bytes=16 * 1024 * 1024
        )

    async def listen(self) -> None:
        """Hear of other replicas' changes. One missed while offline is why reconnecting forgets everything."""
        await self._bus.subscribe(
            ToolChanged, lambda change: self._forget(None if change is None else change.organisation)
        )

    def _forget(self, organisation: str | None) -> None:
        self._tools.forget(lambda key, _: organisation in (None, key[0]))

    async def changed(
        self, organisation: str, tool_id: str, what: Literal["created", "updated", "deleted"], revision: int
    ) -> None:
        """A change was saved: nobody remembers the tool as it was when this returns. Errors: Unavailable."""
        self._forget(organisation)
        event = ToolChanged(organisation=organisation, tool_id=tool_id, what=what)
        await self._bus.publish_event(event, message_id=f"{tool_id}.{what}.{revision}")

    async def run_all(self, organisation: str, calls: Sequence[ToolReference]) -> list[ToolResult]:
        """What each call gives, in their order; they are made at once.

        Errors: of `run`, and Invalid (no such tool, too many calls).
        """
        if len(calls) > _MOST_CALLS:
            raise Invalid(f"The template calls tools in {len(calls)} ways; {_MOST_CALLS} are the most.")
        tools = [await self._named(organisation, call.name) for call in calls]
        try:
            async with asyncio.TaskGroup() as group:
                running = [
                    group.create_task(self.run(tool, call.arguments, call.signature))
                    for tool, call in zip(tools, calls, strict=True)
                ]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return [task.result() for task in running]

    async def run(self, tool: StoredTool, arguments: tuple[str, ...], written: str) -> ToolResult:
        """One call, `written` like this. Errors: Invalid and what the tool's service answers; each names the tool."""
        kind, expected = KINDS[tool.settings.kind], parameters(tool.settings)
        if kind.run is None:
            raise Invalid(
                f"The tool {tool.name!r} is a JSON schema that models call: link it in the config's tools. "
                "It cannot be called in a template."
            )
        if len(arguments) != len(expected):
            raise Invalid(
                f"The tool {tool.name!r} takes {len(expected)} arguments, as in {signature(tool.name, tool.settings)}; "
                f"{written!r} gives {len(arguments)}."
            )
        secrets: Mapping[str, str] = self._secret_box.decrypt(tool.sealed) if tool.sealed else {}
        with _span(tool):
            try:
                result = await kind.run(Invocation(tool.settings, arguments, secrets), self._world)
            except Problem as problem:
                raise type(problem)(
                    f"The tool {tool.name!r} failed. {problem.message}",
                    origin=problem.origin,
                    retry_after_seconds=problem.retry_after_seconds,
                ) from problem
        return ToolResult(id=tool.id, name=tool.name, signature=written, result=result)

    async def _named(self, organisation: str, name: str) -> StoredTool:
        async def ask() -> StoredTool:
            if tool := await self._store.named(organisation, name):
                return tool
            raise NotFound(name)

        try:
            return await self._tools.get((organisation, "name", name), ask)
        except NotFound:
            raise Invalid(f"The template calls the tool {name!r}, but there is no tool of that name.") from None

    async def inline(self, organisation: str, tools: Iterable[LinkedTool | InlineTool]) -> list[InlineTool]:
        """The functions as they are now. Errors: Invalid (a link to no tool, or to one that is no JSON schema)."""
        return [tool if isinstance(tool, InlineTool) else await self._linked(organisation, tool) for tool in tools]

    async def _linked(self, organisation: str, link: LinkedTool) -> InlineTool:
        async def ask() -> StoredTool:
            if tool := await self._store.get(organisation, link.id):
                return tool
            raise NotFound(link.id)

        try:
            tool = await self._tools.get((organisation, "id", link.id), ask)
        except NotFound:
            called = f" ({link.name})" if link.name else ""
            raise Invalid(
                f"The config links to the tool {link.id!r}{called}, but this organisation has no tool of that id."
            ) from None
        if not isinstance(tool.settings, JsonSchema):
            raise Invalid(
                f"The config links to the tool {tool.name!r} ({tool.id}), which is a {tool.settings.kind} tool; "
                "only tools with a JSON schema can be linked."
            )
        return InlineTool(**tool.settings.function(tool.name), source="organization")


@contextmanager
def _span(tool: StoredTool) -> Iterator[None]:
    """Names as in https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/#execute-tool-span, 2025-10.

    An error's own words may hold an input: only its status is told.
    """
    with telemetry.tracer.start_as_current_span(
        f"execute_tool {tool.name}",
        attributes={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool.name},
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
