"""The MongoDB collections of the generation service, one store class in a file each."""

from typing import NamedTuple

from services.generation.store.budgets import Announcement, BudgetStore, StoredBudget
from services.generation.store.credentials import CredentialStore
from services.generation.store.deployments import DeploymentStore, DeploymentTarget
from services.generation.store.environments import EnvironmentStore, StoredEnvironments
from services.generation.store.projects import ProjectStore, StoredProject
from services.generation.store.redirects import RedirectStore
from services.generation.store.tools import StoredTool, ToolStore
from services.generation.store.usage import Counts, SpendKey, UsageBatch, UsageKey, UsageStore
from services.generation.store.versions import VersionStore
from shared.mongo import Database

__all__ = [
    "Announcement",
    "BudgetStore",
    "Counts",
    "CredentialStore",
    "DeploymentStore",
    "DeploymentTarget",
    "EnvironmentStore",
    "ProjectStore",
    "RedirectStore",
    "SpendKey",
    "StoredBudget",
    "StoredEnvironments",
    "StoredProject",
    "StoredTool",
    "Stores",
    "ToolStore",
    "UsageBatch",
    "UsageKey",
    "UsageStore",
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
    usage: UsageStore
    budgets: BudgetStore

    async def prepare(self) -> None:
        """Create the indexes of every collection. Raises Unavailable while the database is away."""
        for store in (
            self.projects, self.versions, self.deployments, self.redirects, self.credentials, self.tools,
            self.usage, self.budgets,
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
        usage=UsageStore(database),
        budgets=BudgetStore(database),
    )
