"""Signs people in whom the provider knows: those who are members, those invited, those of a trusted domain."""

import hmac
from datetime import UTC, datetime, timedelta

from authlib.common.security import generate_token

from services.authz.credentials.random_secrets import generate_secret, hash_secret
from services.authz.membership.emails import normalize_email
from services.authz.oidc.provider import Identity, OidcProvider
from services.authz.sign_in.accounts import Accounts
from services.authz.sign_in.joining import Joining
from services.authz.sign_in.sessions import BrowserSessions
from services.authz.store import StoredUser, Stores
from shared.contracts.access.oidc import FinishOidcSignIn, OidcRequest, OidcSignedIn
from shared.contracts.access.sessions import Browser
from shared.errors import Denied, Invalid, NotFound

_PURPOSE = "oidc sign-in"
_PREFIX = "hlo_"
_LIFETIME = timedelta(minutes=10)
_VERIFIER_LENGTH = 64


class OidcSignIn:
    """Each sign-in has a `state` of its own, which is used once, and only by the browser that began it."""

    def __init__(
        self, provider: OidcProvider, stores: Stores, accounts: Accounts, joining: Joining, sessions: BrowserSessions
    ) -> None:
        self._provider = provider
        self._stores = stores
        self._accounts = accounts
        self._joining = joining
        self._sessions = sessions

    async def begin(self, return_to: str) -> OidcRequest:
        """Return where the browser goes. Raises NotFound if there is no provider, UpstreamFailed."""
        if self._provider.name is None:
            raise NotFound("No OpenID Connect provider is configured here (EVERLOOP_OIDC_ISSUER).")
        state, browser_secret = generate_secret(_PREFIX), generate_secret(_PREFIX)
        nonce, verifier = generate_secret(""), generate_token(_VERIFIER_LENGTH)
        url = await self._provider.authorization_url(state=state, nonce=nonce, verifier=verifier)
        content = {
            "browser": hash_secret(browser_secret),
            "nonce": nonce,
            "verifier": verifier,
            "return_to": path_of_ours(return_to),
        }
        await self._stores.one_time_tokens.insert(hash_secret(state), _PURPOSE, content, datetime.now(UTC) + _LIFETIME)
        return OidcRequest(url=url, browser_secret=browser_secret)

    async def finish(self, command: FinishOidcSignIn) -> OidcSignedIn:
        """Begin a session of whom the provider names. Raises as the command says."""
        content = await self._stores.one_time_tokens.use(hash_secret(command.state), _PURPOSE, datetime.now(UTC))
        if content is None or not hmac.compare_digest(content["browser"], hash_secret(command.browser_secret)):
            raise Invalid("This sign-in was not begun in this browser within 10 minutes, or has ended. Begin again.")
        identity = await self._provider.exchange(
            code=command.code, issuer=command.issuer, nonce=content["nonce"], verifier=content["verifier"]
        )
        user = await self._find_or_join(identity, command.browser)
        signed_in = await self._sessions.begin(user, command.browser, method="oidc")
        return OidcSignedIn(signed_in=signed_in, return_to=content["return_to"])

    async def _find_or_join(self, identity: Identity, browser: Browser) -> StoredUser:
        user = await self._stores.users.find_by_identity(identity.issuer, identity.subject)
        if user is None and identity.email is None:
            raise Denied("The provider names no verified email address of yours, and nobody here has this identity.")
        email = normalize_email(identity.email) if identity.email else None
        if user is None and email is not None:
            user = await self._stores.users.find_by_email(email)
            if user is not None:
                await self._stores.users.link_identity(user.id, identity.issuer, identity.subject)
        known = user
        if user is None:
            user = await self._accounts.new(email or "", (identity.name or "")[:100] or None, password=None)
        if known is None or not await self._stores.organisations.list_memberships(user.id):
            await self._join(user, email, is_new=known is None, browser=browser)
        if known is None:
            await self._stores.users.link_identity(user.id, identity.issuer, identity.subject)
        return user

    async def _join(self, user: StoredUser, email: str | None, *, is_new: bool, browser: Browser) -> None:
        """Make a person of no organisation a member: by the invites of the address, else by its domain."""
        invites = await self._stores.invites.list_of_email(email, datetime.now(UTC)) if email else []
        for invite in invites:
            await self._joining.accept(invite.hash, user, is_new=is_new, browser=browser)
            is_new = False
        if not invites and not (email and await self._joining.add_by_domain(user, is_new=is_new, browser=browser)):
            raise Denied("You are not a member of any organisation. Ask an Admin of yours for an invite.")


def path_of_ours(path: str) -> str:
    """Return `path` if a browser takes it for a path of the same host, else `/`.

    Browsers take `\\` for `/`, drop tabs and newlines, and read `//host` as another host (WHATWG URL, 4.4).
    """
    is_ours = path.startswith("/") and path[1:2] not in {"/", "\\"} and path.isprintable() and "\\" not in path
    return path if is_ours and path.isascii() else "/"
