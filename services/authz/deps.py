"""What handlers work with; made once in `main.py`."""

from dataclasses import dataclass

from services.authz.callers import CallerCache
from services.authz.key_uses import KeyUses
from services.authz.store import Stores
from shared.bus import Bus


@dataclass(frozen=True)
class Deps:
    """The service's own things."""

    bus: Bus
    stores: Stores
    callers: CallerCache
    key_uses: KeyUses
