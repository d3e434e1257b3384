"""The collections of `generation`, a file per noun."""

from typing import NamedTuple

from services.generation.store.credentials import CredentialStore
from services.generation.store.deployments import DeploymentStore, Place
from services.generation.store.environments import EnvironmentStore, StoredEnvironments
from services.generation.store.projects import ProjectStore
from services.generation.store.redirects import RedirectStore
from services.generation.store.tools import StoredTool, ToolStore
from services.generation.store.versions import VersionStore
from shared.mongo import Database

__all__ = [
    "CredentialStore",
    "DeploymentStore",
    "EnvironmentStore",
    "Place",
    "ProjectStore",
    "RedirectStore",
    "StoredEnvironments",
    "StoredTool",
    "Stores",
    "ToolStore",
    "VersionStore",
    "stores",
]


class Stores(NamedTuple):
    """All there are."""

    projects: ProjectStore
    versions: VersionStore
    environments: EnvironmentStore
    deployments: DeploymentStore
    redirects: RedirectStore
    credentials: CredentialStore
    tools: ToolStore

    async def prepare(self) -> None:
        """Declare the indexes."""
        for store in (
            self.projects, self.versions, self.deployments, self.redirects, self.credentials, self.tools,
        ):  # fmt: skip
            await store.prepare()


def stores(database: Database) -> Stores:
    """All of them, in one database."""
    return Stores(
        projects=ProjectStore(database),
        versions=VersionStore(database),
        environments=EnvironmentStore(database),
        deployments=DeploymentStore(database),
        redirects=RedirectStore(database),
        credentials=CredentialStore(database),
        tools=ToolStore(database),
    )
