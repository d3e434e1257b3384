"""What handlers work with; made once in `main.py`."""

from dataclasses import dataclass

from services.authz.callers import CallerCache
from services.authz.key_uses import KeyUses
from services.authz.store import Store
from shared.bus import Bus


@dataclass(frozen=True)
class Deps:
    """The service's own things."""

    bus: Bus
    store: Store
    callers: CallerCache
    key_uses: KeyUses
