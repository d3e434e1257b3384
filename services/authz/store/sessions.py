"""The collection `sessions`: browser sessions, by the hash of their secret. One that has ended is deleted."""

from collections.abc import Mapping
from datetime import datetime

from pymongo import ASCENDING, DESCENDING, UpdateOne

from services.authz.credentials.sessions import StoredSession
from shared.contracts.access.sessions import Browser
from shared.mongo import Database, Document, Session, raises_unavailable


@raises_unavailable
class SessionStore:
    """Reads and writes browser sessions."""

    def __init__(self, database: Database) -> None:
        self._sessions = database["sessions"]

    async def prepare(self) -> None:
        """Create the indexes. MongoDB deletes a session that has expired."""
        await self._sessions.create_index([("hash", ASCENDING)], name="hash", unique=True)
        await self._sessions.create_index([("user_id", ASCENDING), ("last_used_at", DESCENDING)], name="people")
        await self._sessions.create_index([("expires_at", ASCENDING)], name="expired", expireAfterSeconds=0)

    async def insert(self, stored: StoredSession, session: Session) -> None:
        """Insert a session."""
        document = {**vars(stored), "_id": stored.id, "browser": stored.browser.model_dump()}
        del document["id"]
        await self._sessions.insert_one(document, session=session)

    async def find_organisation(self, user_id: str) -> str | None:
        """Return the organisation of a person's session that was used last."""
        session = await self._sessions.find_one({"user_id": user_id}, sort=[("last_used_at", DESCENDING)])
        return None if session is None else str(session["organisation"])

    async def list_of(self, user_id: str) -> list[StoredSession]:
        """Return a person's sessions, the last used first."""
        cursor = self._sessions.find({"user_id": user_id}).sort("last_used_at", DESCENDING)
        return [stored_session(document) async for document in cursor]

    async def delete_by_hash(self, session_hash: str, session: Session) -> StoredSession | None:
        """Delete a session and return it; None if there is none."""
        document: Document | None = await self._sessions.find_one_and_delete({"hash": session_hash}, session=session)
        return None if document is None else stored_session(document)

    async def delete(self, user_id: str, session_id: str, session: Session) -> StoredSession | None:
        """Delete a session of a person and return it; None if there is none."""
        document: Document | None = await self._sessions.find_one_and_delete(
            {"_id": session_id, "user_id": user_id}, session=session
        )
        return None if document is None else stored_session(document)

    async def delete_all(self, user_id: str, session: Session, organisation: str | None = None) -> list[StoredSession]:
        """Delete a person's sessions, all or those in one organisation, and return them."""
        query = {"user_id": user_id} | ({"organisation": organisation} if organisation else {})
        sessions = [stored_session(document) async for document in self._sessions.find(query, session=session)]
        await self._sessions.delete_many({"_id": {"$in": [one.id for one in sessions]}}, session=session)
        return sessions

    async def set_last_used(self, times: Mapping[str, datetime]) -> None:
        """Set when sessions were used last, by their ids; never to an earlier time."""
        updates = [UpdateOne({"_id": session}, {"$max": {"last_used_at": time}}) for session, time in times.items()]
        if updates:
            await self._sessions.bulk_write(updates, ordered=False)


def stored_session(document: Document) -> StoredSession:
    """Return the session of a document."""
    fields = {name: value for name, value in document.items() if name != "_id"}
    return StoredSession(id=document["_id"], **fields | {"browser": Browser.model_validate(document["browser"])})
