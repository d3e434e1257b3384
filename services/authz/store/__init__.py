"""The MongoDB collections of authz, one store class in a file each."""

from typing import NamedTuple

from services.authz.store.audit import AuditStore
from services.authz.store.installation import Installation, InstallationStore
from services.authz.store.invites import InviteStore
from services.authz.store.keys import KeyStore
from services.authz.store.one_time_tokens import OneTimeTokenStore
from services.authz.store.organisations import OrganisationStore
from services.authz.store.principals import PrincipalStore
from services.authz.store.sessions import SessionStore
from services.authz.store.users import StoredUser, UserStore
from shared.mongo import Database

__all__ = [
    "AuditStore",
    "Installation",
    "InstallationStore",
    "InviteStore",
    "KeyStore",
    "OneTimeTokenStore",
    "OrganisationStore",
    "PrincipalStore",
    "SessionStore",
    "StoredUser",
    "Stores",
    "UserStore",
    "create_stores",
]


class Stores(NamedTuple):
    """One store for each collection, and one that reads several."""

    installation: InstallationStore
    organisations: OrganisationStore
    users: UserStore
    keys: KeyStore
    sessions: SessionStore
    invites: InviteStore
    one_time_tokens: OneTimeTokenStore
    principals: PrincipalStore
    audit: AuditStore

    async def prepare(self) -> None:
        """Create the indexes of every collection. Raises Unavailable while the database is away."""
        for store in (
            self.organisations, self.users, self.keys, self.sessions, self.invites, self.one_time_tokens,
            self.audit,
        ):  # fmt: skip
            await store.prepare()


def create_stores(database: Database) -> Stores:
    """Return a store for each collection of `database`."""
    return Stores(
        installation=InstallationStore(database),
        organisations=OrganisationStore(database),
        users=UserStore(database),
        keys=KeyStore(database),
        sessions=SessionStore(database),
        invites=InviteStore(database),
        one_time_tokens=OneTimeTokenStore(database),
        principals=PrincipalStore(database),
        audit=AuditStore(database),
    )
