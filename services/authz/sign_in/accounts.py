"""People's accounts: creates them, describes them, replaces passwords."""

from collections.abc import Sequence

from services.authz.credentials.passwords import PasswordHashing, validate_password
from services.authz.credentials.sessions import StoredSession
from services.authz.membership.emails import normalize_email
from services.authz.membership.people import validate_full_name
from services.authz.sign_in.attempts import Attempts
from services.authz.sign_in.sessions import BrowserSessions, revoked_entry
from services.authz.store import StoredUser, Stores
from shared import ids
from shared.audit import AuditOutbox, audit_entry
from shared.contracts.access.account import Account
from shared.contracts.audit import AuditObject
from shared.contracts.audit_actions import AuditAction
from shared.contracts.principal import Principal
from shared.mongo import Session

RESET = "password reset"
"""Purpose of the one-time tokens that replace a forgotten password."""


class Accounts:
    """Changes of the collection `users` with what follows from them."""

    def __init__(
        self,
        stores: Stores,
        audit: AuditOutbox,
        passwords: PasswordHashing,
        attempts: Attempts,
        sessions: BrowserSessions,
    ) -> None:
        self._stores = stores
        self._audit = audit
        self._passwords = passwords
        self._attempts = attempts
        self._sessions = sessions

    async def new(self, email: str, full_name: str | None, password: str | None) -> StoredUser:
        """Return a person who is not stored yet. Raises Invalid (names the field); None: they sign in elsewhere."""
        address = normalize_email(email)
        if password is not None:
            validate_password(password, field="password", email=address)
        return StoredUser(
            id=ids.mint("usr"),
            email=address,
            password_hash=None if password is None else await self._passwords.hash(password),
            full_name=validate_full_name(full_name),
        )

    async def describe(self, user: StoredUser) -> Account:
        """Return a person with their organisations."""
        return Account(
            user_id=user.id,
            email=user.email,
            full_name=user.full_name,
            has_password=user.password_hash is not None,
            memberships=await self._stores.organisations.list_memberships(user.id),
        )

    async def set_password(
        self,
        user: StoredUser,
        password: str,
        *,
        field: str,
        by: Principal | None,
        action: AuditAction = "password.reset",
    ) -> None:
        """Replace the password, then void what could still be used by whoever knew the old one.

        Raises Invalid, naming `field`, if it is too weak.
        """
        validate_password(password, field=field, email=user.email)
        password_hash = await self._passwords.hash(password)

        async def change(session: Session) -> Sequence[StoredSession]:
            await self._stores.users.set_password_hash(user.id, password_hash, session)
            await self._stores.one_time_tokens.delete_of_user(RESET, user.id, session)
            return await self._stores.sessions.delete_all(user.id, session)

        mine = await self._stores.organisations.list_memberships(user.id)
        person = AuditObject(kind="member", id=user.id, name=user.email)
        ended = await self._audit.record(
            change,
            lambda sessions: [
                *(audit_entry(action, by, one.organisation, person) for one in mine),
                *(revoked_entry(stored, by) for stored in sessions),
            ],
        )
        await self._sessions.announce_ended(ended or [], by)
        await self._attempts.forget_person(user.email)
