"""What an OpenID Connect provider must not be believed: tokens that it did not sign, or that are not for us."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from joserfc.jws import JWSRegistry

from services.authz.oidc.provider import Identity, OidcProvider
from services.authz.settings import Settings
from shared.errors import Invalid, UpstreamFailed

ISSUER = "https://accounts.example.com"
SECRET = "a secret of the client, long enough"
KEY = RSAKey.generate_key(2048, auto_kid=True)
OTHER_KEY = RSAKey.generate_key(2048, {"kid": KEY.kid or ""})
SETTINGS = Settings.model_validate(
    {
        "oidc_issuer": ISSUER,
        "oidc_client_id": "everloop",
        "oidc_client_secret": SECRET,
        "public_url": "https://everloop.example.org",
    }
)
ANY = JWSRegistry(algorithms=["RS256", "ES256"])


class FakeProvider:
    """Answers metadata, keys, a token and user info; a test changes what it wants wrong."""

    def __init__(self) -> None:
        now = int(time.time())
        self.metadata: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/keys",
            "userinfo_endpoint": f"{ISSUER}/me",
        }
        self.keys: dict[str, Any] = KeySet([KEY]).as_dict(private=False)  # type: ignore[assignment]
        self.claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": "everloop",
            "sub": "1",
            "iat": now,
            "exp": now + 60,
            "nonce": "n",
            "email": "ada@example.org",
            "email_verified": True,
        }
        self.userinfo: dict[str, Any] = {"sub": "1"}
        self.sign: Callable[[dict[str, Any]], str] = signed
        self.asked: list[str] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        self.asked.append(path)
        if path == "/token":
            content = {"access_token": "at", "token_type": "Bearer", "id_token": self.sign(self.claims)}
            return httpx2.Response(200, json=content)
        by_path = {"/keys": self.keys, "/me": self.userinfo, "/.well-known/openid-configuration": self.metadata}
        return httpx2.Response(200, json=by_path[path])

    async def identity(self, **changes: Any) -> Identity:
        provider = OidcProvider(SETTINGS, httpx2.MockTransport(self.answer))
        asked = {"code": "c", "issuer": None, "nonce": "n", "verifier": "v" * 43} | changes
        return await provider.exchange(**asked)


def signed(claims: dict[str, Any], key: Any = KEY, alg: str = "RS256") -> str:
    header = {"alg": alg} | ({"kid": key.kid} if getattr(key, "kid", None) else {})
    return jwt.encode(header, claims, key, registry=ANY)


def forged(claims: dict[str, Any], alg: str, secret: bytes | None) -> str:
    """A token as libraries would not make it."""

    def encode(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    header = json.dumps({"alg": alg, "kid": KEY.kid}).encode()
    begin = f"{encode(header)}.{encode(json.dumps(claims).encode())}"
    return f"{begin}.{encode(hmac.digest(secret, begin.encode(), 'sha256')) if secret else ''}"


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider()


async def test_a_valid_answer_names_a_person(fake: FakeProvider) -> None:
    fake.claims["name"] = "Ada"
    assert await fake.identity() == Identity(ISSUER, "1", "ada@example.org", "Ada")


WRONG_CLAIMS: list[dict[str, Any]] = [
    {"iss": "https://evil.example"}, {"iss": None}, {"aud": "another client"}, {"aud": None}, {"aud": []},
    {"sub": None}, {"nonce": "another"}, {"nonce": None}, {"exp": 1}, {"exp": None}, {"iat": None},
    {"azp": "another client", "aud": ["everloop", "another client"]}, {"at_hash": "of another token"},
    {"iat": 4_000_000_000},
]  # fmt: skip


@pytest.mark.parametrize("claims", WRONG_CLAIMS, ids=str)
async def test_a_token_with_wrong_claims_is_refused(fake: FakeProvider, claims: dict[str, Any]) -> None:
    fake.claims = {name: value for name, value in (fake.claims | claims).items() if value is not None}
    with pytest.raises(Invalid, match="ID token is not"):
        await fake.identity()


FORGERIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "signed by nobody": lambda claims: forged(claims, "none", None),
    "signed with the client's secret": lambda claims: forged(claims, "HS256", SECRET.encode()),
    "signed with the public key as a secret": lambda claims: forged(claims, "HS256", KEY.as_pem(private=False)),
    "signed with another key": lambda claims: signed(claims, OTHER_KEY),
    "signed with an unknown key": lambda claims: signed(claims, RSAKey.generate_key(2048, auto_kid=True)),
    "not signed to the end": lambda claims: signed(claims)[:-8],
    "changed afterwards": lambda claims: ".".join(
        [signed(claims).split(".")[0], signed(claims | {"sub": "2"}).split(".")[1], signed(claims).split(".")[2]]
    ),
    "no token": lambda _: "no token",
    "empty": lambda _: "",
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_token_that_the_provider_did_not_sign_is_refused(fake: FakeProvider, forgery: str) -> None:
    fake.sign = FORGERIES[forgery]
    with pytest.raises(Invalid, match="ID token"):
        await fake.identity()


async def test_new_keys_of_the_provider_are_looked_for(fake: FakeProvider) -> None:
    provider = OidcProvider(SETTINGS, httpx2.MockTransport(fake.answer))
    asked: dict[str, Any] = {"code": "c", "issuer": None, "nonce": "n", "verifier": "v" * 43}
    await provider.exchange(**asked)
    new = ECKey.generate_key("P-256", auto_kid=True)
    fake.keys, fake.sign = KeySet([new]).as_dict(private=False), lambda claims: signed(claims, new, "ES256")  # type: ignore[assignment]
    assert (await provider.exchange(**asked)).subject == "1"
    assert fake.asked.count("/keys") == 2
    assert fake.asked.count("/.well-known/openid-configuration") == 1


@pytest.mark.parametrize("verified", [False, None, "true", 1])
async def test_an_address_that_the_provider_does_not_vouch_for_is_not_taken(fake: FakeProvider, verified: Any) -> None:
    fake.claims["email_verified"] = verified
    if verified is None:
        del fake.claims["email_verified"]
    assert (await fake.identity()).email is None


async def test_the_user_info_counts_if_it_is_of_the_same_person(fake: FakeProvider) -> None:
    del fake.claims["email"], fake.claims["email_verified"]
    fake.userinfo = {"sub": "1", "email": "ada@example.org", "email_verified": True}
    assert (await fake.identity()).email == "ada@example.org"
    fake.userinfo["sub"] = "2"
    assert (await fake.identity()).email is None


async def test_metadata_of_another_issuer_is_not_believed(fake: FakeProvider) -> None:
    fake.metadata["issuer"] = "https://evil.example"
    with pytest.raises(UpstreamFailed, match=r"evil\.example"):
        await fake.identity()


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
async def test_incomplete_metadata_is_an_upstream_failure(fake: FakeProvider, name: str) -> None:
    del fake.metadata[name]
    with pytest.raises(UpstreamFailed, match=name):
        await fake.identity()


@pytest.mark.parametrize(
    "response",
    [httpx2.Response(500), httpx2.Response(200, text="<html>"), httpx2.Response(200, json=[1]), httpx2.Response(302)],
    ids=["500", "no JSON", "no object", "a redirect"],
)
@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/token", "/keys"])
async def test_a_broken_provider_is_an_error_that_says_so(
    fake: FakeProvider, path: str, response: httpx2.Response
) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == path:
            return httpx2.Response(response.status_code, content=response.content)
        return fake.answer(request)

    provider = OidcProvider(SETTINGS, httpx2.MockTransport(answer))
    with pytest.raises((UpstreamFailed, Invalid)):
        await provider.exchange(code="c", issuer=None, nonce="n", verifier="v" * 43)
