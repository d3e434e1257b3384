"""Mails of authz through a real mail server: invites, resets of passwords, sign-up."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import pytest

from services.authz.credentials.random_secrets import hash_secret
from shared import ids
from shared.bus import StreamSpec, ensure_stream
from shared.contracts.access.account import RequestPasswordReset, ResetPassword
from shared.contracts.access.invites import (
    AcceptInvite,
    ListInvites,
    PreviewInvite,
    RequestInvite,
    ResendInvite,
    SendInvite,
)
from shared.contracts.access.organisations import UpdateOrganisation
from shared.errors import Invalid, NotFound, Unauthenticated
from tests.fake_servers import mail
from tests.fake_servers.mail import MailServer
from tests.integration.authz.stack import PASSWORD, Admin, Servers, browser, new_admin, new_person, session_of, sign_in
from tests.integration.servers import Nats, connected, running, until_ready

URL = "https://everloop.example.com"


@pytest.fixture(scope="module")
def mails() -> Iterator[MailServer]:
    """A mail server whose user and password have signs that mean something in an address."""
    with mail.serve("robot@example.org", "p@ss:w/rd?#%40") as server:
        yield server


@pytest.fixture(scope="module")
async def mailing(
    servers: Servers, mails: MailServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Servers]:
    """Servers with an authz that sends its mail there."""
    folder = tmp_path_factory.mktemp("mailing")
    nats = Nats(folder)
    with running(nats):
        async with connected(nats) as bus:
            await ensure_stream(bus, StreamSpec(name="EVENTS", subjects=("events.>",)))
            own = replace(servers, folder=folder, nats=nats, bus=bus)
            settings: dict[str, Any] = {
                "EVERLOOP_SMTP_URL": mails.url,
                "EVERLOOP_SMTP_FROM": "Everloop <everloop@example.com>",
                "EVERLOOP_PUBLIC_URL": URL,
            }
            with running(own.authz("busy", **settings)):
                await until_ready(bus, "authz")
                yield own


@pytest.fixture
async def admin(mailing: Servers) -> Admin:
    return await new_admin(mailing)


def new_email(domain: str = "example.org") -> str:
    return f"{ids.mint('who')}@{domain}".lower()


def link_in(message: EmailMessage) -> tuple[str, str]:
    """Return the address of the link in a mail, and the token behind its `#`."""
    (link,) = [word for word in message.get_content().split() if word.startswith("http")]
    address, _, token = link.partition("#")
    return address, token


async def test_an_invite_is_mailed_with_a_link_that_works(admin: Admin, mails: MailServer) -> None:
    email = new_email()
    new = await admin.bus.request(SendInvite(principal=admin.principal, email=email))
    sent = mails.wait_for(email)
    address, token = link_in(sent)
    assert (new.mailed, new.link, address) == (True, f"{address}#{token}", f"{URL}/invite")
    assert (sent["To"], sent["From"]) == (email, "Everloop <everloop@example.com>")
    assert token not in repr(sent.items())
    accept = AcceptInvite(token=token, password=PASSWORD, browser=browser())
    assert (await admin.bus.request(accept)).principal.organisation == admin.principal.organisation


async def test_a_link_that_is_sent_again_voids_the_first(admin: Admin, mails: MailServer) -> None:
    email = new_email()
    new = await admin.bus.request(SendInvite(principal=admin.principal, email=email))
    _, first = link_in(mails.wait_for(email))
    await admin.bus.request(ResendInvite(principal=admin.principal, id=new.invite.id))
    _, second = link_in(mails.wait_for(email, 2))
    with pytest.raises(NotFound):
        await admin.bus.request(PreviewInvite(token=first))
    assert (await admin.bus.request(PreviewInvite(token=second))).email == email


async def test_a_reset_is_mailed_to_who_exists_and_its_link_works_once(admin: Admin, mails: MailServer) -> None:
    person = await new_person(admin)
    email, stranger = person.principal.email or "", new_email()
    before = len(mails.to(email))  # the invite
    answers = [await admin.bus.request(RequestPasswordReset(email=to, browser=browser())) for to in (stranger, email)]
    assert answers[0] == answers[1]
    address, token = link_in(mails.wait_for(email, before + 1))
    assert address == f"{URL}/reset-password"
    assert mails.to(stranger) == []
    reset = ResetPassword(token=token, new_password="staple paper clips", browser=browser())
    with pytest.raises(Invalid, match="new_password"):
        await admin.bus.request(reset.model_copy(update={"new_password": "short"}))
    await admin.bus.request(reset)
    with pytest.raises(Unauthenticated):
        await session_of(admin.bus, person.secret)
    assert (await sign_in(admin.bus, email, "staple paper clips")).principal.email == email
    with pytest.raises(Invalid, match="used already"):
        await admin.bus.request(reset)


async def test_a_link_to_reset_a_password_expires_after_an_hour(admin: Admin, mails: MailServer) -> None:
    person = await new_person(admin)
    email = person.principal.email or ""
    before, asked = len(mails.to(email)), datetime.now(UTC)
    await admin.bus.request(RequestPasswordReset(email=email, browser=browser()))
    _, token = link_in(mails.wait_for(email, before + 1))
    tokens, found = admin.servers.database("busy")["one_time_tokens"], {"_id": hash_secret(token)}
    stored = await tokens.find_one(found)
    assert stored is not None
    assert timedelta(minutes=59) < stored["expires_at"].replace(tzinfo=UTC) - asked < timedelta(minutes=61)
    await tokens.update_one(found, {"$set": {"expires_at": datetime.now(UTC) - timedelta(seconds=1)}})
    with pytest.raises(Invalid, match="older than an hour"):
        await admin.bus.request(ResetPassword(token=token, new_password="staple paper clips", browser=browser()))


async def test_who_asks_for_an_invite_gets_one_only_of_a_trusted_domain(admin: Admin, mails: MailServer) -> None:
    domain = f"{ids.mint('d').replace('_', '')}.example".lower()
    await admin.bus.request(UpdateOrganisation(principal=admin.principal, trusted_domains=[domain]))
    trusted, stranger = new_email(domain), new_email(f"other-{domain}")
    for email in (stranger, trusted):
        await admin.bus.request(RequestInvite(email=email, browser=browser()))
    _, token = link_in(mails.wait_for(trusted))
    assert (await admin.bus.request(PreviewInvite(token=token))).role == "Member"
    assert mails.to(stranger) == []


async def test_an_invite_is_there_although_the_mail_server_refuses(admin: Admin, mails: MailServer) -> None:
    email = new_email()
    mails.refuses = True
    try:
        new = await admin.bus.request(SendInvite(principal=admin.principal, email=email))
    finally:
        mails.refuses = False
    assert (new.mailed, new.link.partition("#")[0]) == (False, f"{URL}/invite")
    assert (await admin.bus.request(PreviewInvite(token=new.link.partition("#")[2]))).email == email
    assert [one.email for one in (await admin.bus.request(ListInvites(principal=admin.principal))).invites] == [email]


async def test_a_name_of_several_lines_adds_no_header(admin: Admin, mails: MailServer) -> None:
    for name in ("A\r\nBcc: eve@example.com", "A\nX: y", "A\u2028Bcc: eve@example.com"):
        with pytest.raises(Invalid):
            await admin.bus.request(UpdateOrganisation(principal=admin.principal, name=name))
    for email in ("a@example.org\r\nBcc: eve@example.com", "a@example.org\nX: y"):
        with pytest.raises(Invalid):
            await admin.bus.request(SendInvite(principal=admin.principal, email=email))
    email = new_email()
    await admin.bus.request(UpdateOrganisation(principal=admin.principal, name="Bcc: eve@example.com, =?utf-8?q?=0A?="))
    await admin.bus.request(SendInvite(principal=admin.principal, email=email))
    sent = mails.wait_for(email)
    assert sent["Bcc"] is None
    assert mails.to("eve@example.com") == []
