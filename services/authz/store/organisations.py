"""The collection `organisations`: a document has all members, so that one of them always is an Admin."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from services.authz.membership.organisations import DEFAULT_NAME, Organisation
from shared.contracts.access.account import Membership
from shared.contracts.access.members import Member
from shared.contracts.access.organisations import OrganisationSettings
from shared.contracts.principal import Role
from shared.errors import Conflict, NotFound
from shared.mongo import Database, Document, Session, raises_unavailable


@raises_unavailable
class OrganisationStore:
    """Reads and writes organisations with their members."""

    def __init__(self, database: Database) -> None:
        self._organisations = database["organisations"]
        self._users = database["users"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._organisations.create_index([("members.user_id", ASCENDING)], name="members")
        await self._organisations.create_index([("trusted_domains", ASCENDING)], name="trusted domains", sparse=True)
        await self._organisations.create_index([("slug", ASCENDING)], name="slug", unique=True, sparse=True)

    async def exists_any(self) -> bool:
        """Return whether there is any organisation."""
        return await self._organisations.find_one({}, {"_id": 1}) is not None

    async def get(self, organisation: str) -> Organisation:
        """Return an organisation. Raises NotFound if there is none with this id."""
        document = await self._find(organisation)
        return Organisation(
            id=document["_id"],
            roles={member["user_id"]: member["role"] for member in document["members"]},
            revision=document["revision"],
        )

    async def insert(self, organisation: Organisation, name: str, at: datetime, session: Session) -> None:
        """Insert an organisation. Raises Conflict if there is one with its id."""
        members = [{"user_id": user_id, "role": role, "joined_at": at} for user_id, role in organisation.roles.items()]
        document = {"_id": organisation.id, "name": name, "members": members, "revision": 1, "created_at": at}
        try:
            await self._organisations.insert_one(document, session=session)
        except DuplicateKeyError:
            raise Conflict("There is such an organisation already.") from None

    async def get_settings(self, organisation: str) -> OrganisationSettings:
        """Return the settings of an organisation. Raises NotFound."""
        return _settings(await self._find(organisation))

    async def update_settings(
        self, organisation: str, changes: Mapping[str, Any], session: Session
    ) -> OrganisationSettings:
        """Set fields of the settings. Raises NotFound, Conflict if the slug is another's."""
        try:
            await self._organisations.update_one({"_id": organisation}, {"$set": dict(changes)}, session=session)
        except DuplicateKeyError:
            raise Conflict(f"The slug {changes.get('slug')!r} is taken. Choose another.") from None
        return _settings(await self._find(organisation, session))

    async def list_settings(self) -> list[OrganisationSettings]:
        """Return the settings of all organisations."""
        return [_settings(document) async for document in self._organisations.find({})]

    async def list_trusting(self, domain: str) -> list[OrganisationSettings]:
        """Return the organisations that trust a domain, the oldest first."""
        cursor = self._organisations.find({"trusted_domains": domain}).sort("_id", ASCENDING)
        return [_settings(document) async for document in cursor]

    async def list_memberships(self, user_id: str) -> list[Membership]:
        """Return the organisations of a person with their role, by name."""
        cursor = self._organisations.find({"members.user_id": user_id})
        memberships = [_membership(document, user_id) async for document in cursor]
        return sorted(memberships, key=lambda one: (one.name.casefold(), one.organisation))

    async def add_member(self, organisation: str, user_id: str, role: Role, at: datetime, session: Session) -> bool:
        """Add a member; return False without a change if they are one. Raises NotFound if there is no organisation."""
        result = await self._organisations.update_one(
            {"_id": organisation, "members.user_id": {"$ne": user_id}},
            {"$push": {"members": {"user_id": user_id, "role": role, "joined_at": at}}, "$inc": {"revision": 1}},
            session=session,
        )
        if not result.matched_count:
            await self._find(organisation, session)
        return result.matched_count == 1

    async def update_role(self, organisation: Organisation, user_id: str, session: Session) -> bool:
        """Set a member's role; return False without a change unless the stored revision is the one before this one."""
        result = await self._organisations.update_one(
            {"_id": organisation.id, "revision": organisation.revision - 1, "members.user_id": user_id},
            {"$set": {"members.$.role": organisation.roles[user_id], "revision": organisation.revision}},
            session=session,
        )
        return result.modified_count == 1

    async def remove_member(self, organisation: Organisation, user_id: str, session: Session) -> bool:
        """Remove a member; return False without a change unless the stored revision is the one before this one."""
        result = await self._organisations.update_one(
            {"_id": organisation.id, "revision": organisation.revision - 1, "members.user_id": user_id},
            {"$pull": {"members": {"user_id": user_id}}, "$set": {"revision": organisation.revision}},
            session=session,
        )
        return result.modified_count == 1

    async def list_members(self, organisation: str) -> list[Member]:
        """Return the members of an organisation by email address. Raises NotFound if there is no such organisation."""
        members = {member["user_id"]: member for member in (await self._find(organisation))["members"]}
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

    async def _find(self, organisation: str, session: Session | None = None) -> Document:
        document = await self._organisations.find_one({"_id": organisation}, session=session)
        if document is None:
            raise NotFound("There is no such organisation.")
        return document


def _membership(document: Document, user_id: str) -> Membership:
    settings = _settings(document)
    role = next(member["role"] for member in document["members"] if member["user_id"] == user_id)
    return Membership(organisation=settings.id, name=settings.name, slug=settings.slug, role=role)


def _settings(document: Document) -> OrganisationSettings:
    """Return the settings of a document; one of the first start has none yet."""
    return OrganisationSettings(
        id=document["_id"],
        name=document.get("name") or DEFAULT_NAME,
        slug=document.get("slug") or document["_id"],
        trusted_domains=document.get("trusted_domains") or [],
    )
