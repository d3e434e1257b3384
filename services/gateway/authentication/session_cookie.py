"""The cookie of a browser session, and what keeps other sites from using it.

No script can read the cookie (HttpOnly). Browsers send it along with requests that other sites cause, though. So what
changes something needs a header besides, whose value only pages of this origin know, and nothing is taken of which a
browser says that another origin sends it (https://owasp.org/www-project-cheat-sheets, CSRF prevention, 2026-11).
"""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response

from shared.errors import Denied, Unauthenticated

CSRF_HEADER = "X-CSRF-Token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OIDC_SECONDS = 600
_MAX_SECRET_LENGTH = 100
"""Characters; sessions have 52. No longer one is looked up."""


def csrf_token(secret: str) -> str:
    """Return the token that requests of a session need; it does not tell the session's secret."""
    digest = hmac.digest(secret.encode(), b"everloop csrf token", hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class SessionCookie:
    """The cookie of sessions at one public address, and that of a sign-in under way at an OpenID Connect provider.

    Behind TLS its name begins with `__Host-`: browsers then take it only from this host, over TLS, so neither another
    host of the domain nor somebody on the network can plant one.
    """

    def __init__(self, public_url: str | None) -> None:
        self._secure = public_url is not None and public_url.startswith("https:")
        self._public_host = urlsplit(public_url).netloc if public_url else None
        prefix = "__Host-" if self._secure else ""
        self.name = f"{prefix}everloop_session"
        self._oidc_name = f"{prefix}everloop_oidc"

    def read(self, headers: Headers) -> str | None:
        """Return the session's secret; None if there is none.

        Raises Unauthenticated for two different ones: another host of the domain may have planted one of them.
        """
        return _read_cookie(headers, self.name)

    def read_oidc(self, headers: Headers) -> str | None:
        """Return the secret of a sign-in under way at an OpenID Connect provider; None if there is none."""
        return _read_cookie(headers, self._oidc_name)

    def set_oidc(self, response: Response, secret: str) -> None:
        """Have the browser keep the secret of a sign-in under way, while the person is at the provider."""
        self._set(response, self._oidc_name, secret, _OIDC_SECONDS)

    def clear_oidc(self, response: Response) -> None:
        """Have the browser forget the secret of a sign-in that has ended."""
        self._set(response, self._oidc_name, "", 0)

    def set(self, response: Response, secret: str, expires_at: datetime) -> None:
        """Have the browser keep the session's secret."""
        seconds = max(0, int((expires_at - datetime.now(UTC)).total_seconds()))
        self._set(response, self.name, secret, seconds)

    def clear(self, response: Response) -> None:
        """Have the browser forget the session's secret."""
        self._set(response, self.name, "", 0)

    def check_request(self, method: str, headers: Headers, secret: str) -> None:
        """Raise Denied if a request of a session that may change something was caused by another site."""
        if method in _SAFE_METHODS:
            return
        self.check_origin(headers)
        sent = headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(sent.encode(), csrf_token(secret).encode()):
            raise Denied(f"The header {CSRF_HEADER} is missing or wrong: GET /api/me tells the token of your session.")

    def check_origin(self, headers: Headers) -> None:
        """Raise Denied if the browser says that a page of another origin sends the request."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if site is not None:
            is_own = site in {"same-origin", "none"}
        elif origin is not None:  # a browser from before 2023
            is_own = urlsplit(origin).netloc.lower() in {headers.get("host", "").lower(), self._public_host}
        else:  # no browser
            is_own = True
        if not is_own:
            raise Denied("Requests that pages of other sites send with your session are refused.")

    def _set(self, response: Response, name: str, value: str, seconds: int) -> None:
        # Lax: the browser sends it along when the person follows a link to here, as back from a provider.
        response.set_cookie(name, value, seconds, path="/", secure=self._secure, httponly=True, samesite="lax")


def _read_cookie(headers: Headers, name: str) -> str | None:
    found = set[str]()
    for line in headers.getlist("cookie"):
        for pair in line.split(";"):
            key, _, value = pair.strip().partition("=")
            if key == name and value:
                found.add(value)
    if len(found) > 1:
        raise Unauthenticated(f"There are several cookies {name}. Delete them in your browser, and sign in.")
    secret = next(iter(found), None)
    return secret if secret and len(secret) <= _MAX_SECRET_LENGTH and secret.isascii() else None
