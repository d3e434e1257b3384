"""People of a running stack: added by its operator, signed in as a browser does."""

import asyncio
import ipaddress
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

from shared.contracts.access.account import AddPerson
from shared.contracts.principal import Role
from tests.calls import Json, ok, reference
from tests.stack import Stack
from tests.stack_bus import on_bus

PASSWORD = "correct horse battery"


def own_address() -> str:
    """Return an address of this machine that hardly another test has: failures to sign in are counted by address."""
    return str(ipaddress.IPv4Address(0x7F010000 + secrets.randbelow(2**24 - 2**17)))


class Browser(httpx.Client):
    """A client that keeps cookies, and sends the token of its session as the console does."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(
            base_url=stack.base_url, timeout=30, transport=httpx.HTTPTransport(local_address=own_address())
        )

    def keep(self, answer: Json) -> Json:
        """Send the token of a session that has begun from now on; return who is signed in."""
        self.headers["X-CSRF-Token"] = answer["csrf_token"]
        me: Json = answer["me"]
        return me

    def sign_in(self, email: str, password: str = PASSWORD, **more: Any) -> Json:
        """Sign in and return who that is."""
        body = {"email": email, "password": password} | more
        return self.keep(ok(self.post("/api/auth/login", json=body)))


@contextmanager
def browsers(stack: Stack) -> Iterator["Browsers"]:
    """Yield what opens browsers, and close them."""
    with ExitStack() as opened:
        yield Browsers(stack, opened)


class Browsers:
    """Opens browsers at one stack."""

    def __init__(self, stack: Stack, opened: ExitStack) -> None:
        self.stack = stack
        self._opened = opened

    def open(self) -> Browser:
        """Return a browser in which nobody is signed in."""
        return self._opened.enter_context(Browser(self.stack))

    def person(self, organisation: str, role: Role = "Member") -> tuple[str, Browser]:
        """Return the address of a new member, and a browser in which they are signed in."""
        email = add_person(self.stack, organisation, role)
        browser = self.open()
        browser.sign_in(email)
        return email, browser


def add_person(stack: Stack, organisation: str, role: Role = "Member") -> str:
    """Have the operator add a new member; return their address. Their password is `PASSWORD`."""
    email = f"{reference()}@example.org"
    request = AddPerson(email=email, role=role, organisation=organisation, password=PASSWORD)
    asyncio.run(on_bus(stack, lambda bus: bus.request(request)))
    return email
