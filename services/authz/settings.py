"""Settings of the authz service."""

from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from shared.settings import DatabaseSettings, PublicUrl


class Settings(DatabaseSettings):
    """What every service needs, how the first organisation is made, sign-in, mail, and the cache of callers."""

    bootstrap_file: Path | None = None
    """JSON file with `email`, `password` and `api_key` of the first Admin, read if there is no organisation yet."""
    setup_token: SecretStr | None = Field(default=None, min_length=16)
    """Who has it may create the first organisation through the API. None: nobody may."""
    caller_fresh_seconds: float = 15.0
    """How long a cached caller is used without asking the database, unless access in its organisation changes."""
    callers_most: int = 10_000
    """Bounds the cached callers; some 2 KB each."""
    public_url: PublicUrl | None = None
    """What links in mails begin with. Never taken from a request, whose headers its sender chooses."""
    session_hours: float = Field(default=720.0, gt=0)
    """How long a browser session lasts at most."""
    session_idle_hours: float = Field(default=72.0, gt=0)
    """How long a browser session lasts without a request."""
    smtp_url: SecretStr | None = None
    """Mail server: `smtp://user:password@host:587` (STARTTLS where the server offers it), `smtps://…:465`. None: no
    mail is sent."""
    smtp_from: str | None = None
    """Sender of mails, as `Everloop <everloop@example.com>`."""

    oidc_issuer: str | None = None
    """OpenID Connect provider, as its metadata names itself. None: people sign in with passwords only."""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr | None = None
    """None: a public client, of which PKCE alone proves that it is the same."""
    oidc_name: str = "single sign-on"
    """What the button says: Sign in with …"""
    oidc_scopes: str = "openid email profile"
    oidc_believe_email: bool = False
    """Whether addresses count as verified that the provider does not say so of. Only if people cannot change theirs
    there: who gets another's address gets their account."""

    @property
    def session_idle(self) -> timedelta:
        """How long a browser session lasts without a request."""
        return timedelta(hours=self.session_idle_hours)

    @model_validator(mode="after")
    def _oidc_is_complete(self) -> Self:
        if self.oidc_issuer is None:
            return self
        url = urlsplit(self.oidc_issuer)
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in {"127.0.0.1", "localhost", "::1"}):
            raise ValueError("EVERLOOP_OIDC_ISSUER must be an address with https")
        if not (self.oidc_client_id and self.public_url):
            raise ValueError(
                "EVERLOOP_OIDC_ISSUER needs EVERLOOP_OIDC_CLIENT_ID, and EVERLOOP_PUBLIC_URL, to which the provider "
                "sends browsers back"
            )
        return self

    @model_validator(mode="after")
    def _mail_is_complete(self) -> Self:
        if self.smtp_url is not None and not (self.smtp_from and self.public_url):
            raise ValueError(
                "EVERLOOP_SMTP_URL needs EVERLOOP_SMTP_FROM, and EVERLOOP_PUBLIC_URL: links in mails begin with it"
            )
        return self
