"""Answers commands and queries about members and their roles."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from services.authz.deps import Deps
from services.authz.membership.access import authorize_now
from services.authz.membership.organisations import Organisation
from shared import ids
from shared.bus import Router
from shared.contracts.access.authentication import AccessChanged
from shared.contracts.access.members import ChangeRole, ListMembers, Member, Members, RemoveMember
from shared.contracts.message import Done
from shared.contracts.permissions import ASSIGN_ROLES
from shared.errors import Conflict, NotFound

router = Router[Deps]()

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
    """Remove a member, checked and saved on one revision of the organisation, then revoke their keys.

    The keys are invalid when the membership has gone, which is announced first; that they are revoked, too, is for
    those who read the list.
    """
    user_id = command.user_id
    organisation = await _change_members(
        command, deps, lambda before: before.without(user_id), deps.stores.organisations.remove_member
    )
    await _announce(command, "member removed", organisation, deps)
    await deps.stores.keys.revoke_of_user(command.organisation, user_id, datetime.now(UTC))
    return Done()


async def _change_members(
    command: ChangeRole | RemoveMember,
    deps: Deps,
    change: Callable[[Organisation], Organisation],
    save: Callable[[Organisation, str], Awaitable[bool]],
) -> Organisation:
    """Apply a change to the organisation as it is stored, and save it unless another change came between."""
    for _ in range(_MAX_TRIES):
        before = await deps.stores.organisations.get(command.organisation)
        authorize_now(command.principal, before, ASSIGN_ROLES)
        after = change(before)
        if after is before or await save(after, command.user_id):
            return after
    raise Conflict("The members of your organisation are being changed by others. Try again.")


async def _announce(command: ChangeRole | RemoveMember, what: str, organisation: Organisation, deps: Deps) -> None:
    deps.callers.invalidate(command.organisation)
    await deps.bus.publish_event(
        AccessChanged(organisation=command.organisation, actor=command.actor, what=what),
        message_id=ids.derive("evt", what, command.organisation, str(organisation.revision)),
    )
