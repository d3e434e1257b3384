"""Routes of who may do what: sign-in, organisations, members, invites, API keys."""

from services.gateway.routes.access import audit, invites, keys, members, oidc, organisations, sign_in

__all__ = ["audit", "invites", "keys", "members", "oidc", "organisations", "sign_in"]
