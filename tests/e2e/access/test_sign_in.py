"""Sign-in and sessions over HTTP, as a browser does them and as attackers try them."""

from collections.abc import Iterator

import httpx
import pytest

from tests.calls import ok, reference
from tests.organisations import add_organisation
from tests.people import PASSWORD, Browser, Browsers, add_person, browsers
from tests.stack import Stack, everloop


@pytest.fixture
def open_browsers(stack: Stack) -> Iterator[Browsers]:
    with browsers(stack) as opened:
        yield opened


@pytest.fixture
def organisation(stack: Stack) -> str:
    """A new organisation's id."""
    key = add_organisation(stack)
    own: str = ok(httpx.get(f"{stack.base_url}/api/me", headers={"X-API-KEY": key}))["organization_id"]
    return own


def test_a_person_signs_in_works_and_signs_out(open_browsers: Browsers, organisation: str) -> None:
    email, browser = open_browsers.person(organisation, "Developer")
    me = ok(browser.get("/api/me"))
    assert (me["kind"], me["email"], me["role"]) == ("member", email, "Developer")
    assert me["csrf_token"] == browser.headers["X-CSRF-Token"]
    project = ok(browser.post("/v4/projects", json={"name": reference()}), 201)
    chat = {"project_id": project["id"], "model_config": {"provider": "mock", "model": "mock"}, "messages": []}
    ok(browser.post("/v4/chat", json=chat))
    assert browser.patch("/api/me", json={"full_name": "Ada Lovelace"}).status_code == 204
    assert ok(browser.get("/api/me"))["full_name"] == "Ada Lovelace"
    assert browser.post("/api/auth/logout").status_code == 204
    assert dict(browser.cookies) == {}
    assert browser.get("/api/me").status_code == 401


