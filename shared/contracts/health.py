"""The health check that every service answers, on `<service>.health`."""

from typing import ClassVar

from shared.contracts.message import SystemQuery
from shared.contracts.value import Value


class Health(Value):
    """Result of the health check of a service."""

    ready: bool
    """Whether all parts answer."""
    parts: dict[str, bool]
    """Whether each dependency (`bus`, `database`, …) answers."""


class GetHealth(SystemQuery[Health]):
    """Return the health of a service. Sent as the subclass that `health_query` returns, which has the subject."""


def health_query(service: str) -> type[GetHealth]:
    """Return the class of the health check of one service."""

    class GetHealthOf(GetHealth):
        subject: ClassVar[str] = f"{service}.health"

    return GetHealthOf
