"""Messages of `generation` about the blobs (shared/blobs.py) that config versions and tools name."""

from typing import ClassVar

from shared.contracts.message import Query
from shared.contracts.principal import Service
from shared.contracts.value import Value


class HeldBlobs(Value):
    """Blobs in use."""

    digests: list[str]


class GetHeldBlobs(Query[HeldBlobs]):
    """Return those of the blobs that a config version or a tool of the organisation names."""

    subject: ClassVar[str] = "generation.get_held_blobs"
    services: ClassVar[frozenset[Service]] = frozenset({"logging"})

    digests: list[str]
