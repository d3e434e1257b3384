"""Answers sign-in at an OpenID Connect provider."""

from services.authz.deps import Deps
from shared.bus import Router
from shared.contracts.access.oidc import BeginOidcSignIn, FinishOidcSignIn, OidcRequest, OidcSignedIn

router = Router[Deps]()


@router.answers(BeginOidcSignIn)
async def begin_oidc_sign_in(command: BeginOidcSignIn, deps: Deps) -> OidcRequest:
    """Return where the browser goes to sign in. Raises NotFound, UpstreamFailed."""
    return await deps.oidc.begin(command.return_to)


@router.answers(FinishOidcSignIn)
async def finish_oidc_sign_in(command: FinishOidcSignIn, deps: Deps) -> OidcSignedIn:
    """Begin a session of whom the provider names. Raises Invalid, Denied, UpstreamFailed, RateLimited."""
    await deps.attempts.check_address(command.browser.address)
    return await deps.oidc.finish(command)
