"""The collection `one_time_tokens`: tokens of links and of sign-ins under way, by their hash. A used one is gone."""

from datetime import datetime
from typing import Any

from pymongo import ASCENDING

from shared.mongo import Database, Document, Session, raises_unavailable


@raises_unavailable
class OneTimeTokenStore:
    """Reads and writes one-time tokens, each with what it is for."""

    def __init__(self, database: Database) -> None:
        self._tokens = database["one_time_tokens"]

    async def prepare(self) -> None:
        """Create the index by which MongoDB deletes a token that has expired."""
        await self._tokens.create_index([("expires_at", ASCENDING)], name="expired", expireAfterSeconds=0)

    async def insert(self, token_hash: str, purpose: str, content: dict[str, Any], expires_at: datetime) -> None:
        """Insert a token."""
        await self._tokens.insert_one(
            {"_id": token_hash, "purpose": purpose, "content": content, "expires_at": expires_at}
        )

    async def use(
        self, token_hash: str, purpose: str, now: datetime, session: Session | None = None
    ) -> dict[str, Any] | None:
        """Delete a token and return its content; None if there is none for this purpose, or it has expired."""
        document: Document | None = await self._tokens.find_one_and_delete(
            {"_id": token_hash, "purpose": purpose, "expires_at": {"$gt": now}}, session=session
        )
        return None if document is None else dict(document["content"])

    async def find(self, token_hash: str, purpose: str, now: datetime) -> dict[str, Any] | None:
        """Return the content of a token without using it up; None if there is none, or it has expired."""
        document = await self._tokens.find_one({"_id": token_hash, "purpose": purpose, "expires_at": {"$gt": now}})
        return None if document is None else dict(document["content"])

    async def delete_of_user(self, purpose: str, user_id: str, session: Session) -> None:
        """Delete the tokens of a person for a purpose."""
        await self._tokens.delete_many({"purpose": purpose, "content.user_id": user_id}, session=session)