def test_the_cookie_is_kept_from_scripts_and_the_answer_from_caches(open_browsers: Browsers, organisation: str) -> None:
    email = add_person(open_browsers.stack, organisation)
    answer = open_browsers.open().post("/api/auth/login", json={"email": email, "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    secret = cookie.partition("=")[2].partition(";")[0]
    assert secret not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_a_page_of_another_site_changes_nothing(open_browsers: Browsers, organisation: str) -> None:
    """CSRF: a browser sends the cookie along with what other sites cause, but not the token."""
    _, browser = open_browsers.person(organisation, "Admin")
    token = browser.headers.pop("X-CSRF-Token")
    name = reference()
    for headers in (
        {},
        {"X-CSRF-Token": "guessed"},
        {"X-CSRF-Token": token, "Origin": "https://evil.example"},
        {"X-CSRF-Token": token, "Sec-Fetch-Site": "cross-site"},
    ):
        answer = browser.post("/v4/projects", json={"name": name}, headers=headers)
        assert answer.status_code == 403, headers
        assert browser.delete("/api/members/usr_1", headers=headers).status_code == 403
        assert browser.post("/api/auth/logout", headers=headers).status_code == 403
    form = browser.post("/v4/projects", content=b'{"name": "x"}', headers={"Content-Type": "text/plain"})
    assert form.status_code == 403
    assert ok(browser.get("/v4/projects"))["total"] == 0
    ok(browser.post("/v4/projects", json={"name": name}, headers={"X-CSRF-Token": token}), 201)


def test_a_page_of_another_site_signs_nobody_in(open_browsers: Browsers, organisation: str) -> None:
    """CSRF of the sign-in itself: the victim would work in the attacker's account."""
    email, browser = add_person(open_browsers.stack, organisation), open_browsers.open()
    body = {"email": email, "password": PASSWORD}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        answer = browser.post("/api/auth/login", json=body, headers=headers)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    own = {"Origin": open_browsers.stack.base_url, "Sec-Fetch-Site": "same-origin"}
    ok(browser.post("/api/auth/login", json=body, headers=own))


def test_a_session_planted_beforehand_is_not_the_one_signed_in_to(open_browsers: Browsers, organisation: str) -> None:
    """Session fixation."""
    attacker_email, attacker = open_browsers.person(organisation)
    planted = attacker.cookies["everloop_session"]
    email, victim = add_person(open_browsers.stack, organisation), open_browsers.open()
    victim.cookies.set("everloop_session", planted, domain="127.0.0.1", path="/")
    assert victim.sign_in(email)["email"] == email
    assert victim.cookies["everloop_session"] != planted
    assert ok(attacker.get("/api/me"))["email"] == attacker_email


def test_a_stolen_cookie_is_dead_after_signing_out_everywhere(open_browsers: Browsers, organisation: str) -> None:
    email, browser = open_browsers.person(organisation)
    thief = Browser(open_browsers.stack)
    thief.cookies.update(browser.cookies)
    other = open_browsers.open()
    other.sign_in(email)
    assert ok(thief.get("/api/me"))["email"] == email
    assert browser.post("/api/auth/logout-everywhere").status_code == 204
    for used in (thief, other, browser):
        assert used.get("/api/me").status_code == 401
        assert used.get("/v4/projects").status_code == 401
    thief.close()


def test_people_see_where_they_are_signed_in_and_end_one_session(open_browsers: Browsers, organisation: str) -> None:
    email, browser = open_browsers.person(organisation)
    phone = open_browsers.open()
    phone.headers["User-Agent"] = "A phone"
    phone.sign_in(email)
    sessions = ok(browser.get("/api/auth/sessions"))
    assert [session["current"] for session in sessions].count(True) == 1
    (other,) = [session for session in sessions if not session["current"]]
    assert other["user_agent"] == "A phone"
    assert other["address"].startswith("127.")
    assert browser.delete(f"/api/auth/sessions/{other['id']}").status_code == 204
    assert phone.get("/api/me").status_code == 401
    assert browser.delete(f"/api/auth/sessions/{other['id']}").status_code == 404


def test_a_changed_password_ends_the_other_sessions(open_browsers: Browsers, organisation: str) -> None:
    email, browser = open_browsers.person(organisation)
    other = open_browsers.open()
    other.sign_in(email)
    body = {"current_password": PASSWORD, "new_password": "staple paper clips"}
    browser.keep(ok(browser.post("/api/auth/password", json=body)))
    assert ok(browser.get("/api/me"))["email"] == email
    assert other.get("/api/me").status_code == 401
    assert open_browsers.open().post("/api/auth/login", json={"email": email, "password": PASSWORD}).status_code == 401


def test_too_many_guesses_are_told_to_wait(open_browsers: Browsers, organisation: str) -> None:
    email, browser = add_person(open_browsers.stack, organisation), open_browsers.open()
    for _ in range(10):
        assert browser.post("/api/auth/login", json={"email": email, "password": "wrong"}).status_code == 401
    refused = browser.post("/api/auth/login", json={"email": email, "password": PASSWORD})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 15 * 60
    assert refused.json()["detail"]["message"].startswith("Too many attempts. Try again in ")


def test_a_person_changes_organisations(open_browsers: Browsers, organisation: str) -> None:
    email, browser = open_browsers.person(organisation, "Admin")
    second = ok(browser.post("/api/organizations", json={"name": "Second"}), 201)["id"]
    before = browser.cookies["everloop_session"]
    there = browser.keep(ok(browser.post("/api/auth/organization", json={"organization_id": second})))
    assert (there["organization_id"], there["email"]) == (second, email)
    assert {one["organization_id"] for one in there["organizations"]} == {organisation, second}
    assert browser.cookies["everloop_session"] != before
    assert ok(browser.get("/v4/projects"))["total"] == 0
    assert browser.post("/api/auth/organization", json={"organization_id": "tm_other"}).status_code == 404


def test_an_api_key_beside_a_cookie_is_who_calls(open_browsers: Browsers, organisation: str, stack: Stack) -> None:
    _, browser = open_browsers.person(organisation)
    del browser.headers["X-CSRF-Token"]
    named = {"X-API-KEY": stack.api_key}
    assert ok(browser.get("/api/me", headers=named))["kind"] == "api_key"
    ok(browser.post("/v4/projects", json={"name": reference()}, headers=named), 201)
    assert browser.get("/api/me", headers={"X-API-KEY": "hl_wrong"}).status_code == 401


def test_a_body_of_nobody_is_read_only_if_it_is_small(open_browsers: Browsers) -> None:
    browser = open_browsers.open()
    answer = browser.post("/api/auth/login", json={"email": "a@b.org", "password": "x" * 20_000})
    assert answer.status_code == 413
    cut = b'{"email": "a@b.org", '
    answer = browser.post("/api/auth/login", content=cut, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "json_invalid"


def test_the_page_before_sign_in_is_told_what_there_is(open_browsers: Browsers) -> None:
    state = ok(open_browsers.open().get("/api/setup"))
    assert state == {"needed": False, "mail": False, "oidc_name": None}
    body = {"token": "x", "organization_name": "x", "email": "a@b.org", "password": PASSWORD}
    assert open_browsers.open().post("/api/setup", json=body).status_code == 409
    assert open_browsers.open().get("/api/auth/oidc").status_code == 404
    assert open_browsers.open().post("/api/auth/password-reset", json={"email": "a@b.org"}).status_code == 503


def test_the_operator_leads_back_in_who_is_locked_out(open_browsers: Browsers, organisation: str) -> None:
    data = ("--data", str(open_browsers.stack.folder))
    email = f"{reference()}@corp.local"
    added = everloop("user", "add", email, "--role", "admin", "--organisation", organisation, *data).stdout
    password = added.split("Password: ")[1].strip()
    browser = open_browsers.open()
    assert browser.sign_in(email, password)["role"] == "Admin"
    reset = everloop("user", "reset-password", email, *data).stdout
    assert browser.get("/api/me").status_code == 401
    assert browser.sign_in(email, reset.split("Password: ")[1].strip())["email"] == email
    listed = everloop("user", "list", *data).stdout
    assert f"Admin in My organisation ({organisation})" in next(line for line in listed.splitlines() if email in line)
