"""A mail server (SMTP) for tests: keeps what it is sent, may ask for user and password, may refuse."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.integration.servers import free_port


@dataclass
class MailServer:
    """The server's state: what it has taken, in order."""

    port: int
    user: str = ""
    """Empty: everybody may send."""
    password: str = ""
    refuses: bool = False
    """Whether it answers 550 to every mail."""
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    """Of each mail, as its envelope has them."""

    @property
    def url(self) -> str:
        """For EVERLOOP_SMTP_URL."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@" if self.user else ""
        return f"smtp://{login}127.0.0.1:{self.port}"

    def wait_for(self, address: str, count: int = 1, seconds: float = 15.0) -> EmailMessage:
        """Return the last mail to an address, once there are `count`. Raises AssertionError after `seconds`."""
        deadline = monotonic() + seconds
        while len(found := self.to(address)) < count:
            assert monotonic() < deadline, f"{len(found)} of {count} mails to {address}"
            sleep(0.02)
        return found[-1]

    def to(self, address: str) -> list[EmailMessage]:
        """Return the mails to an address."""
        return [mail for mail, to in zip(self.mails, self.recipients, strict=True) if address in to]

    def authenticate(self, _: Any, __: Any, ___: Any, ____: str, login: Any) -> AuthResult:
        """Take the one user with their password."""
        right = isinstance(login, LoginPassword) and (login.login, login.password) == (
            self.user.encode(),
            self.password.encode(),
        )
        return AuthResult(success=right, handled=False)

    async def handle_DATA(self, _: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd names it
        """Keep a mail, or refuse it."""
        if self.user and not session.authenticated:
            return "530 authentication is required"
        if self.refuses:
            return "550 no mail is taken here"
        self.recipients.append(list(envelope.rcpt_tos))
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@contextmanager
def serve(user: str = "", password: str = "") -> Iterator[MailServer]:
    """Run a mail server on a free port, in a thread."""
    server = MailServer(free_port(), user, password)
    controller = Controller(
        server,
        hostname="127.0.0.1",
        port=server.port,
        authenticator=server.authenticate,
        auth_require_tls=False,
    )
    controller.start()
    try:
        yield server
    finally:
        controller.stop()
