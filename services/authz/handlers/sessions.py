"""Answers sign-in with a password, and commands about browser sessions."""

import logging
from datetime import UTC, datetime

from services.authz.credentials.sessions import StoredSession
from services.authz.deps import Deps
from services.authz.membership.access import require_signed_in
from services.authz.membership.emails import find_email
from services.authz.store import StoredUser
from shared.bus import Router
from shared.contracts.access.sessions import (
    Browser,
    EndSession,
    ListSessions,
    Session,
    Sessions,
    SignedIn,
    SignIn,
    SignOut,
    SignOutEverywhere,
    SwitchOrganisation,
)
from shared.contracts.message import Done
from shared.errors import NotFound, Unauthenticated

logger = logging.getLogger(__name__)

router = Router[Deps]()

WRONG_PASSWORD = "Email address or password wrong."  # noqa: S105 - a message


@router.answers(SignIn)
async def sign_in(command: SignIn, deps: Deps) -> SignedIn:
    """Begin a session. Whether there is such a person shows neither in the answer nor in its time."""
    email, address = find_email(command.email), command.browser.address
    await deps.attempts.begin(email, address)
    user = await deps.stores.users.find_by_email(email)
    is_right = await deps.passwords.verify(command.password, user.password_hash if user else None)
    if user is None or not is_right:
        await deps.attempts.fail(address)
        deps.bus.track_task(_record_failure(user, command.browser, deps))
        raise Unauthenticated(WRONG_PASSWORD)
    await deps.attempts.succeed(email, address)
    return await deps.sessions.begin(user, command.browser, method="password", organisation=command.organisation)


@router.answers(SignOut)
async def sign_out(command: SignOut, deps: Deps) -> Done:
    """End the session; the secret is refused everywhere from then on."""
    await deps.sessions.end_by_hash(command.session_hash, command.browser)
    return Done()


@router.answers(SignOutEverywhere)
async def sign_out_everywhere(command: SignOutEverywhere, deps: Deps) -> Done:
    """End all sessions of the person, in every organisation."""
    await deps.sessions.end_all(require_signed_in(command.principal).user_id, command.principal)
    return Done()


@router.answers(ListSessions)
async def list_sessions(query: ListSessions, deps: Deps) -> Sessions:
    """Return the person's sessions that go on, in every organisation."""
    sessions = await deps.stores.sessions.list_of(require_signed_in(query.principal).user_id)
    now = datetime.now(UTC)
    return Sessions(sessions=[one for session in sessions if (one := _session(session, deps)).expires_at > now])


@router.answers(EndSession)
async def end_session(command: EndSession, deps: Deps) -> Done:
    """End one session of the person. Raises NotFound."""
    if not await deps.sessions.end(require_signed_in(command.principal).user_id, command.id, command.principal):
        raise NotFound("You have no such session.")
    return Done()


@router.answers(SwitchOrganisation)
async def switch_organisation(command: SwitchOrganisation, deps: Deps) -> SignedIn:
    """Begin a session in another organisation and end the one that asked for it."""
    me = require_signed_in(command.principal)
    user = await deps.stores.users.find(me.user_id)
    memberships = await deps.stores.organisations.list_memberships(me.user_id)
    if user is None or command.to not in {membership.organisation for membership in memberships}:
        raise NotFound("You are not a member of such an organisation.")
    signed_in = await deps.sessions.begin(user, command.browser, method="switch", organisation=command.to)
    await deps.sessions.end(me.user_id, me.session_id, command.principal)
    return signed_in


async def _record_failure(user: StoredUser | None, browser: Browser, deps: Deps) -> None:
    """Record a wrong password in the organisations of the person; of an address that is nobody's, only in the log."""
    logger.warning("a sign-in failed", extra={"address": browser.address, "user": user and user.id})
    if user is not None:
        await deps.failures.record(user, browser)


def _session(stored: StoredSession, deps: Deps) -> Session:
    return Session(
        id=stored.id,
        organisation=stored.organisation,
        created_at=stored.created_at,
        last_used_at=stored.last_used_at,
        expires_at=stored.ends_at(deps.settings.session_idle),
        browser=stored.browser,
    )
