"""What the handlers of this service work with."""

from dataclasses import dataclass

from services.generation.http.guarded_client import Outbound
from services.generation.log_writer import Logbook
from services.generation.models.redirects import Routing
from services.generation.projects.deletion import Deletion
from services.generation.projects.deployments import Deployments
from services.generation.projects.invalidation import Changes
from services.generation.projects.project_cache import Catalogue
from services.generation.providers.credentials import Credentials
from services.generation.providers.requests import Providers
from services.generation.providers.resilience.dispatch import Dispatch
from services.generation.store import Stores
from services.generation.tools.runner import Toolbox
from shared.blobs import Blobs
from shared.bus import Bus
from shared.sealing import Seal


@dataclass(frozen=True)
class Deps:
    """Made once, in `main.py`."""

    bus: Bus
    stores: Stores
    changes: Changes
    deployments: Deployments
    deletion: Deletion
    catalogue: Catalogue
    credentials: Credentials
    routing: Routing
    providers: Providers
    dispatch: Dispatch
    logbook: Logbook
    blobs: Blobs
    outbound: Outbound
    seal: Seal
    toolbox: Toolbox
