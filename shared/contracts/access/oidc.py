"""Messages and values of `authz`: sign-in at an OpenID Connect provider."""

from typing import ClassVar

from pydantic import Field

from shared.contracts.access.sessions import Browser, SignedIn
from shared.contracts.message import SystemCommand
from shared.contracts.value import Value


class OidcRequest(Value):
    """A sign-in that has begun: where the browser goes, and what it must bring back."""

    url: str = Field(repr=False)
    """Of the provider, with `state`, `nonce` and the challenge of PKCE."""
    browser_secret: str = Field(repr=False)
    """Goes into a cookie: the answer is taken only from the browser that asked."""


class BeginOidcSignIn(SystemCommand[OidcRequest]):
    """Begin a sign-in at the provider. Raises NotFound if none is configured, UpstreamFailed if it does not answer."""

    subject: ClassVar[str] = "authz.begin_oidc_sign_in"

    return_to: str = Field("/", max_length=2000)
    """Where to go after it: a path of ours."""


class OidcSignedIn(Value):
    """A sign-in that has succeeded."""

    signed_in: SignedIn
    return_to: str


class FinishOidcSignIn(SystemCommand[OidcSignedIn]):
    """Finish a sign-in with what the provider sent the browser back with; `state` is used up.

    Raises Invalid (unknown state, another browser's, the provider's answer is not valid), Denied (nobody here has this
    identity), UpstreamFailed (the provider does not answer).
    """

    subject: ClassVar[str] = "authz.finish_oidc_sign_in"

    state: str = Field(repr=False)
    code: str = Field(repr=False)
    issuer: str | None = None
    """Parameter `iss` of RFC 9207."""
    browser_secret: str = Field(repr=False)
    browser: Browser
