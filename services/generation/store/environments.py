"""The collection `environment_sets`: one document has all environments of an organisation.

That names are unique and exactly one is the default is then a promise about one document, which MongoDB changes
atomically.
"""

from pymongo.errors import DuplicateKeyError

from services.generation.projects.environments import EnvironmentSet, first
from shared import mongo
from shared.contracts.deployments import Environment


@mongo.store
class EnvironmentStore:
    """EnvironmentSet. What nobody changed yet is not stored."""

    def __init__(self, database: mongo.Database) -> None:
        self._sets = database["environment_sets"]

    async def get(self, organisation: str) -> EnvironmentSet:
        """All of the organisation."""
        document = await self._sets.find_one({"_id": organisation})
        if document is None:
            return first(organisation)
        places = tuple(Environment.model_validate(place) for place in document["places"])
        return EnvironmentSet(organisation, places, document["revision"])

    async def save(self, environments: EnvironmentSet) -> bool:
        """Save one change; False if there was another since it was decided."""
        places = [place.model_dump() for place in environments.places]
        change = {"places": places, "revision": environments.revision}
        if environments.revision == 1:
            try:
                await self._sets.insert_one({"_id": environments.organisation} | change)
            except DuplicateKeyError:
                return False
            return True
        wanted = {"_id": environments.organisation, "revision": environments.revision - 1}
        return (await self._sets.update_one(wanted, {"$set": change})).matched_count == 1
