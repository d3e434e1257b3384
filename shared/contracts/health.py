"""Every service tells how it is, on `<service>.health`."""

from typing import ClassVar

from shared.contracts.message import SystemQuery
from shared.contracts.value import Value


class Health(Value):
    """Whether a service can do its work, and which part it misses."""

    ready: bool
    parts: dict[str, bool]
    """What it needs (`bus`, `database`, …) and whether that answers."""


class GetHealth(SystemQuery[Health]):
    """How a service is; asked through the subclass that `health_of` gives."""


def health_of(service: str) -> type[GetHealth]:
    """The question for one service."""

    class GetHealthOf(GetHealth):
        subject: ClassVar[str] = f"{service}.health"

    return GetHealthOf
