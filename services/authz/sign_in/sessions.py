"""Begins and ends browser sessions."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from services.authz.access_changes import AccessChanges
from services.authz.credentials.random_secrets import generate_secret, hash_secret
from services.authz.credentials.sessions import PREFIX, StoredSession
from services.authz.settings import Settings
from services.authz.store import StoredUser, Stores
from shared import ids
from shared.audit import AuditOutbox, audit_entry
from shared.contracts.access.sessions import Browser, SignedIn
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.audit_actions import AuditAction
from shared.contracts.principal import Principal
from shared.errors import Denied, Unavailable
from shared.mongo import Session


class BrowserSessions:
    """Every session has a new secret, so that one which somebody put into a browser beforehand is of no use."""

    def __init__(self, stores: Stores, audit: AuditOutbox, changes: AccessChanges, settings: Settings) -> None:
        self._stores = stores
        self._audit = audit
        self._changes = changes
        self._lifetime = timedelta(hours=settings.session_hours)
        self._idle = settings.session_idle

    async def begin(
        self, user: StoredUser, browser: Browser, *, method: str, organisation: str | None = None
    ) -> SignedIn:
        """Begin a session in `organisation`, else in that of the last session, else in any of the person.

        `method` says how they proved who they are: `password`, `oidc`, … Raises Denied if they are no member anywhere.
        """
        mine = [membership.organisation for membership in await self._stores.organisations.list_memberships(user.id)]
        if not mine:
            raise Denied("You are not a member of any organisation. Ask an Admin of yours for an invite.")
        if organisation not in mine:
            organisation = await self._stores.sessions.find_organisation(user.id)
        secret, now = generate_secret(PREFIX), datetime.now(UTC)
        stored = StoredSession(
            id=ids.mint("ses"),
            hash=hash_secret(secret),
            user_id=user.id,
            organisation=organisation if organisation in mine and organisation else mine[0],
            created_at=now,
            last_used_at=now,
            expires_at=now + self._lifetime,
            browser=browser,
        )

        async def insert(session: Session) -> bool:
            await self._stores.sessions.insert(stored, session)
            return True

        person = person_principal(user, stored.organisation, browser)
        await self._audit.record(insert, lambda _: _entry("session.opened", person, stored, {"method": method}))
        principal = await self._stores.principals.find_by_session(stored.hash, self._idle)
        if principal is None:
            raise Unavailable("Your membership changed at this moment. Sign in again.")
        return SignedIn(secret=secret, expires_at=stored.expires_at, principal=principal)

    async def end_by_hash(self, session_hash: str, browser: Browser) -> None:
        """End the session with this hash, if there is one."""
        ended = await self._audit.record(
            lambda session: self._stores.sessions.delete_by_hash(session_hash, session),
            lambda stored: _entry("session.closed", _owner(stored, browser), stored),
        )
        if ended is not None:
            await self.announce_ended([ended], None)

    async def end(self, user_id: str, session_id: str, by: Principal | None) -> bool:
        """End a session of a person; return whether there was one."""
        ended = await self._audit.record(
            lambda session: self._stores.sessions.delete(user_id, session_id, session),
            lambda stored: revoked_entry(stored, by),
        )
        if ended is None:
            return False
        await self.announce_ended([ended], by)
        return True

    async def end_all(self, user_id: str, by: Principal | None, organisation: str | None = None) -> None:
        """End a person's sessions, all or those in one organisation."""
        ended = await self._audit.record(
            lambda session: self._stores.sessions.delete_all(user_id, session, organisation),
            lambda sessions: [revoked_entry(stored, by) for stored in sessions],
        )
        await self.announce_ended(ended or [], by)

    async def announce_ended(self, ended: Sequence[StoredSession], by: Principal | None) -> None:
        """Announce that sessions were deleted, once for each organisation."""
        for organisation in sorted({stored.organisation for stored in ended}):
            first = next(stored for stored in ended if stored.organisation == organisation)
            await self._changes.announce(organisation, "session ended", by and by.actor, first.id)


def person_principal(user: StoredUser, organisation: str, browser: Browser) -> Principal:
    """Return the principal of a person who has just proved who they are, for the audit log."""
    return Principal(
        kind="member", user_id=user.id, email=user.email, organisation=organisation, address=browser.address or None
    )


def revoked_entry(stored: StoredSession, by: Principal | None) -> AuditEntry:
    """Return the entry of the audit log for a session that was ended from elsewhere."""
    return _entry("session.revoked", by, stored)


def _owner(stored: StoredSession, browser: Browser) -> Principal:
    return Principal(
        kind="member", user_id=stored.user_id, organisation=stored.organisation, address=browser.address or None
    )


def _entry(
    action: AuditAction, by: Principal | None, stored: StoredSession, details: dict[str, str] | None = None
) -> AuditEntry:
    session = AuditObject(kind="session", id=stored.id)
    return audit_entry(action, by, stored.organisation, session, (stored.id,), {**(details or {})})
