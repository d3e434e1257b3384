"""The collection `installation`, of one document, and the first objects of an installation, derived from it."""

import contextlib
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pymongo.errors import DuplicateKeyError

from services.authz.credentials.keys import StoredKey
from services.authz.membership.organisations import Organisation
from services.authz.store.keys import key_document
from shared import ids
from shared.errors import Unavailable
from shared.mongo import Database, Document, raises_unavailable

_INSTALLATION = "installation"
"""`_id` of the only document."""


class Installation(NamedTuple):
    """What all replicas of an installation agree on."""

    id: str
    created_at: datetime


@raises_unavailable
class InstallationStore:
    """Reads the installation, and writes its first organisation."""

    def __init__(self, database: Database) -> None:
        self._installation = database["installation"]
        self._organisations = database["organisations"]
        self._users = database["users"]
        self._keys = database["keys"]

    async def get(self) -> Installation:
        """Return the installation's id and time, made once for all replicas: the first objects are derived from it."""
        proposed = {"id": ids.mint("inst"), "created_at": datetime.now(UTC)}
        with contextlib.suppress(DuplicateKeyError):  # another replica inserted it at the same moment
            await self._installation.update_one(
                {"_id": _INSTALLATION},
                [{"$set": {name: {"$ifNull": [f"${name}", value]} for name, value in proposed.items()}}],
                upsert=True,
            )
        document = await self._installation.find_one({"_id": _INSTALLATION})
        if document is None:
            raise Unavailable("The installation's id vanished while it was read.")
        return Installation(document["id"], document["created_at"])

    async def insert_first_organisation(
        self, organisation: Organisation, key: StoredKey, email: str, password_hash: str
    ) -> None:
        """Upsert the first Admin and their key, then the organisation: if that exists, so do they.

        Ids are derived, so replicas that start at once, or one that was killed and starts again, write the same.
        """
        user = {"email": email, "password_hash": password_hash}
        await _upsert(self._users, key.creator_id, user, {"created_at": key.created_at})
        await _upsert(self._keys, key.id, {k: v for k, v in key_document(key).items() if k != "_id"}, {})
        await _upsert(
            self._organisations,
            organisation.id,
            {},
            {
                "members": [
                    {"user_id": user_id, "role": role, "joined_at": key.created_at}
                    for user_id, role in organisation.roles.items()
                ],
                "revision": organisation.revision,
                "created_at": key.created_at,
            },
        )


async def _upsert(collection: Any, document_id: str, fields: Document, insert_only_fields: Document) -> None:  # noqa: ANN401
    """Set `fields`, and `insert_only_fields` if the document is new."""
    operators = {"$set": fields, "$setOnInsert": insert_only_fields}
    update = {operator: values for operator, values in operators.items() if values}
    try:
        await collection.update_one({"_id": document_id}, update, upsert=True)
    except DuplicateKeyError:  # another replica inserted it at the same moment
        await collection.update_one({"_id": document_id}, update)
