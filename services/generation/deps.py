"""What the handlers of this service work with."""

from dataclasses import dataclass

from services.generation.catalogue import Catalogue
from services.generation.changes import Changes
from services.generation.deployments import Deployments
from services.generation.logbook import Logbook
from services.generation.providers.client import Client
from services.generation.providers.registry import Providers
from services.generation.store import Stores
from shared.sealing import Seal


@dataclass(frozen=True)
class Deps:
    """Made once, in `main.py`."""

    stores: Stores
    changes: Changes
    deployments: Deployments
    catalogue: Catalogue
    providers: Providers
    client: Client
    logbook: Logbook
    seal: Seal
