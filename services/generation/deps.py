"""What the handlers of this service work with."""

from dataclasses import dataclass

from services.generation.catalogue import Catalogue
from services.generation.logbook import Logbook
from services.generation.providers.calls import Providers
from services.generation.providers.client import Client
from shared.sealing import Seal


@dataclass(frozen=True)
class Deps:
    """Made once, in `main.py`."""

    catalogue: Catalogue
    providers: Providers
    client: Client
    logbook: Logbook
    seal: Seal
