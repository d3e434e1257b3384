"""The collection `deployments`: one document for each change of what is deployed; documents are never updated.

What is deployed in a target is the config of its latest document: state and history cannot disagree, because they are
one. Numbers are unique within a target, so of two changes decided at the same moment one is refused and decided again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError

from shared import ids, mongo
from shared.contracts.generation.deployments import Deployment
from shared.contracts.logs import Page
from shared.contracts.principal import Actor

_NEWEST_FIRST = [("deployed_at", DESCENDING), ("_id", DESCENDING)]


class DeploymentTarget(NamedTuple):
    """A project in an environment: at most one config is deployed there. Stored as these fields."""

    organisation: str
    project_id: str
    environment_id: str


class LatestDeployment(NamedTuple):
    """The latest change in a target."""

    id: str
    """Empty: nothing was ever deployed there."""
    number: int
    """Counts the changes in the target, from 1 without gaps; 0 for a deployment stored before changes were numbered."""
    config_id: str | None
    """None: the config was removed."""


NEVER_DEPLOYED = LatestDeployment("", 0, None)


def _deployment(document: mongo.Document) -> Deployment:
    return Deployment(
        id=str(document["_id"]),
        environment_id=document["environment_id"],
        config_id=document["config_id"],
        previous_config_id=document.get("previous_config_id"),
        by=document.get("by"),
        at=document["deployed_at"],
    )


@mongo.raises_unavailable
class DeploymentStore:
    """Appends and reads deployments, and removals of what is deployed."""

    def __init__(self, database: mongo.Database) -> None:
        self._deployments = database["deployments"]

    async def prepare(self) -> None:
        """Create the indexes."""
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

    async def get_latest(self, target: DeploymentTarget) -> LatestDeployment:
        """Return the latest change in the target; `NEVER_DEPLOYED` if there was none."""
        document = await self._deployments.find_one(target._asdict(), sort=[("number", DESCENDING)])
        if document is None:
            return NEVER_DEPLOYED
        return LatestDeployment(str(document["_id"]), document.get("number", 0), document["config_id"])

    async def insert_next(
        self,
        target: DeploymentTarget,
        previous: LatestDeployment,
        config_id: str | None,
        actor: Actor | None,
        session: mongo.Session,
    ) -> LatestDeployment | None:
        """Insert the change after `previous`: this config is deployed (None: removed) in the target.

        Return the change; None, with nothing stored, if `previous` is not the latest any more.
        """
        change = LatestDeployment(ids.mint("dep"), previous.number + 1, config_id)
        document = target._asdict() | {
            "_id": change.id,
            "number": change.number,
            "config_id": config_id,
            "previous_config_id": previous.config_id,
            "by": actor and actor.model_dump(exclude_none=True),
            "deployed_at": datetime.now(UTC),
        }
        try:
            await self._deployments.insert_one(document, session=session)
        except DuplicateKeyError:
            return None
        return change

    async def get_deployed_config_ids(
        self, organisation: str, project_ids: Sequence[str], environment_ids: Sequence[str]
    ) -> dict[tuple[str, str], str]:
        """Return the deployed config ids by (project id, environment id); where nothing is deployed there is no key."""
        targets = {"project_id": {"$in": list(project_ids)}, "environment_id": {"$in": list(environment_ids)}}
        return await self._aggregate_deployed({"organisation": organisation} | targets)

    async def list_deployed_project_ids(self, organisation: str, environment_id: str) -> list[str]:
        """Return the ids of the projects that have a config deployed in the environment."""
        deployed = await self._aggregate_deployed({"organisation": organisation, "environment_id": environment_id})
        return [project_id for project_id, _ in deployed]

    async def _aggregate_deployed(self, query: mongo.Document) -> dict[tuple[str, str], str]:
        target = {"project": "$project_id", "environment": "$environment_id"}
        cursor = self._deployments.aggregate(
            [
                {"$match": query},
                {"$sort": {"project_id": ASCENDING, "environment_id": ASCENDING, "number": DESCENDING}},
                {"$group": {"_id": target, "config_id": {"$first": "$config_id"}}},
            ]
        )
        return {
            (group["_id"]["project"], group["_id"]["environment"]): group["config_id"]
            async for group in cursor
            if group["config_id"] is not None
        }

    async def list_page(self, organisation: str, project_id: str, page: Page) -> tuple[list[Deployment], int]:
        """Return a page of the project's deployments and removals, newest first, and the total count."""
        query = {"organisation": organisation, "project_id": project_id}
        total = await self._deployments.count_documents(query)
        skip = page.number * page.size
        if not 0 <= skip < total:
            return [], total
        cursor = self._deployments.find(query, sort=_NEWEST_FIRST, skip=skip, limit=page.size)
        return [_deployment(document) async for document in cursor], total

    async def delete_by_project(self, organisation: str, project_id: str) -> None:
        """Delete every document of the project."""
        await self._deployments.delete_many({"organisation": organisation, "project_id": project_id})
