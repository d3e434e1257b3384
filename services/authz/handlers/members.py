"""Answers commands and queries about members and their roles."""

from services.authz.access import authorize_now
from services.authz.deps import Deps
from shared import ids
from shared.bus import Router
from shared.contracts.access import AccessChanged, ChangeRole, ListMembers, Member, Members
from shared.errors import Conflict
from shared.permissions import ASSIGN_ROLES

router = Router[Deps]()

_MAX_TRIES = 5
"""Bounds repeats of a change of roles that another change came between (optimistic locking by `revision`)."""


@router.answers(ListMembers)
async def list_members(query: ListMembers, deps: Deps) -> Members:
    """Return all members of the organisation; all of them have access to every project."""
    return Members(members=await deps.store.list_members(query.organisation))


@router.answers(ChangeRole)
async def change_role(command: ChangeRole, deps: Deps) -> Member:
    """Set a member's role, checked and saved on one revision of the organisation.

    Raises Conflict if no Admin would be left, or others change roles all the time.
    """
    for _ in range(_MAX_TRIES):
        before = await deps.store.get_organisation(command.organisation)
        authorize_now(command.principal, before, ASSIGN_ROLES)
        after = before.with_role(command.user_id, command.role)
        if after is before or await deps.store.update_role(after, command.user_id):
            break
    else:
        raise Conflict("The roles of your organisation are being changed by others. Try again.")
    deps.callers.invalidate(command.organisation)
    await deps.bus.publish_event(
        AccessChanged(organisation=command.organisation, actor=command.actor, what="role changed"),
        message_id=ids.derive("evt", "role changed", command.organisation, str(after.revision)),
    )
    emails = await deps.store.get_emails({command.user_id})
    return Member(user_id=command.user_id, email=emails.get(command.user_id, ""), role=command.role)
