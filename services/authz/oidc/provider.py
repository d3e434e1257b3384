"""The configured OpenID Connect provider: where it asks people, and whom its answers are about.

Authorization code with PKCE (RFC 7636), `state` and `nonce`; OpenID Connect Core 1.0, 3.1; `iss` of RFC 9207.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from services.authz.settings import Settings
from shared.errors import Invalid, UpstreamFailed

CALLBACK_PATH = "/api/auth/oidc/callback"
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Those with a key that only the provider has, whatever it says to support: `none` and HS256 prove nothing."""
_LEEWAY_SECONDS = 60
_TIMEOUT_SECONDS = 10.0
_METADATA_SECONDS = 3600.0
"""How long metadata and keys are used; an unknown key is looked for at once."""


@dataclass(frozen=True)
class Identity:
    """Whom an ID token is about."""

    issuer: str
    subject: str
    email: str | None
    """Only if the provider says that it is verified, or is configured to be believed."""
    name: str | None


class OidcProvider:
    """The provider of `EVERLOOP_OIDC_ISSUER`, or none."""

    def __init__(self, settings: Settings, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        """`transport` is how requests are sent; None: over the network."""
        self._settings = settings
        self._transport = transport
        self._metadata: Mapping[str, Any] = {}
        self._keys: KeySet | None = None
        self._read_at = -_METADATA_SECONDS

    @property
    def name(self) -> str | None:
        """Its name for people; None if there is no provider."""
        return self._settings.oidc_name if self._settings.oidc_issuer else None

    async def authorization_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """Return where the browser goes. Raises UpstreamFailed."""
        async with self._client() as client:
            metadata = await self._read_metadata(client)
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"], state=state, code_verifier=verifier, nonce=nonce
            )
            return str(url)

    async def exchange(self, *, code: str, issuer: str | None, nonce: str, verifier: str) -> Identity:
        """Return whom the provider's answer is about. Raises Invalid if it is not valid, UpstreamFailed."""
        async with self._client() as client:
            metadata = await self._read_metadata(client)
            if issuer is not None and issuer != metadata["issuer"]:
                raise Invalid("The answer is another provider's.")
            try:
                token = await client.fetch_token(metadata["token_endpoint"], code=code, code_verifier=verifier)
            except AuthlibBaseError as error:
                raise Invalid(f"The provider did not accept its answer: {error.error}.") from None
            except (httpx2.HTTPError, ValueError) as error:
                raise _failed(error) from None
            claims = await self._validate(client, token, nonce)
            if not {"email", "email_verified"} <= claims.keys() and "userinfo_endpoint" in metadata:
                more = await self._get(client, metadata["userinfo_endpoint"], token)
                if more.get("sub") == claims["sub"]:  # OpenID Connect Core 1.0, 5.3.2: else it is another person's
                    claims = {**more, **claims}
        return self._identity(claims)

    def _client(self) -> AsyncOAuth2Client:
        secret = self._settings.oidc_client_secret
        return AsyncOAuth2Client(
            self._settings.oidc_client_id,
            secret.get_secret_value() if secret else None,
            token_endpoint_auth_method="client_secret_basic" if secret else "none",
            scope=self._settings.oidc_scopes,
            redirect_uri=f"{self._settings.public_url}{CALLBACK_PATH}",
            code_challenge_method="S256",
            timeout=_TIMEOUT_SECONDS,
            transport=self._transport,
        )

    async def _read_metadata(self, client: AsyncOAuth2Client) -> Mapping[str, Any]:
        if time.monotonic() >= self._read_at + _METADATA_SECONDS:
            issuer = self._settings.oidc_issuer or ""
            metadata = await self._get(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if metadata.get("issuer") != issuer:
                raise UpstreamFailed(f"The provider says that it is {metadata.get('issuer')!r}, not {issuer!r}.")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not isinstance(metadata.get(name), str):
                    raise UpstreamFailed(f"The provider's metadata has no {name}.")
            self._metadata, self._keys, self._read_at = metadata, None, time.monotonic()
        return self._metadata

    async def _validate(self, client: AsyncOAuth2Client, token: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """Return the claims of the ID token. Raises Invalid if its signature or one of its claims is wrong."""
        id_token = token.get("id_token")
        if not isinstance(id_token, str):
            raise Invalid("The provider answered without an ID token: is the scope openid configured?")
        registry = JWSRegistry(algorithms=list(_ALGORITHMS), strict_check_header=False)
        try:
            try:
                decoded = jwt.decode(id_token, await self._get_keys(client), registry=registry)
            except InvalidKeyIdError:  # it may have changed its keys
                self._keys = None
                decoded = jwt.decode(id_token, await self._get_keys(client), registry=registry)
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                {"iss": {"essential": True, "values": [self._metadata["issuer"]]}, "sub": {"essential": True}},
                {
                    "nonce": nonce,
                    "client_id": self._settings.oidc_client_id,
                    "access_token": token.get("access_token"),
                },
            )
            claims.validate(leeway=_LEEWAY_SECONDS)
        except (JoseError, AuthlibBaseError, ValueError) as error:
            raise Invalid(f"The provider's ID token is not valid: {error}.") from None
        audience = decoded.claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        # Authlib takes an empty audience, and a token without a nonce, for one that needs no check.
        if self._settings.oidc_client_id not in audiences or decoded.claims.get("nonce") != nonce:
            raise Invalid("The provider's ID token is not for this sign-in.")
        return dict(decoded.claims)

    async def _get_keys(self, client: AsyncOAuth2Client) -> KeySet:
        if self._keys is None:
            self._keys = KeySet.import_key_set(await self._get(client, self._metadata["jwks_uri"]))  # type: ignore[arg-type]
        return self._keys

    @staticmethod
    async def _get(client: AsyncOAuth2Client, url: str, token: Mapping[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token['access_token']}"} if token else {}
        try:
            response = await client.request("GET", url, headers=headers, withhold_token=True)
            response.raise_for_status()
            content = response.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise _failed(error) from None
        if not isinstance(content, dict):
            raise UpstreamFailed("The OpenID Connect provider answered something else than an object.")
        return content

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        email, name = claims.get("email"), claims.get("name")
        is_verified = claims.get("email_verified") is True or self._settings.oidc_believe_email
        return Identity(
            issuer=self._metadata["issuer"],
            subject=str(claims["sub"]),
            email=email if isinstance(email, str) and is_verified else None,
            name=name if isinstance(name, str) else None,
        )


def _failed(error: Exception) -> UpstreamFailed:
    return UpstreamFailed(f"The OpenID Connect provider does not answer as it should: {type(error).__name__}.")
