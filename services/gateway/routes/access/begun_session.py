"""Answers a request that begins a browser session: with the cookie, and with who is signed in."""

from fastapi import Response

from services.gateway.authentication.session_cookie import SessionCookie, csrf_token
from services.gateway.schemas.access.members import me_response
from services.gateway.schemas.access.sessions import SignedInResponse
from shared.bus import Bus
from shared.contracts.access.account import GetAccount
from shared.contracts.access.sessions import SignedIn


async def begin_session(signed_in: SignedIn, bus: Bus, cookie: SessionCookie, response: Response) -> SignedInResponse:
    """Set the cookie of a new session, and return what the response says of it."""
    account = await bus.request(GetAccount(principal=signed_in.principal))
    cookie.set(response, signed_in.secret, signed_in.expires_at)
    token = csrf_token(signed_in.secret)
    me = me_response(signed_in.principal, account, token)
    return SignedInResponse(csrf_token=token, expires_at=signed_in.expires_at, me=me)
