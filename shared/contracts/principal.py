"""Who acts: an API key, a signed-in member, or one of Everloop's services acting for an organisation."""

from datetime import datetime
from typing import Literal

from shared.contracts.value import Value

Role = Literal["Admin", "Developer", "Member"]
Service = Literal["authz", "evaluation", "gateway", "generation", "logging"]


class Actor(Value):
    """Who did something, as histories and events keep it: readable when the key or member has been deleted."""

    kind: Literal["api_key", "member", "service"] = "api_key"
    user_id: str | None = None
    """The member, or the member who made the API key; None: a service."""
    email: str | None = None
    """The member's address at that time."""
    key_id: str | None = None
    """The API key, if one was used."""
    service: Service | None = None


class Principal(Actor):
    """Who acts now, with the role it has now."""

    organisation: str = ""
    """Id of the organisation it acts for. Empty only in messages of earlier versions."""
    role: Role | None = None
    """Of a key: never more than its creator has. None: a service, which may send what the classes of messages say."""

    valid_until: datetime | None = None
    """When it becomes invalid by itself, as its key or session expires. None: never."""
    address: str | None = None
    """IP address that the request came from, as the gateway saw it; for the audit log. None: no request over HTTP."""
    session_id: str | None = None
    """The browser session of a signed-in member."""
    projects: tuple[str, ...] | None = None
    """Ids of the projects that its API key is limited to. None: all of the organisation."""

    @classmethod
    def for_service(cls, service: Service, organisation: str) -> "Principal":
        """Return the principal of a service that acts for an organisation on nobody's request."""
        return cls(kind="service", service=service, organisation=organisation)

    @property
    def actor(self) -> Actor:
        """Return the part of the principal that histories and events keep."""
        return Actor(kind=self.kind, user_id=self.user_id, email=self.email, key_id=self.key_id, service=self.service)
