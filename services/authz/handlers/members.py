"""Members and their roles."""

from services.authz.access import authorize_now
from services.authz.deps import Deps
from shared import ids
from shared.bus import Router
from shared.contracts.access import AccessChanged, ChangeRole, ListMembers, Member, Members
from shared.errors import Conflict
from shared.permissions import ASSIGN_ROLES

router = Router[Deps]()

_TRIES = 5
"""Two Admins changing roles in the same millisecond: one decides again on what the other saved."""


@router.request_handler(ListMembers)
async def list_members(query: ListMembers, deps: Deps) -> Members:
    """Everyone: all of them reach every project."""
    return Members(members=await deps.store.get_members(query.organisation))


@router.request_handler(ChangeRole)
async def change_role(command: ChangeRole, deps: Deps) -> Member:
    """Give a member another role; decided and saved on one revision of the organisation."""
    for _ in range(_TRIES):
        before = await deps.store.get_organisation(command.organisation)
        authorize_now(command.principal, before, ASSIGN_ROLES)
        after = before.with_role(command.user_id, command.role)
        if after is before or await deps.store.save_role(after, command.user_id):
            break
    else:
        raise Conflict("The roles of your organisation are being changed by others. Try again.")
    deps.callers.forget(command.organisation)
    await deps.bus.publish_event(
        AccessChanged(organisation=command.organisation, actor=command.actor, what="role changed"),
        message_id=ids.derive("evt", "role changed", command.organisation, str(after.revision)),
    )
    emails = await deps.store.get_emails({command.user_id})
    return Member(user_id=command.user_id, email=emails.get(command.user_id, ""), role=command.role)
