"""The collection `environment_sets`: one document has all environments of an organisation.

That names are unique and exactly one is the default is then a promise about one document, which MongoDB changes
atomically.
"""

from typing import NamedTuple

from pymongo.errors import DuplicateKeyError

from shared import mongo
from shared.contracts.deployments import Environment


class StoredEnvironments(NamedTuple):
    """The document of one organisation."""

    environments: tuple[Environment, ...]
    revision: int
    """Counts the changes, from 1."""


@mongo.store
class EnvironmentStore:
    """Environments by organisation; an organisation that never changed them has no document."""

    def __init__(self, database: mongo.Database) -> None:
        self._sets = database["environment_sets"]

    async def get(self, organisation: str) -> StoredEnvironments | None:
        """Return the stored environments; None if the organisation has no document."""
        document = await self._sets.find_one({"_id": organisation})
        if document is None:
            return None
        places = tuple(Environment.model_validate(place) for place in document["places"])
        return StoredEnvironments(places, document["revision"])

    async def save(self, organisation: str, stored: StoredEnvironments) -> bool:
        """Save a change of revision `stored.revision - 1`; return False if that is not the newest revision any more."""
        places = [place.model_dump() for place in stored.environments]
        change = {"places": places, "revision": stored.revision}
        if stored.revision == 1:
            try:
                await self._sets.insert_one({"_id": organisation} | change)
            except DuplicateKeyError:
                return False
            return True
        wanted = {"_id": organisation, "revision": stored.revision - 1}
        return (await self._sets.update_one(wanted, {"$set": change})).matched_count == 1
