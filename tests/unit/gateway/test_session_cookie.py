"""The cookie of a session: how it is set and read, and which requests of other sites are refused."""

from datetime import UTC, datetime, timedelta

import pytest
from starlette.datastructures import Headers
from starlette.responses import Response

from services.gateway.authentication.session_cookie import SessionCookie, csrf_token
from shared.errors import Denied, Unauthenticated

SECRET = "hls_" + "s" * 48
PUBLIC = "https://everloop.example.org"


def headers(**fields: str) -> Headers:
    return Headers({name.replace("_", "-"): value for name, value in fields.items()})


def cookie_set_by(cookie: SessionCookie) -> str:
    response = Response()
    cookie.set(response, SECRET, datetime.now(UTC) + timedelta(hours=1))
    return response.headers["set-cookie"]


def test_behind_tls_the_cookie_is_of_this_host_alone() -> None:
    parts = cookie_set_by(SessionCookie(PUBLIC)).split("; ")
    assert parts[0] == f"__Host-everloop_session={SECRET}"
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(parts)
    assert not any(part.startswith("Domain") for part in parts)


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:8000"])
def test_without_tls_the_cookie_is_kept_from_scripts_all_the_same(url: str | None) -> None:
    parts = cookie_set_by(SessionCookie(url)).split("; ")
    assert parts[0] == f"everloop_session={SECRET}"
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(parts)
    assert "Secure" not in parts


def test_a_cleared_cookie_has_no_value_and_no_time_left() -> None:
    response = Response()
    SessionCookie(None).clear(response)
    assert response.headers["set-cookie"].startswith('everloop_session=""; ')
    assert "Max-Age=0" in response.headers["set-cookie"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"everloop_session={SECRET}", SECRET),
        (f"a=b; everloop_session={SECRET};c=d", SECRET),
        (f"everloop_session={SECRET}; everloop_session={SECRET}", SECRET),
        ("everloop_session=", None),
        ("everloop_session", None),
        (f"__Host-everloop_session={SECRET}", None),
        ("everloop_session=" + "x" * 101, None),
        ("", None),
    ],
)
def test_the_secret_is_read(line: str, expected: str | None) -> None:
    assert SessionCookie(None).read(headers(cookie=line)) == expected


def test_behind_tls_a_cookie_that_another_host_may_have_planted_is_not_read() -> None:
    assert SessionCookie(PUBLIC).read(headers(cookie=f"everloop_session={SECRET}")) is None


def test_of_two_different_cookies_none_is_believed() -> None:
    with pytest.raises(Unauthenticated, match="several cookies"):
        SessionCookie(None).read(headers(cookie=f"everloop_session={SECRET}; everloop_session=planted"))


def test_the_token_is_of_one_secret_and_does_not_tell_it() -> None:
    assert csrf_token(SECRET) == csrf_token(SECRET) != csrf_token(SECRET + "x")
    assert len(csrf_token(SECRET)) == 43
    assert SECRET not in csrf_token(SECRET)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("token", ["", "wrong", csrf_token("another"), SECRET, "ü"])
def test_what_may_change_something_needs_the_token(method: str, token: str) -> None:
    sent = Headers(raw=[(b"x-csrf-token", token.encode())])
    with pytest.raises(Denied, match="X-CSRF-Token"):
        SessionCookie(None).check_request(method, sent, SECRET)
    SessionCookie(None).check_request(method, headers(x_csrf_token=csrf_token(SECRET)), SECRET)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_needs_no_token(method: str) -> None:
    SessionCookie(None).check_request(method, headers(), SECRET)


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"origin": PUBLIC},
        {"origin": "http://10.0.0.7:8000", "host": "10.0.0.7:8000"},
        {"origin": "https://EVERLOOP.example.org"},
        {"sec_fetch_site": "same-origin", "origin": "http://behind.a.proxy", "host": "internal"},
        {"sec_fetch_site": "none"},
    ],
)
def test_requests_of_pages_of_ours_and_of_no_browser_are_taken(sent: dict[str, str]) -> None:
    SessionCookie(PUBLIC).check_origin(headers(**sent))


@pytest.mark.parametrize(
    "sent",
    [
        {"origin": "https://evil.example", "host": "everloop.example.org"},
        {"origin": "https://everloop.example.org.evil.example", "host": "everloop.example.org"},
        {"origin": "null", "host": "everloop.example.org"},
        {"origin": "", "host": "everloop.example.org"},
        {"origin": "https://everloop.example.org:444", "host": "everloop.example.org"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "origin": "https://other.example.org", "host": "everloop.example.org"},
        {"sec_fetch_site": "cross-site", "origin": PUBLIC},
    ],
)
def test_requests_of_pages_of_other_sites_are_refused(sent: dict[str, str]) -> None:
    with pytest.raises(Denied, match="other sites"):
        SessionCookie(PUBLIC).check_origin(headers(**sent))
