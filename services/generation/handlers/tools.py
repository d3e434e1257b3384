"""Answers commands and queries about the organisation's tools."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue, ValidationError

from services.generation.deps import Deps
from services.generation.http.secret_destinations import moved_secret
from services.generation.http.urls import same_origin
from services.generation.store import StoredTool
from services.generation.tools.registry import signature
from shared.audit import audit_entry
from shared.bus import Router
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.audit_actions import AuditAction
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
"""Names of secrets that a tool may lack."""
_TAIL_LENGTH = 4
"""Characters of a secret that are shown, if it has at least three times as many."""
_MAX_TRIES = 5
"""Bounds repeats of a change that another change came between (optimistic locking by revision)."""


@router.answers(CreateTool)
async def create(command: CreateTool, deps: Deps) -> Tool:
    """Create a tool; its secrets are stored encrypted. Raises Conflict if the name is taken, Invalid if one lacks."""
    tool = StoredTool(id=command.id, name=command.name, settings=command.settings)
    secrets = deps.secret_box.decrypt(command.sealed_secrets) if command.sealed_secrets else {}
    new = _with_secrets(tool, secrets, deps)
    details: dict[str, JsonValue] = {"tool_kind": new.settings.kind, "secrets": [*sorted(new.tails)]}
    inserted = await deps.audit.record(
        lambda session: deps.stores.tools.insert(command.organisation, new, session),
        lambda _: _entry("tool.created", command, new, details),
    )
    stored = new if inserted else await _get_tool(command.organisation, command.id, deps)
    await deps.tool_runner.publish_change(command, stored.id, "created", stored.revision)
    return _contract_of(stored)


@router.answers(UpdateTool)
async def update(command: UpdateTool, deps: Deps) -> Tool:
    """Change the fields that the command has, on one revision of the tool.

    Raises NotFound if there is no such tool, Invalid if a field or secret does not fit, Conflict if others change the
    tool all the time.
    """
    new_secrets = deps.secret_box.decrypt(command.sealed_secrets) if command.sealed_secrets else {}
    for _ in range(_MAX_TRIES):
        old = await _get_tool(command.organisation, command.id, deps)
        settings = _updated_settings(old.settings, command.changes)
        old_secrets = deps.secret_box.decrypt(old.sealed) if old.sealed else {}
        _check_secret_destinations(old_secrets.keys() - new_secrets.keys(), old.settings, settings)
        new = replace(
            old,
            name=command.name or old.name,
            settings=settings,
            revision=old.revision + 1,
            updated_at=datetime.now(UTC),
        )
        new = _with_secrets(new, old_secrets | new_secrets, deps)
        changed = _changed_fields(old, new)
        changed += [name for name, secret in sorted(new_secrets.items()) if secret != old_secrets.get(name, "")]
        if not changed:
            new = old
        if new is old or await _replace(command, new, changed, deps):
            await deps.tool_runner.publish_change(command, new.id, "updated", new.revision)
            return _contract_of(new)
    raise Conflict("Others change this tool all the time; try again.")


@router.answers(DeleteTool)
async def delete(command: DeleteTool, deps: Deps) -> Done:
    """Delete a tool; prompts that name it fail from the next call on. Raises NotFound if there is no such tool."""
    tool = await _get_tool(command.organisation, command.id, deps)
    await deps.audit.record(
        lambda session: deps.stores.tools.delete(command.organisation, command.id, session),
        lambda _: _entry("tool.deleted", command, tool, {}),
    )
    await deps.tool_runner.publish_change(command, command.id, "deleted", tool.revision)
    return Done()


@router.answers(GetTools)
async def get_tools(query: GetTools, deps: Deps) -> Tools:
    """Return tools by id, of those that exist."""
    return Tools(tools=[_contract_of(tool) for tool in await deps.stores.tools.get_many(query.organisation, query.ids)])


@router.answers(ListTools)
async def list_tools(query: ListTools, deps: Deps) -> ToolPage:
    """Return a page of tools by name."""
    tools, total = await deps.stores.tools.list_page(query.organisation, query.page)
    return ToolPage(tools=[_contract_of(tool) for tool in tools], total=total)


@router.answers(RunTool)
async def run(command: RunTool, deps: Deps) -> ToolResult:
    """Return what a template would get from the tool with these arguments. Raises NotFound if there is no such tool."""
    tool = await _get_tool(command.organisation, command.id, deps)
    literals = (f'"{argument}"' if isinstance(argument, str) else str(argument) for argument in command.arguments)
    arguments = tuple(str(argument) for argument in command.arguments)
    return await deps.tool_runner.run(
        command.organisation, tool, arguments, f"{tool.name}({', '.join(literals) or ' '})"
    )


async def _replace(command: UpdateTool, new: StoredTool, changed: list[str], deps: Deps) -> bool | None:
    """Save a change with its entry in the audit log; return False if another change came between."""
    return await deps.audit.record(
        lambda session: deps.stores.tools.replace(command.organisation, new, session),
        lambda _: _entry("tool.updated", command, new, {"changed": [*changed]}),
    )


def _entry(
    action: AuditAction, command: CreateTool | UpdateTool | DeleteTool, tool: StoredTool, details: dict[str, JsonValue]
) -> AuditEntry:
    """Return the entry of the audit log. It names fields and secrets and has no value of any: a URL may hold a key."""
    changed, cause = AuditObject(kind="tool", id=tool.id, name=tool.name), [tool.id, str(tool.revision)]
    return audit_entry(action, command.principal, command.organisation, changed, cause, details)


def _changed_fields(old: StoredTool, new: StoredTool) -> list[str]:
    """Return the names of the fields that differ, without secrets."""
    before, after = old.settings.model_dump(), new.settings.model_dump()
    fields = [name for name in after if before.get(name) != after[name]]
    return fields if old.name == new.name else ["name", *fields]


async def _get_tool(organisation: str, tool_id: str, deps: Deps) -> StoredTool:
    if tool := await deps.stores.tools.get(organisation, tool_id):
        return tool
    raise NotFound(f"There is no tool {tool_id!r}.")


def _updated_settings(settings: ToolSettings, changes: dict[str, Any]) -> ToolSettings:
    """Return `settings` with the changes. Raises Invalid if the kind has no such field or the value does not fit."""
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


def _check_secret_destinations(kept_secrets: Iterable[str], before: ToolSettings, after: ToolSettings) -> None:
    """Raise Invalid if one of the secrets that stay, by name, would be sent to another origin than before.

    Who may change a tool must not be able to send its secrets to a server of their own.
    """
    for name in sorted(kept_secrets):
        field = after.sent_to.get(name)
        if field is None or same_origin(getattr(before, field), getattr(after, field)):
            continue
        without = ", or empty to go without it" if name in _OPTIONAL_SECRETS else ""
        raise moved_secret(field, name, f"send {name}, too{without}")


def _with_secrets(tool: StoredTool, secrets: dict[str, str], deps: Deps) -> StoredTool:
    """Return the tool with its secrets encrypted; an empty one counts as absent.

    Raises Invalid if one is missing, or the kind has none of that name.
    """
    secrets = {name: secret for name, secret in secrets.items() if secret}
    for name in secrets:
        if name not in tool.settings.secret_names:
            raise Invalid(f"A {tool.settings.kind} tool has no {name}.")
    for name in tool.settings.secret_names:
        if name not in secrets and name not in _OPTIONAL_SECRETS:
            raise Invalid(f"A {tool.settings.kind} tool needs {name}.")
    tails = {
        name: secret[-_TAIL_LENGTH:] if len(secret) >= 3 * _TAIL_LENGTH else "" for name, secret in secrets.items()
    }
    return replace(tool, sealed=deps.secret_box.encrypt(secrets) if secrets else None, tails=tails)


def _contract_of(tool: StoredTool) -> Tool:
    return Tool(
        id=tool.id,
        name=tool.name,
        signature=signature(tool.name, tool.settings),
        settings=tool.settings,
        secrets=tool.tails,
        created_at=tool.created_at,
        updated_at=tool.updated_at,
    )
