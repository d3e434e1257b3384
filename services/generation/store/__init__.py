"""The collections of `generation`, a file per noun."""

from typing import NamedTuple

from services.generation.store.deployments import DeploymentStore, Place
from services.generation.store.environments import EnvironmentStore
from services.generation.store.projects import ProjectStore
from services.generation.store.versions import VersionStore
from shared.mongo import Database

__all__ = ["DeploymentStore", "EnvironmentStore", "Place", "ProjectStore", "Stores", "VersionStore", "stores"]


class Stores(NamedTuple):
    """What is kept of projects."""

    projects: ProjectStore
    versions: VersionStore
    environments: EnvironmentStore
    deployments: DeploymentStore

    async def prepare(self) -> None:
        """Declare the indexes."""
        await self.projects.prepare()
        await self.versions.prepare()
        await self.deployments.prepare()


def stores(database: Database) -> Stores:
    """All of them, in one database."""
    return Stores(ProjectStore(database), VersionStore(database), EnvironmentStore(database), DeploymentStore(database))
