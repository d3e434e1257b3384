"""The collection `invites`: those neither accepted nor revoked, one for each address of an organisation."""

from datetime import datetime

from pymongo import ASCENDING, DESCENDING, ReturnDocument

from services.authz.membership.invites import StoredInvite
from shared.mongo import Database, Document, Session, raises_unavailable


@raises_unavailable
class InviteStore:
    """Reads and writes open invites."""

    def __init__(self, database: Database) -> None:
        self._invites = database["invites"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._invites.create_index([("hash", ASCENDING)], name="hash", unique=True)
        await self._invites.create_index([("email", ASCENDING)], name="email")
        await self._invites.create_index(
            [("organisation", ASCENDING), ("email", ASCENDING)], name="one for each address", unique=True
        )

    async def replace(self, invite: StoredInvite, session: Session | None = None) -> None:
        """Insert an invite in place of the one with its address, if there is one."""
        document = {**vars(invite), "_id": invite.id}
        del document["id"]
        await self._invites.delete_many({"organisation": invite.organisation, "email": invite.email}, session=session)
        await self._invites.insert_one(document, session=session)

    async def renew(
        self, organisation: str, invite_id: str, token_hash: str, expires_at: datetime, session: Session
    ) -> StoredInvite | None:
        """Set another token and end; return the invite, None if there is none."""
        document: Document | None = await self._invites.find_one_and_update(
            {"_id": invite_id, "organisation": organisation},
            {"$set": {"hash": token_hash, "expires_at": expires_at}},
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        return None if document is None else _invite(document)

    async def list_of(self, organisation: str) -> list[StoredInvite]:
        """Return the invites of an organisation, newest first."""
        cursor = self._invites.find({"organisation": organisation}).sort([("created_at", DESCENDING), ("_id", -1)])
        return [_invite(document) async for document in cursor]

    async def list_of_email(self, email: str, now: datetime) -> list[StoredInvite]:
        """Return the invites of an address that have not expired, the oldest first."""
        cursor = self._invites.find({"email": email, "expires_at": {"$gt": now}}).sort("created_at", ASCENDING)
        return [_invite(document) async for document in cursor]

    async def has_open(self, organisation: str, email: str, now: datetime) -> bool:
        """Return whether there is an invite of an address that has not expired."""
        query = {"organisation": organisation, "email": email, "expires_at": {"$gt": now}}
        return await self._invites.find_one(query, {"_id": 1}) is not None

    async def find_by_hash(self, token_hash: str) -> StoredInvite | None:
        """Return an invite by the hash of its token, expired or not."""
        document = await self._invites.find_one({"hash": token_hash})
        return None if document is None else _invite(document)

    async def delete(self, organisation: str, invite_id: str, session: Session) -> StoredInvite | None:
        """Delete an invite and return it; None if there is none."""
        document: Document | None = await self._invites.find_one_and_delete(
            {"_id": invite_id, "organisation": organisation}, session=session
        )
        return None if document is None else _invite(document)

    async def delete_valid(self, token_hash: str, now: datetime, session: Session) -> StoredInvite | None:
        """Delete the invite with this token and return it; None if there is none, or it has expired."""
        document: Document | None = await self._invites.find_one_and_delete(
            {"hash": token_hash, "expires_at": {"$gt": now}}, session=session
        )
        return None if document is None else _invite(document)


def _invite(document: Document) -> StoredInvite:
    return StoredInvite(id=document["_id"], **{name: value for name, value in document.items() if name != "_id"})
