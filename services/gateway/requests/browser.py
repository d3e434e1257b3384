"""Tells where a request comes from, as sessions and the audit log keep it."""

from starlette.requests import Request

from shared.contracts.access.sessions import Browser

_MAX_USER_AGENT = 300


def browser_of(request: Request) -> Browser:
    """Return the address and the browser that a request says it comes from."""
    user_agent = request.headers.get("user-agent", "")[:_MAX_USER_AGENT]
    return Browser(address=request.client.host if request.client else "", user_agent=user_agent)
