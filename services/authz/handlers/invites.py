"""Answers commands and queries about invites."""

import contextlib
from datetime import UTC, datetime

from services.authz.credentials.random_secrets import generate_secret, hash_secret
from services.authz.deps import Deps
from services.authz.mail.letters import invite_link, invite_mail
from services.authz.membership.access import authorize_now
from services.authz.membership.emails import domain_of, find_email, normalize_email
from services.authz.membership.invites import LIFETIME, PREFIX, StoredInvite
from services.authz.sign_in.joining import INVITE_GONE
from services.authz.store import StoredUser
from shared import ids
from shared.audit import audit_entry
from shared.bus import Router
from shared.contracts.access.invites import (
    AcceptInvite,
    Invite,
    InvitePreview,
    Invites,
    ListInvites,
    NewInvite,
    PreviewInvite,
    RequestInvite,
    ResendInvite,
    RevokeInvite,
    SendInvite,
)
from shared.contracts.access.sessions import SignedIn
from shared.contracts.audit import AuditObject
from shared.contracts.message import Done
from shared.contracts.permissions import SEND_INVITES
from shared.errors import Conflict, Invalid, NotFound, Unauthenticated, Unavailable
from shared.mongo import Session

router = Router[Deps]()

_NO_SUCH_INVITE = "There is no such invite in your organisation: it was accepted or revoked."


@router.answers(SendInvite)
async def send_invite(command: SendInvite, deps: Deps) -> NewInvite:
    """Store an invite and mail its link, if a mail server is configured. The Admin gets the link in any case."""
    authorize_now(command.principal, await deps.stores.organisations.get(command.organisation), SEND_INVITES)
    email = normalize_email(command.email)
    if email in {member.email for member in await deps.stores.organisations.list_members(command.organisation)}:
        raise Conflict(f"{email} is a member of your organisation already.")
    token, now = generate_secret(PREFIX), datetime.now(UTC)
    invite = StoredInvite(
        id=command.id,
        organisation=command.organisation,
        email=email,
        role=command.role,
        hash=hash_secret(token),
        invited_by=(command.principal and command.principal.email) or "",
        created_at=now,
        expires_at=now + LIFETIME,
    )

    async def replace(session: Session) -> bool:
        await deps.stores.invites.replace(invite, session)
        return True

    await deps.audit.record(
        replace,
        lambda _: audit_entry(
            "invite.created",
            command.principal,
            command.organisation,
            _object(invite),
            (invite.id,),
            {"role": invite.role},
        ),
    )
    return await _hand_out(invite, token, deps)


@router.answers(ResendInvite)
async def resend_invite(command: ResendInvite, deps: Deps) -> NewInvite:
    """Replace the token of an invite: links sent before are void. Raises NotFound."""
    authorize_now(command.principal, await deps.stores.organisations.get(command.organisation), SEND_INVITES)
    token = generate_secret(PREFIX)
    invite = await deps.audit.record(
        lambda session: deps.stores.invites.renew(
            command.organisation, command.id, hash_secret(token), datetime.now(UTC) + LIFETIME, session
        ),
        lambda renewed: audit_entry("invite.sent", command.principal, command.organisation, _object(renewed)),
    )
    if invite is None:
        raise NotFound(_NO_SUCH_INVITE)
    return await _hand_out(invite, token, deps)


@router.answers(RevokeInvite)
async def revoke_invite(command: RevokeInvite, deps: Deps) -> Done:
    """Delete an invite: its link is void. Raises NotFound."""
    authorize_now(command.principal, await deps.stores.organisations.get(command.organisation), SEND_INVITES)
    invite = await deps.audit.record(
        lambda session: deps.stores.invites.delete(command.organisation, command.id, session),
        lambda revoked: audit_entry(
            "invite.revoked", command.principal, command.organisation, _object(revoked), (revoked.id,)
        ),
    )
    if invite is None:
        raise NotFound(_NO_SUCH_INVITE)
    return Done()


@router.answers(ListInvites)
async def list_invites(query: ListInvites, deps: Deps) -> Invites:
    """Return the organisation's open invites, without their tokens."""
    authorize_now(query.principal, await deps.stores.organisations.get(query.organisation), SEND_INVITES)
    return Invites(invites=[_invite(invite) for invite in await deps.stores.invites.list_of(query.organisation)])


