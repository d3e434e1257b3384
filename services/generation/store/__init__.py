"""The MongoDB collections of the generation service, one store class in a file each."""

from typing import NamedTuple

from services.generation.store.credentials import CredentialStore
from services.generation.store.deployments import DeploymentStore, DeploymentTarget
from services.generation.store.environments import EnvironmentStore, StoredEnvironments
from services.generation.store.projects import ProjectStore, StoredProject
from services.generation.store.redirects import RedirectStore
from services.generation.store.tools import StoredTool, ToolStore
from services.generation.store.versions import VersionStore
from shared.mongo import Database

__all__ = [
    "CredentialStore",
    "DeploymentStore",
    "DeploymentTarget",
    "EnvironmentStore",
    "ProjectStore",
    "RedirectStore",
    "StoredEnvironments",
    "StoredProject",
    "StoredTool",
    "Stores",
    "ToolStore",
    "VersionStore",
    "create_stores",
]


class Stores(NamedTuple):
    """One store for each collection."""

    projects: ProjectStore
    versions: VersionStore
    environments: EnvironmentStore
    deployments: DeploymentStore
    redirects: RedirectStore
    credentials: CredentialStore
    tools: ToolStore

    async def prepare(self) -> None:
        """Create the indexes of every collection. Raises Unavailable while the database is away."""
        for store in (
            self.projects, self.versions, self.deployments, self.redirects, self.credentials, self.tools,
        ):  # fmt: skip
            await store.prepare()


def create_stores(database: Database) -> Stores:
    """Return a store for each collection of `database`."""
    return Stores(
        projects=ProjectStore(database),
        versions=VersionStore(database),
        environments=EnvironmentStore(database),
        deployments=DeploymentStore(database),
        redirects=RedirectStore(database),
        credentials=CredentialStore(database),
        tools=ToolStore(database),
    )
