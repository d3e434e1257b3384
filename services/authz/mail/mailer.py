"""Sends mail through the configured SMTP server."""

import logging
from email.message import EmailMessage
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import aiosmtplib

from services.authz.settings import Settings

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 10.0


class Mail(NamedTuple):
    """A mail to one person."""

    to: str
    subject: str
    text: str


class Mailer:
    """The mail server of `EVERLOOP_SMTP_URL`, or none."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.smtp_url.get_secret_value() if settings.smtp_url else None
        self._sender = settings.smtp_from or ""

    @property
    def is_configured(self) -> bool:
        """Whether there is a mail server."""
        return self._url is not None

    async def send(self, mail: Mail) -> bool:
        """Return whether the server has taken the mail; if not, the log has a line."""
        if self._url is None:
            return False
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, mail.to, mail.subject
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        url = urlsplit(self._url)
        try:
            await aiosmtplib.send(
                message,
                hostname=url.hostname,
                port=url.port,
                username=unquote(url.username) if url.username else None,
                password=unquote(url.password) if url.password else None,
                use_tls=url.scheme == "smtps",
                timeout=_TIMEOUT_SECONDS,
            )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            logger.warning("the mail server %s did not take a mail: %s", url.hostname, type(error).__name__)
            return False
        return True
