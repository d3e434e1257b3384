"""What the handlers of this service work with."""

from dataclasses import dataclass

from services.generation.catalogue import Catalogue
from services.generation.changes import Changes
from services.generation.credentials import Credentials
from services.generation.deletion import Deletion
from services.generation.deployments import Deployments
from services.generation.logbook import Logbook
from services.generation.outbound import Outbound
from services.generation.providers.calls import Providers
from services.generation.providers.dispatch import Dispatch
from services.generation.routing import Routing
from services.generation.store import Stores
from services.generation.toolbox import Toolbox
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
