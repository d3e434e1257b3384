"""The MongoDB collections of authz, one store class in a file each."""

from typing import NamedTuple

from services.authz.store.installation import Installation, InstallationStore
from services.authz.store.keys import KeyStore
from services.authz.store.organisations import OrganisationStore
from services.authz.store.principals import PrincipalStore
from services.authz.store.users import UserStore
from shared.mongo import Database

__all__ = [
    "Installation",
    "InstallationStore",
    "KeyStore",
    "OrganisationStore",
    "PrincipalStore",
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
    principals: PrincipalStore

    async def prepare(self) -> None:
        """Create the indexes of every collection. Raises Unavailable while the database is away."""
        for store in (self.organisations, self.users, self.keys):
            await store.prepare()


def create_stores(database: Database) -> Stores:
    """Return a store for each collection of `database`."""
    return Stores(
        installation=InstallationStore(database),
        organisations=OrganisationStore(database),
        users=UserStore(database),
        keys=KeyStore(database),
        principals=PrincipalStore(database),
    )
