"""The collection `users`: people, by their email address; what they may do is in their organisations."""

from collections.abc import Iterable

from pymongo import ASCENDING

from shared.mongo import Database, raises_unavailable


@raises_unavailable
class UserStore:
    """Reads and writes people."""

    def __init__(self, database: Database) -> None:
        self._users = database["users"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._users.create_index([("email", ASCENDING)], name="email", unique=True)

    async def get_emails(self, user_ids: Iterable[str]) -> dict[str, str]:
        """Return email addresses by user id, of the users that exist."""
        cursor = self._users.find({"_id": {"$in": list(user_ids)}}, {"email": 1})
        return {user["_id"]: user["email"] async for user in cursor}
