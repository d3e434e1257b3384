"""Routes of who may do what: members, API keys."""

from services.gateway.routes.access import audit, keys, members

__all__ = ["audit", "keys", "members"]
