"""What the handlers of this service work with."""

from dataclasses import dataclass

from services.generation.catalogue import Catalogue
from services.generation.logbook import Logbook
from services.generation.providers.client import Client
from services.generation.providers.registry import Providers
from shared.blobs import Blobs
from shared.sealing import Seal


@dataclass(frozen=True)
class Deps:
    """Made once, in `main.py`."""

    catalogue: Catalogue
    providers: Providers
    client: Client
    logbook: Logbook
    blobs: Blobs
    seal: Seal
