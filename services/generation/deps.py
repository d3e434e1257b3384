"""What the handlers of this service work with."""

from dataclasses import dataclass

from services.generation.completions.image_memory import ImageMemory
from services.generation.http.guarded_client import GuardedClient
from services.generation.log_writer import LogWriter
from services.generation.models.redirects import ModelRedirects
from services.generation.projects.deletion import ProjectDeletion
from services.generation.projects.deployments import Deployer
from services.generation.projects.environments import EnvironmentSets
from services.generation.projects.invalidation import Invalidation
from services.generation.projects.project_cache import ProjectCache
from services.generation.providers.credentials import Credentials
from services.generation.providers.requests import Providers
from services.generation.providers.resilience.dispatch import Dispatch
from services.generation.store import Stores
from services.generation.tools.runner import ToolRunner
from services.generation.usage.budgets import BudgetGuard
from services.generation.usage.ledger import Ledger
from shared.audit import AuditOutbox
from shared.blobs import Blobs
from shared.bus import Bus
from shared.encryption import SecretBox


@dataclass(frozen=True)
class Deps:
    """Made once, in `main.py`."""

    bus: Bus
    stores: Stores
    audit: AuditOutbox
    invalidation: Invalidation
    environments: EnvironmentSets
    deployments: Deployer
    deletion: ProjectDeletion
    project_cache: ProjectCache
    credentials: Credentials
    redirects: ModelRedirects
    providers: Providers
    dispatch: Dispatch
    log_writer: LogWriter
    blobs: Blobs
    guarded_client: GuardedClient
    image_memory: ImageMemory
    secret_box: SecretBox
    tool_runner: ToolRunner
    ledger: Ledger
    budgets: BudgetGuard
