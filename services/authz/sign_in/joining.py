"""Makes people members: by an invite, by a domain that the organisation trusts, or as the first Admin."""

from datetime import UTC, datetime

from services.authz.access_changes import AccessChanges
from services.authz.membership.emails import domain_of
from services.authz.membership.invites import StoredInvite
from services.authz.membership.organisations import Organisation
from services.authz.sign_in.sessions import person_principal
from services.authz.store import StoredUser, Stores
from shared import ids
from shared.audit import AuditOutbox, audit_entry
from shared.contracts.access.sessions import Browser
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.principal import Principal, Role
from shared.errors import NotFound
from shared.mongo import Session

INVITE_GONE = "This invite was used or revoked, or is older than 7 days. Ask an Admin for a new one."


class Joining:
    """Each way stores person, membership and what was used up for it together, or nothing of it."""

    def __init__(self, stores: Stores, audit: AuditOutbox, changes: AccessChanges) -> None:
        self._stores = stores
        self._audit = audit
        self._changes = changes

    async def accept(self, token_hash: str, user: StoredUser, *, is_new: bool, browser: Browser) -> StoredInvite:
        """Use up an invite and make the person a member with its role. Raises NotFound if it cannot be used any more.

        A member stays what they are.
        """

        async def change(session: Session) -> StoredInvite | None:
            now = datetime.now(UTC)
            invite = await self._stores.invites.delete_valid(token_hash, now, session)
            if invite is None:
                return None
            if is_new:
                await self._stores.users.insert(user, now, session)
            await self._stores.organisations.add_member(invite.organisation, user.id, invite.role, now, session)
            return invite

        invite = await self._audit.record(
            change,
            lambda used: audit_entry(
                "invite.accepted",
                person_principal(user, used.organisation, browser),
                used.organisation,
                _member(user),
                (used.id,),
                {"role": used.role, "invite": used.id},
            ),
        )
        if invite is None:
            raise NotFound(INVITE_GONE)
        await self._changes.announce(invite.organisation, "member joined", None, invite.id)
        return invite

    async def add(
        self, organisation: str, user: StoredUser, role: Role, *, is_new: bool, by: Principal | None, reason: str
    ) -> bool:
        """Make a person a member; return False if they are one. `reason` is for the audit log."""

        async def change(session: Session) -> bool:
            now = datetime.now(UTC)
            if is_new:
                await self._stores.users.insert(user, now, session)
            return await self._stores.organisations.add_member(organisation, user.id, role, now, session)

        added = await self._audit.record(
            change,
            lambda _: audit_entry(
                "member.added", by, organisation, _member(user), details={"role": role, "reason": reason}
            ),
        )
        if added:
            await self._changes.announce(organisation, "member joined", by and by.actor, ids.mint("evt"))
        return bool(added)

    async def found(self, organisation: Organisation, name: str, user: StoredUser, *, is_new: bool) -> None:
        """Store an organisation with its first Admin. Raises Conflict if there is one with its id."""
        principal = Principal(kind="member", user_id=user.id, email=user.email, organisation=organisation.id)

        async def change(session: Session) -> bool:
            now = datetime.now(UTC)
            if is_new:
                await self._stores.users.insert(user, now, session)
            await self._stores.organisations.insert(organisation, name, now, session)
            return True

        def entry(_: bool) -> AuditEntry:
            created = AuditObject(kind="organisation", id=organisation.id, name=name)
            return audit_entry("organisation.created", principal, organisation.id, created, (organisation.id,))

        await self._audit.record(change, entry)

    async def add_by_domain(self, user: StoredUser, *, is_new: bool, browser: Browser) -> bool:
        """Make a person whose address is proven a member of the organisations that trust its domain.

        Returns whether there is one.
        """
        trusting = await self._stores.organisations.list_trusting(domain_of(user.email))
        for settings in trusting:
            by = person_principal(user, settings.id, browser)
            await self.add(settings.id, user, "Member", is_new=is_new, by=by, reason="trusted domain")
            is_new = False
        return bool(trusting)


def _member(user: StoredUser) -> AuditObject:
    return AuditObject(kind="member", id=user.id, name=user.email)
