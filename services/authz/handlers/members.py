"""Answers commands and queries about members and their roles."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from pydantic import JsonValue

from services.authz.deps import Deps
from services.authz.membership.access import authorize_now
from services.authz.membership.organisations import Organisation
from shared import ids
from shared.audit import audit_entry
from shared.bus import Router
from shared.contracts.access.authentication import AccessChanged
from shared.contracts.access.members import ChangeRole, ListMembers, Member, Members, RemoveMember
from shared.contracts.audit import AuditObject
from shared.contracts.message import Done
from shared.contracts.permissions import ASSIGN_ROLES
from shared.errors import Conflict, NotFound
from shared.mongo import Session

router = Router[Deps]()

Save = Callable[[Organisation, str, Session], Awaitable[bool]]
"""Saves the organisation with a change of one member; returns False if another change came between."""

_MAX_TRIES = 5
"""Bounds repeats of a change of members that another change came between (optimistic locking by `revision`)."""


@router.answers(ListMembers)
async def list_members(query: ListMembers, deps: Deps) -> Members:
    """Return all members of the organisation; all of them have access to every project."""
    return Members(members=await deps.stores.organisations.list_members(query.organisation))


@router.answers(ChangeRole)
async def change_role(command: ChangeRole, deps: Deps) -> Member:
    """Set a member's role, checked and saved on one revision of the organisation.

    Raises Conflict if no Admin would be left, or others change roles all the time.
    """
    user_id = command.user_id
    organisation = await _change_members(
        command, deps, lambda before: before.with_role(user_id, command.role), deps.stores.organisations.update_role
    )
    await _announce(command, "role changed", organisation, deps)
    members = {member.user_id: member for member in await deps.stores.organisations.list_members(command.organisation)}
    if user_id not in members:
        raise NotFound("The member was removed meanwhile.")
    return members[user_id]


@router.answers(RemoveMember)
async def remove_member(command: RemoveMember, deps: Deps) -> Done:
    """Remove a member, checked and saved on one revision of the organisation, and revoke their keys."""
    user_id = command.user_id

    async def save(after: Organisation, user_id: str, session: Session) -> bool:
        removed = await deps.stores.organisations.remove_member(after, user_id, session)
        if removed:
            await deps.stores.keys.revoke_of_user(command.organisation, user_id, datetime.now(UTC), session)
        return removed

    organisation = await _change_members(command, deps, lambda before: before.without(user_id), save)
    await _announce(command, "member removed", organisation, deps)
    await deps.sessions.end_all(user_id, command.principal, command.organisation)
    return Done()


async def _change_members(
    command: ChangeRole | RemoveMember, deps: Deps, change: Callable[[Organisation], Organisation], save: Save
) -> Organisation:
    """Apply a change to the organisation as it is stored, and save it unless another change came between."""
    for _ in range(_MAX_TRIES):
        before = await deps.stores.organisations.get(command.organisation)
        authorize_now(command.principal, before, ASSIGN_ROLES)
        after = change(before)
        if after is before or await _save(command, before, after, save, deps):
            return after
    raise Conflict("The members of your organisation are being changed by others. Try again.")


async def _save(
    command: ChangeRole | RemoveMember, before: Organisation, after: Organisation, save: Save, deps: Deps
) -> bool | None:
    """Save a change with its entry in the audit log; return whether it was saved."""
    emails = await deps.stores.users.get_emails([command.user_id])
    member = AuditObject(kind="member", id=command.user_id, name=emails.get(command.user_id))
    role, cause = before.roles[command.user_id], [str(after.revision)]
    if isinstance(command, ChangeRole):
        details: dict[str, JsonValue] = {"from": role, "to": command.role}
        entry = audit_entry("member.role_changed", command.principal, after.id, member, cause, details)
    else:
        entry = audit_entry("member.removed", command.principal, after.id, member, cause, {"role": role})
    return await deps.audit.record(lambda session: save(after, command.user_id, session), lambda _: entry)


async def _announce(command: ChangeRole | RemoveMember, what: str, organisation: Organisation, deps: Deps) -> None:
    deps.callers.invalidate(command.organisation)
    await deps.bus.publish_event(
        AccessChanged(organisation=command.organisation, actor=command.actor, what=what),
        message_id=ids.derive("evt", what, command.organisation, str(organisation.revision)),
    )
