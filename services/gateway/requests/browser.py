"""Tells where a request comes from, as sessions and the audit log keep it."""

from starlette.requests import Request

from services.gateway.server.client_address import TrustedProxies
from shared.contracts.access.sessions import Browser

_MAX_USER_AGENT = 300


def browser_of(request: Request, proxies: TrustedProxies) -> Browser:
    """Return the address that a request comes from, and the browser that it says it is of."""
    user_agent = request.headers.get("user-agent", "")[:_MAX_USER_AGENT]
    return Browser(address=proxies.client_address(request) or "", user_agent=user_agent)
