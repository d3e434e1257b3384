"""An audit outbox in memory, for unit tests of what is audited."""

from collections.abc import Callable
from typing import Any, cast

from shared.audit import AuditOutbox
from shared.contracts.audit import AuditEntry
from shared.mongo import Session

NO_SESSION = cast("Session", None)
"""For stores in memory, which have no transactions."""


class MemoryOutbox:
    """`AuditOutbox` without a transaction: changes get None for the session; `entries` has what was recorded."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    async def record(self, change: Callable[[Any], Any], describe: Callable[[Any], Any]) -> Any:
        """Run the change; keep its entries unless it changed nothing."""
        result = await change(None)
        if result is not None and result is not False:
            described = describe(result)
            self.entries += [described] if isinstance(described, AuditEntry) else described
        return result

    @property
    def actions(self) -> list[str]:
        """The actions of the entries."""
        return [entry.action for entry in self.entries]


def as_outbox(memory: MemoryOutbox | None = None) -> AuditOutbox:
    """Return an outbox in memory as what the code under test takes."""
    return cast("AuditOutbox", memory or MemoryOutbox())
