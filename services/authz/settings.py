"""Settings of the authz service."""

from datetime import timedelta
from pathlib import Path
from typing import Self

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

    @property
    def session_idle(self) -> timedelta:
        """How long a browser session lasts without a request."""
        return timedelta(hours=self.session_idle_hours)

    @model_validator(mode="after")
    def _mail_is_complete(self) -> Self:
        if self.smtp_url is not None and not (self.smtp_from and self.public_url):
            raise ValueError(
                "EVERLOOP_SMTP_URL needs EVERLOOP_SMTP_FROM, and EVERLOOP_PUBLIC_URL: links in mails begin with it"
            )
        return self
