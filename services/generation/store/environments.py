"""The collection `environment_sets`: one document holds all environments of an organisation.

MongoDB updates one document atomically, so names stay unique and exactly one environment is the default.
"""

from typing import NamedTuple

from pymongo.errors import DuplicateKeyError

from shared import mongo
from shared.contracts.generation.deployments import Environment


class StoredEnvironments(NamedTuple):
    """The document of one organisation."""

    environments: tuple[Environment, ...]
    revision: int
    """Counts the saved changes, from 1."""


@mongo.raises_unavailable
class EnvironmentStore:
    """Reads and writes the environments of an organisation; one that never changed them has no document."""

    def __init__(self, database: mongo.Database) -> None:
        self._sets = database["environment_sets"]

    async def get(self, organisation: str) -> StoredEnvironments | None:
        """Return the stored environments; None if the organisation has no document."""
        document = await self._sets.find_one({"_id": organisation})
        if document is None:
            return None
        environments = tuple(Environment.model_validate(one) for one in document["places"])
        return StoredEnvironments(environments, document["revision"])

    async def save(self, organisation: str, stored: StoredEnvironments, session: mongo.Session) -> bool:
        """Save a change of revision `stored.revision - 1`; return False if that is not the newest revision any more."""
        environments = [environment.model_dump() for environment in stored.environments]
        change = {"places": environments, "revision": stored.revision}
        if stored.revision == 1:
            try:
                await self._sets.insert_one({"_id": organisation} | change, session=session)
            except DuplicateKeyError:
                return False
            return True
        query = {"_id": organisation, "revision": stored.revision - 1}
        return (await self._sets.update_one(query, {"$set": change}, session=session)).matched_count == 1
