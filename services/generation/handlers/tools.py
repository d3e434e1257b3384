"""The organisation's tools: made, changed, removed, read, tried."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from services.generation.deps import Deps
from services.generation.http.guarded_client import same_origin
from services.generation.store import StoredTool
from services.generation.tools.registry import signature
from shared.bus import Router
from shared.contracts.chat import ToolResult
from shared.contracts.generation.tools import (
    TOOL_SETTINGS,
    CreateTool,
    DeleteTool,
    GetTools,
    ListTools,
    RunTool,
    Tool,
    ToolPage,
    Tools,
    ToolSettings,
    UpdateTool,
)
from shared.contracts.message import Done
from shared.errors import Conflict, Invalid, NotFound

router: Router[Deps] = Router()

_OPTIONAL_SECRETS = frozenset({"key"})
_SHOWN = 4
"""Characters of a secret, if it has at least three times as many."""
_TRIES = 5


@router.request_handler(CreateTool)
async def create(command: CreateTool, deps: Deps) -> Tool:
    """Store it with its secrets encrypted."""
    new = StoredTool(id=command.id, name=command.name, settings=command.settings)
    secrets = deps.secret_box.decrypt(command.sealed_secrets) if command.sealed_secrets else {}
    stored = await deps.stores.tools.insert(command.organisation, _with_secrets(new, secrets, deps))
    await deps.tool_runner.publish_change(command, stored.id, "created", stored.revision)
    return _told(stored)


@router.request_handler(UpdateTool)
async def update(command: UpdateTool, deps: Deps) -> Tool:
    """Change what is named; the rest stays, whoever else changes the tool at the same moment."""
    given = deps.secret_box.decrypt(command.sealed_secrets) if command.sealed_secrets else {}
    for _ in range(_TRIES):
        old = await _get(command.organisation, command.id, deps)
        settings = _changed(old.settings, command.changes)
        stored = deps.secret_box.decrypt(old.sealed) if old.sealed else {}
        _stay_where_they_belong(stored.keys() - given.keys(), old.settings, settings)
        changed = replace(
            old,
            name=command.name or old.name,
            settings=settings,
            revision=old.revision + 1,
            updated_at=datetime.now(UTC),
        )
        changed = _with_secrets(changed, stored | given, deps)
        if await deps.stores.tools.replace(command.organisation, changed):
            await deps.tool_runner.publish_change(command, changed.id, "updated", changed.revision)
            return _told(changed)
    raise Conflict("Others change this tool all the time; try again.")


@router.request_handler(DeleteTool)
async def delete(command: DeleteTool, deps: Deps) -> Done:
    """What names it fails from the next call on."""
    tool = await _get(command.organisation, command.id, deps)
    await deps.stores.tools.delete(command.organisation, command.id)
    await deps.tool_runner.publish_change(command, command.id, "deleted", tool.revision)
    return Done()


@router.request_handler(GetTools)
async def get_tools(query: GetTools, deps: Deps) -> Tools:
    """Tools by id."""
    return Tools(tools=[_told(tool) for tool in await deps.stores.tools.get_many(query.organisation, query.ids)])


@router.request_handler(ListTools)
async def list_tools(query: ListTools, deps: Deps) -> ToolPage:
    """Those of the page."""
    tools, total = await deps.stores.tools.list_page(query.organisation, query.page)
    return ToolPage(tools=[_told(tool) for tool in tools], total=total)


@router.request_handler(RunTool)
async def run(command: RunTool, deps: Deps) -> ToolResult:
    """As a template with these arguments as literals would."""
    tool = await _get(command.organisation, command.id, deps)
    written = (f'"{given}"' if isinstance(given, str) else str(given) for given in command.arguments)
    arguments = tuple(str(given) for given in command.arguments)
    return await deps.tool_runner.run(tool, arguments, f"{tool.name}({', '.join(written) or ' '})")


async def _get(organisation: str, tool_id: str, deps: Deps) -> StoredTool:
    if tool := await deps.stores.tools.get(organisation, tool_id):
        return tool
    raise NotFound(f"There is no tool {tool_id!r}.")


def _changed(settings: ToolSettings, changes: dict[str, Any]) -> ToolSettings:
    """Errors: Invalid (a field this kind does not have, a value it cannot have)."""
    for field in changes:
        if field not in type(settings).model_fields:
            raise Invalid(f"A {settings.kind} tool has no {field}.")
    if changes.get("kind", settings.kind) != settings.kind:
        raise Invalid(f"This is a {settings.kind} tool and stays one; make another tool instead.")
    try:
        return TOOL_SETTINGS.validate_python(settings.model_dump() | changes)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise Invalid(f"{'.'.join(str(part) for part in problem['loc'][1:])}: {problem['msg']}.") from None


def _stay_where_they_belong(kept: Iterable[str], before: ToolSettings, after: ToolSettings) -> None:
    """A secret was given for one server; who may change the tool shall not have it sent to a server of their own.

    Errors: Invalid (one of the `kept` secrets would go elsewhere).
    """
    for name in sorted(kept):
        field = after.sent_to.get(name)
        if field is None or same_origin(getattr(before, field), getattr(after, field)):
            continue
        without = ", or empty to go without it" if name in _OPTIONAL_SECRETS else ""
        raise Invalid(
            f"{field} leads to another server, which does not get the stored {name}: send {name}, too{without}."
        )


def _with_secrets(tool: StoredTool, secrets: dict[str, str], deps: Deps) -> StoredTool:
    """An empty secret is none. Errors: Invalid (one is missing, or the kind has none of that name)."""
    secrets = {name: secret for name, secret in secrets.items() if secret}
    for name in secrets:
        if name not in tool.settings.secret_names:
            raise Invalid(f"A {tool.settings.kind} tool has no {name}.")
    for name in tool.settings.secret_names:
        if name not in secrets and name not in _OPTIONAL_SECRETS:
            raise Invalid(f"A {tool.settings.kind} tool needs {name}.")
    tails = {name: secret[-_SHOWN:] if len(secret) >= 3 * _SHOWN else "" for name, secret in secrets.items()}
    return replace(tool, sealed=deps.secret_box.encrypt(secrets) if secrets else None, tails=tails)


def _told(tool: StoredTool) -> Tool:
    return Tool(
        id=tool.id,
        name=tool.name,
        signature=signature(tool.name, tool.settings),
        settings=tool.settings,
        secrets=tool.tails,
        created_at=tool.created_at,
        updated_at=tool.updated_at,
    )
