"""Answers commands about a person's own account: name, password, and the link that replaces a forgotten one."""

import logging
from datetime import UTC, datetime, timedelta

from services.authz.credentials.passwords import validate_password
from services.authz.credentials.random_secrets import generate_secret, hash_secret
from services.authz.deps import Deps
from services.authz.mail.letters import reset_mail
from services.authz.membership.access import require_signed_in
from services.authz.membership.emails import find_email
from services.authz.membership.people import validate_full_name
from services.authz.sign_in.accounts import RESET
from services.authz.sign_in.sessions import person_principal
from shared.bus import Router
from shared.contracts.access.account import (
    Account,
    ChangeName,
    ChangePassword,
    GetAccount,
    RequestPasswordReset,
    ResetPassword,
)
from shared.contracts.access.sessions import SignedIn
from shared.contracts.message import Done
from shared.errors import Invalid, NotFound, Problem, Unavailable

logger = logging.getLogger(__name__)

router = Router[Deps]()

_RESET_PREFIX = "hlr_"
_RESET_LIFETIME = timedelta(hours=1)


@router.answers(GetAccount)
async def get_account(query: GetAccount, deps: Deps) -> Account:
    """Return the person behind the principal; of an API key, who made it.

    Whoever has a key learns nothing of its creator's other organisations.
    """
    user = await deps.stores.users.find((query.principal and query.principal.user_id) or "")
    if user is None:
        raise NotFound("There is no such person.")
    account = await deps.accounts.describe(user)
    if query.principal is not None and query.principal.session_id is not None:
        return account
    own = [one for one in account.memberships if one.organisation == query.organisation]
    return account.model_copy(update={"memberships": own})


@router.answers(ChangeName)
async def change_name(command: ChangeName, deps: Deps) -> Done:
    """Change the person's name."""
    full_name = validate_full_name(command.full_name)
    await deps.stores.users.set_full_name(require_signed_in(command.principal).user_id, full_name)
    return Done()


@router.answers(ChangePassword)
async def change_password(command: ChangePassword, deps: Deps) -> SignedIn:
    """Change the password, end every session of the person, and begin a new one in the same organisation."""
    user = await deps.stores.users.find(require_signed_in(command.principal).user_id)
    if user is None:
        raise NotFound("There is no such person.")
    await deps.attempts.begin(user.email, command.browser.address)
    if not await deps.passwords.verify(command.current_password, user.password_hash):
        await deps.attempts.fail(command.browser.address)
        raise Invalid("current_password is wrong.")
    await deps.attempts.succeed(user.email, command.browser.address)
    await deps.accounts.set_password(
        user, command.new_password, field="new_password", by=command.principal, action="password.changed"
    )
    return await deps.sessions.begin(user, command.browser, method="password", organisation=command.organisation)


@router.answers(RequestPasswordReset)
async def request_password_reset(command: RequestPasswordReset, deps: Deps) -> Done:
    """Send a link in the background, so that neither the answer nor its time says whether there is such a person."""
    if not deps.mailer.is_configured:
        raise Unavailable(
            "No mail can be sent from here. Ask whoever runs this server for `everloop user reset-password`.",
            retry_after_seconds=None,
        )
    email = find_email(command.email)
    await deps.attempts.begin(email, command.browser.address)
    deps.bus.track_task(_mail_reset_link(email, deps))
    return Done()


@router.answers(ResetPassword)
async def reset_password(command: ResetPassword, deps: Deps) -> Done:
    """Set the password by the token of a link; the person's sessions end. A weak password does not use the token up."""
    await deps.attempts.check_address(command.browser.address)
    tokens, token_hash, now = deps.stores.one_time_tokens, hash_secret(command.token), datetime.now(UTC)
    content = await tokens.find(token_hash, RESET, now)
    user = await deps.stores.users.find(content["user_id"]) if content else None
    if user is not None:
        validate_password(command.new_password, field="new_password", email=user.email)
    if user is None or await tokens.use(token_hash, RESET, now) is None:  # another request may just have used it
        await deps.attempts.fail(command.browser.address)
        raise Invalid("This link was used already, or is older than an hour. Ask for a new one.")
    await deps.accounts.set_password(
        user, command.new_password, field="new_password", by=person_principal(user, "", command.browser)
    )
    return Done()


async def _mail_reset_link(email: str, deps: Deps) -> None:
    try:
        user = await deps.stores.users.find_by_email(email)
        if user is None or deps.settings.public_url is None:
            return
        token = generate_secret(_RESET_PREFIX)
        await deps.stores.one_time_tokens.insert(
            hash_secret(token), RESET, {"user_id": user.id}, datetime.now(UTC) + _RESET_LIFETIME
        )
    except Problem as problem:
        logger.warning("a link to reset a password could not be made: %s", problem.message)
        return
    await deps.mailer.send(reset_mail(user.email, deps.settings.public_url, token))
