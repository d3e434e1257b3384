"""The collection `users`: people, by their email address; what they may do is in their organisations."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from shared.errors import Conflict
from shared.mongo import Database, Document, Session, raises_unavailable


@dataclass(frozen=True)
class StoredUser:
    """A person."""

    id: str
    email: str
    password_hash: str | None
    """None: there is no password, they sign in elsewhere."""
    full_name: str | None


@raises_unavailable
class UserStore:
    """Reads and writes people."""

    def __init__(self, database: Database) -> None:
        self._users = database["users"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._users.create_index([("email", ASCENDING)], name="email", unique=True)
        await self._users.create_index(
            [("identities.issuer", ASCENDING), ("identities.subject", ASCENDING)],
            name="identities",
            unique=True,
            partialFilterExpression={"identities.subject": {"$exists": True}},
        )

    async def find(self, user_id: str) -> StoredUser | None:
        """Return a person by id."""
        return _user(await self._users.find_one({"_id": user_id}))

    async def find_by_email(self, email: str) -> StoredUser | None:
        """Return the person with an address in normal form."""
        return _user(await self._users.find_one({"email": email}))

    async def find_by_identity(self, issuer: str, subject: str) -> StoredUser | None:
        """Return the person with an identity at an OpenID Connect provider."""
        identity = {"issuer": issuer, "subject": subject}
        return _user(await self._users.find_one({"identities": {"$elemMatch": identity}}))

    async def insert(self, user: StoredUser, at: datetime, session: Session | None = None) -> None:
        """Insert a person. Raises Conflict if the address is taken."""
        try:
            await self._users.insert_one(
                {
                    "_id": user.id,
                    "email": user.email,
                    "password_hash": user.password_hash,
                    "full_name": user.full_name,
                    "created_at": at,
                },
                session=session,
            )
        except DuplicateKeyError:
            raise Conflict(f"There is an account with the address {user.email} already.") from None

    async def set_password_hash(self, user_id: str, password_hash: str, session: Session) -> None:
        """Replace the hash of a person's password."""
        await self._users.update_one({"_id": user_id}, {"$set": {"password_hash": password_hash}}, session=session)

    async def set_full_name(self, user_id: str, full_name: str | None) -> None:
        """Replace a person's name."""
        await self._users.update_one({"_id": user_id}, {"$set": {"full_name": full_name}})

    async def link_identity(self, user_id: str, issuer: str, subject: str, session: Session | None = None) -> None:
        """Add an identity at an OpenID Connect provider. Raises Conflict if it is another person's."""
        identity = {"issuer": issuer, "subject": subject}
        try:
            await self._users.update_one({"_id": user_id}, {"$addToSet": {"identities": identity}}, session=session)
        except DuplicateKeyError:
            raise Conflict("This sign-in belongs to another account.") from None

    async def list(self) -> list[StoredUser]:
        """Return everybody, by email address."""
        cursor = self._users.find({}).sort("email", ASCENDING)
        return [user async for document in cursor if (user := _user(document))]

    async def get_emails(self, user_ids: Iterable[str]) -> dict[str, str]:
        """Return email addresses by user id, of the users that exist."""
        cursor = self._users.find({"_id": {"$in": [*user_ids]}}, {"email": 1})
        return {user["_id"]: user["email"] async for user in cursor}


def _user(document: Document | None) -> StoredUser | None:
    if document is None:
        return None
    return StoredUser(
        id=document["_id"],
        email=document["email"],
        password_hash=document.get("password_hash"),
        full_name=document.get("full_name"),
    )
