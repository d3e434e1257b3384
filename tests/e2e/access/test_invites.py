"""Invites over HTTP, as people use them and as attackers try them."""

from collections.abc import Iterator

import httpx
import pytest

from tests.calls import ok, reference
from tests.organisations import add_organisation
from tests.people import PASSWORD, Browsers, browsers
from tests.stack import Stack


@pytest.fixture
def open_browsers(stack: Stack) -> Iterator[Browsers]:
    with browsers(stack) as opened:
        yield opened


@pytest.fixture
def admin(stack: Stack) -> Iterator[httpx.Client]:
    """The Admin of a new organisation, by API key."""
    with httpx.Client(base_url=stack.base_url, headers={"X-API-KEY": add_organisation(stack)}, timeout=30) as client:
        yield client


def invite(admin: httpx.Client, email: str, role: str = "Member", **headers: str) -> tuple[str, str]:
    """Return the id and the token of a new invite."""
    new = ok(admin.post("/api/invites", json={"email": email, "role": role}, headers=headers), 201)
    assert new["link"].startswith(str(admin.base_url.join("/invite#hli_"))), "of EVERLOOP_PUBLIC_URL"
    return new["id"], new["link"].partition("#")[2]


@pytest.mark.parametrize("role", ["Member", "Developer", "Admin"])
def test_an_invited_person_joins_with_the_role(open_browsers: Browsers, admin: httpx.Client, role: str) -> None:
    email, browser = f"{reference()}@example.org", open_browsers.open()
    _, token = invite(admin, email, role)
    preview = ok(browser.post("/api/invites/preview", json={"token": token}))
    assert (preview["email"], preview["role"], preview["organization_name"]) == (email, role, "My organisation")
    accepted = ok(
        browser.post("/api/invites/accept", json={"token": token, "password": PASSWORD, "full_name": "Grace"})
    )
    assert (browser.keep(accepted)["email"], accepted["me"]["role"]) == (email, role)
    assert any((one["email"], one["role"]) == (email, role) for one in ok(admin.get("/api/members")))
    assert ok(admin.get("/api/invites")) == []
    again = open_browsers.open()
    assert again.sign_in(email)["full_name"] == "Grace"


def test_a_new_member_reaches_every_project(open_browsers: Browsers, admin: httpx.Client) -> None:
    project = ok(admin.post("/v4/projects", json={"name": reference()}), 201)
    _, token = invite(admin, f"{reference()}@example.org")
    browser = open_browsers.open()
    browser.keep(ok(browser.post("/api/invites/accept", json={"token": token, "password": PASSWORD})))
    assert [one["id"] for one in ok(browser.get("/v4/projects"))["records"]] == [project["id"]]
    assert ok(browser.get(f"/v4/projects/{project['id']}"))["name"] == project["name"]


def test_a_used_or_revoked_invite_is_not_there(open_browsers: Browsers, admin: httpx.Client) -> None:
    _, used = invite(admin, f"{reference()}@example.org")
    ok(open_browsers.open().post("/api/invites/accept", json={"token": used, "password": PASSWORD}))
    id_, revoked = invite(admin, f"{reference()}@example.org")
    assert admin.delete(f"/api/invites/{id_}").status_code == 204
    id_, resent = invite(admin, f"{reference()}@example.org")
    ok(admin.post(f"/api/invites/{id_}/resend"))
    for token in (used, revoked, resent, "hli_" + "x" * 48):
        for path in ("/api/invites/preview", "/api/invites/accept"):
            answer = open_browsers.open().post(
                path, json={"token": token} | ({"password": PASSWORD} if "acc" in path else {})
            )
            assert answer.status_code == 404, (path, answer.text)


@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host", "X-Host", "Forwarded"])
def test_a_link_never_has_the_host_that_a_request_names(admin: httpx.Client, header: str) -> None:
    """The link would lead the invited person, and the token, to whoever sent the header."""
    value = "host=evil.example" if header == "Forwarded" else "evil.example"
    answer = admin.post("/api/invites", json={"email": f"{reference()}@example.org"}, headers={header: value})
    assert "evil" not in ok(answer, 201)["link"]


def test_wrong_addresses_and_roles_name_their_field(admin: httpx.Client) -> None:
    for body, field in (
        ({"email": "nobody"}, "email"),
        ({"email": "a@b.org\nBcc: c@d.org"}, "email"),
        ({"email": "a@b.org", "role": "Owner"}, "role"),
        ({}, "email"),
    ):
        answer = admin.post("/api/invites", json=body)
        assert answer.status_code == 422
        assert field in answer.text
    assert ok(admin.get("/api/invites")) == []


def test_settings_of_the_organisation_are_for_admins(open_browsers: Browsers, admin: httpx.Client) -> None:
    own = ok(admin.get("/api/me"))["organization_id"]
    for role in ("Developer", "Member"):
        _, browser = open_browsers.person(own, role)
        assert browser.get("/api/organization").status_code == 403
        assert browser.patch("/api/organization", json={"name": "Theirs"}).status_code == 403
    changed = ok(admin.patch("/api/organization", json={"name": "Engines", "trusted_domains": ["@Example.net"]}))
    assert (changed["name"], changed["trusted_domains"]) == ("Engines", ["example.net"])
    _, browser = open_browsers.person(own)
    assert ok(browser.get("/api/me"))["organizations"][0]["name"] == "Engines"
