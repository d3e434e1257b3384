"""The collection `organisations`: a document has all members, so that one of them always is an Admin."""

from pymongo import ASCENDING

from services.authz.membership.organisations import Organisation
from shared.contracts.access.members import Member
from shared.errors import NotFound
from shared.mongo import Database, raises_unavailable


@raises_unavailable
class OrganisationStore:
    """Reads and writes organisations with their members."""

    def __init__(self, database: Database) -> None:
        self._organisations = database["organisations"]
        self._users = database["users"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._organisations.create_index([("members.user_id", ASCENDING)], name="members")

    async def exists_any(self) -> bool:
        """Return whether there is any organisation."""
        return await self._organisations.find_one({}, {"_id": 1}) is not None

    async def get(self, organisation: str) -> Organisation:
        """Return an organisation. Raises NotFound if there is none with this id."""
        document = await self._organisations.find_one({"_id": organisation})
        if document is None:
            raise NotFound("There is no such organisation.")
        return Organisation(
            id=document["_id"],
            roles={member["user_id"]: member["role"] for member in document["members"]},
            revision=document["revision"],
        )

    async def update_role(self, organisation: Organisation, user_id: str) -> bool:
        """Set a member's role; return False without a change unless the stored revision is the one before this one."""
        result = await self._organisations.update_one(
            {"_id": organisation.id, "revision": organisation.revision - 1, "members.user_id": user_id},
            {"$set": {"members.$.role": organisation.roles[user_id], "revision": organisation.revision}},
        )
        return result.modified_count == 1

    async def remove_member(self, organisation: Organisation, user_id: str) -> bool:
        """Remove a member; return False without a change unless the stored revision is the one before this one."""
        result = await self._organisations.update_one(
            {"_id": organisation.id, "revision": organisation.revision - 1, "members.user_id": user_id},
            {"$pull": {"members": {"user_id": user_id}}, "$set": {"revision": organisation.revision}},
        )
        return result.modified_count == 1

    async def list_members(self, organisation: str) -> list[Member]:
        """Return the members of an organisation by email address. Raises NotFound if there is no such organisation."""
        document = await self._organisations.find_one({"_id": organisation}, {"members": 1})
        if document is None:
            raise NotFound("There is no such organisation.")
        members = {member["user_id"]: member for member in document["members"]}
        cursor = self._users.find({"_id": {"$in": list(members)}}, {"email": 1, "full_name": 1}).sort(
            "email", ASCENDING
        )
        return [
            Member(
                user_id=user["_id"],
                email=user["email"],
                role=members[user["_id"]]["role"],
                full_name=user.get("full_name"),
                joined_at=members[user["_id"]]["joined_at"],
            )
            async for user in cursor
        ]