@router.answers(PreviewInvite)
async def preview_invite(query: PreviewInvite, deps: Deps) -> InvitePreview:
    """Return what the invite of a token offers. Raises NotFound."""
    invite = await _find_valid(query.token, deps)
    settings = await deps.stores.organisations.get_settings(invite.organisation)
    return InvitePreview(
        email=invite.email,
        role=invite.role,
        organisation_name=settings.name,
        invited_by=invite.invited_by,
        expires_at=invite.expires_at,
        has_account=await deps.stores.users.find_by_email(invite.email) is not None,
    )


@router.answers(AcceptInvite)
async def accept_invite(command: AcceptInvite, deps: Deps) -> SignedIn:
    """Make whoever proves to be the invited person a member, and begin a session of theirs."""
    await deps.attempts.check_address(command.browser.address)
    try:
        invite = await _find_valid(command.token, deps)
    except NotFound:
        await deps.attempts.fail(command.browser.address)
        raise
    known = await deps.stores.users.find_by_email(invite.email)
    if known is None:
        if command.password is None:
            raise Invalid("password is missing: choose one for your new account.")
        user = await deps.accounts.new(invite.email, command.full_name, command.password)
    else:
        user = known
        await _prove(command, user, deps)
    await deps.joining.accept(invite.hash, user, is_new=known is None, browser=command.browser)
    return await deps.sessions.begin(user, command.browser, method="invite", organisation=invite.organisation)


@router.answers(RequestInvite)
async def request_invite(command: RequestInvite, deps: Deps) -> Done:
    """Mail an invite in the background, if an organisation trusts the domain; the answer is always the same."""
    if not deps.mailer.is_configured:
        raise Unavailable("No mail can be sent from here. Ask an Admin for an invite.", retry_after_seconds=None)
    email = normalize_email(command.email)
    await deps.attempts.begin(email, command.browser.address)
    deps.bus.track_task(_invite_by_domain(email, deps))
    return Done()


async def _invite_by_domain(email: str, deps: Deps) -> None:
    user = await deps.stores.users.find_by_email(email)
    mine = {one.organisation for one in await deps.stores.organisations.list_memberships(user.id)} if user else set()
    for settings in await deps.stores.organisations.list_trusting(domain_of(email)):
        if settings.id in mine:
            continue
        token, now = generate_secret(PREFIX), datetime.now(UTC)
        invite = StoredInvite(
            id=ids.mint("inv"),
            organisation=settings.id,
            email=email,
            role="Member",
            hash=hash_secret(token),
            invited_by="",
            created_at=now,
            expires_at=now + LIFETIME,
        )
        if not await deps.stores.invites.has_open(settings.id, email, now):  # one of an Admin may give more
            await deps.stores.invites.replace(invite)
            await _hand_out(invite, token, deps)


async def _prove(command: AcceptInvite, user: StoredUser, deps: Deps) -> None:
    """Check that who accepts is the person with the invite's address: by their session, or else their password."""
    if command.session_hash is not None:
        with contextlib.suppress(Unauthenticated):
            if (await deps.callers.get_by_session(command.session_hash)).user_id == user.id:
                return
    if command.password is None:
        raise Invalid(f"There is an account with the address {user.email}: sign in, or send its password.")
    email, address = find_email(user.email), command.browser.address
    await deps.attempts.begin(email, address)
    if not await deps.passwords.verify(command.password, user.password_hash):
        await deps.attempts.fail(address)
        raise Unauthenticated("This is not the password of your account. It stays as it was.")
    await deps.attempts.succeed(email, address)


async def _find_valid(token: str, deps: Deps) -> StoredInvite:
    invite = await deps.stores.invites.find_by_hash(hash_secret(token))
    if invite is None or invite.expires_at <= datetime.now(UTC):
        raise NotFound(INVITE_GONE)
    return invite


async def _hand_out(invite: StoredInvite, token: str, deps: Deps) -> NewInvite:
    """Return the link, after it was mailed if that is possible."""
    link = invite_link(deps.settings.public_url, token)
    settings = await deps.stores.organisations.get_settings(invite.organisation)
    mailed = await deps.mailer.send(invite_mail(invite.email, settings.name, invite.invited_by, link))
    return NewInvite(invite=_invite(invite), link=link, mailed=mailed)


def _invite(stored: StoredInvite) -> Invite:
    return Invite(
        id=stored.id,
        email=stored.email,
        role=stored.role,
        invited_by=stored.invited_by,
        created_at=stored.created_at,
        expires_at=stored.expires_at,
    )


def _object(invite: StoredInvite) -> AuditObject:
    return AuditObject(kind="invite", id=invite.id, name=invite.email)
