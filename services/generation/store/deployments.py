"""The collection `deployments`: every change of what is deployed, and never changed itself.

What is deployed is what the last change in a place says: state and history cannot disagree, because they are one.
The number of a change is unique in its place, so of two who decide on the same moment one has to decide again.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError, OperationFailure

from shared import ids, mongo
from shared.contracts.deployments import Deployment
from shared.contracts.logs import Page
from shared.contracts.principal import Actor

_NEWEST_FIRST = [("deployed_at", DESCENDING), ("_id", DESCENDING)]


class Place(NamedTuple):
    """Where at most one config is deployed."""

    organisation: str
    project_id: str
    environment_id: str


class Last(NamedTuple):
    """The last change in a place."""

    id: str
    number: int
    """From 1, without gaps; 0 of a deployment that is older than the history."""
    config_id: str | None


NOTHING = Last("", 0, None)


def _deployment(document: mongo.Document) -> Deployment:
    return Deployment(
        id=str(document["_id"]),
        environment_id=document["environment_id"],
        config_id=document["config_id"],
        previous_config_id=document.get("previous_config_id"),
        by=document.get("by"),
        at=document["deployed_at"],
    )


@mongo.store
class DeploymentStore:
    """Deployer and removals."""

    def __init__(self, database: mongo.Database) -> None:
        self._deployments = database["deployments"]

    async def prepare(self) -> None:
        """Indexes."""
        with suppress(OperationFailure):  # of an earlier version; it is not there, or another replica removed it
            await self._deployments.drop_index("organisation_1_project_id_1_environment_id_1")
        await self._deployments.create_index(
            [
                ("organisation", ASCENDING),
                ("project_id", ASCENDING),
                ("environment_id", ASCENDING),
                ("number", DESCENDING),
            ],
            name="places",
            unique=True,
        )
        await self._deployments.create_index(
            [("organisation", ASCENDING), ("project_id", ASCENDING), *_NEWEST_FIRST], name="project_by_time"
        )

    async def last(self, place: Place) -> Last:
        """The last change there; `NOTHING` if there was none."""
        document = await self._deployments.find_one(place._asdict(), sort=[("number", DESCENDING)])
        if document is None:
            return NOTHING
        return Last(str(document["_id"]), document.get("number", 0), document["config_id"])

    async def add(self, place: Place, before: Last, config_id: str | None, actor: Actor | None) -> Last | None:
        """Another config, or none, in the place; None if there was another change since `before`."""
        change = Last(ids.mint("dep"), before.number + 1, config_id)
        document = place._asdict() | {
            "_id": change.id,
            "number": change.number,
            "config_id": config_id,
            "previous_config_id": before.config_id,
            "by": actor and actor.model_dump(exclude_none=True),
            "deployed_at": datetime.now(UTC),
        }
        try:
            await self._deployments.insert_one(document)
        except DuplicateKeyError:
            return None
        return change

    async def deployed(
        self, organisation: str, project_ids: Sequence[str], environment_ids: Sequence[str]
    ) -> dict[tuple[str, str], str]:
        """The config in each place (project, environment); places without one are left out."""
        places = {"project_id": {"$in": list(project_ids)}, "environment_id": {"$in": list(environment_ids)}}
        return await self._deployed({"organisation": organisation} | places)

    async def projects_in(self, organisation: str, environment_id: str) -> list[str]:
        """The projects that have something deployed in an environment."""
        found = await self._deployed({"organisation": organisation, "environment_id": environment_id})
        return [project_id for project_id, _ in found]

    async def _deployed(self, matching: mongo.Document) -> dict[tuple[str, str], str]:
        place = {"project": "$project_id", "environment": "$environment_id"}
        found = self._deployments.aggregate(
            [
                {"$match": matching},
                {"$sort": {"project_id": ASCENDING, "environment_id": ASCENDING, "number": DESCENDING}},
                {"$group": {"_id": place, "config_id": {"$first": "$config_id"}}},
            ]
        )
        return {
            (line["_id"]["project"], line["_id"]["environment"]): line["config_id"]
            async for line in found
            if line["config_id"] is not None
        }

    async def history(self, organisation: str, project_id: str, page: Page) -> tuple[list[Deployment], int]:
        """A page of the changes in a project, newest first, and how many there are."""
        matching = {"organisation": organisation, "project_id": project_id}
        total = await self._deployments.count_documents(matching)
        skipped = page.number * page.size
        if not 0 <= skipped < total:
            return [], total
        found = self._deployments.find(matching, sort=_NEWEST_FIRST, skip=skipped, limit=page.size)
        return [_deployment(document) async for document in found], total

    async def remove(self, organisation: str, project_id: str) -> None:
        """All of a project."""
        await self._deployments.delete_many({"organisation": organisation, "project_id": project_id})
