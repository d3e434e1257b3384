"""Routes of who may do what: members, API keys."""

from services.gateway.routes.access import keys, members

__all__ = ["keys", "members"]
