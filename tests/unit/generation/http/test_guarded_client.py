"""GuardedClient: which addresses are refused, how content is decoded, which addresses have one origin."""

import pytest

from services.generation.http.guarded_client import GuardedClient
from services.generation.http.response import HttpResponse
from services.generation.http.urls import same_origin
from shared.errors import Invalid


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "ftp://example.org/", "gopher://example.org/", "//example.org/", "example.org", ""),
        *("http://", "http://:80/", "http://example.org:port/", "http://example.org:0/", "http://[::1/", "http://[x]/"),
        *("http://user:secret@example.org/", "http://secret@example.org/"),
    ],
)
async def test_an_address_that_is_not_http_or_has_a_password_is_refused(url: str) -> None:
    with GuardedClient().session("tm_1", 1000, "answers") as session:
        for call in (session.get(url), session.post_json(url, {})):
            with pytest.raises(Invalid) as caught:
                await call
            assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("content_type", "content", "text"),
    [
        ("", b"caf\xc3\xa9", "café"),
        ("text/plain; charset=latin-1", b"caf\xe9", "café"),
        ('text/plain; q=1; Charset="ISO-8859-1"', b"caf\xe9", "café"),
        ("text/plain; charset=klingon", b"caf\xc3\xa9", "café"),
        ("application/json", b"\xff{}", "\ufffd{}"),
        ("text/plain; charset=shift_jis", "雨".encode("shift_jis"), "雨"),
        ("text/plain; charset=windows-1251", b"\xe4\xe0", "да"),
        ("text/plain; charset=UTF-16LE", b"a\0", "a"),
    ],
)
def test_content_is_read_in_its_charset(content_type: str, content: bytes, text: str) -> None:
    assert HttpResponse(200, content_type, content).text == text


@pytest.mark.parametrize(
    "codec", ["punycode", "idna", "undefined", "unicode_escape", "utf-7", "zlib", "rot13", "hex", "a\0b", "é", "os", ""]
)
def test_what_is_no_charset_of_texts_is_read_as_utf_8(codec: str) -> None:
    """Punycode takes quadratic time: a minute and more for what one answer may have."""
    content = b"abc" * 100_000 + b"-" + b"kva" * 200_000
    assert HttpResponse(200, f"text/plain; charset={codec}", content).text == content.decode()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://e.org/a?b", "https://E.org:443/c", True),
        ("e.org", "https://e.org", True),
        ("http://e.org", "http://e.org:80/x", True),
        (None, None, True),
        ("https://e.org", "http://e.org", False),
        ("https://e.org", "https://e.org:8443", False),
        ("https://e.org", "https://e.org.evil.org", False),
        ("e.org", "http://e.org", False),
        ("e.org", None, False),
        (None, "e.org", False),
        ("https://e.org:99999", "https://e.org:99999", False),
    ],
)
def test_an_origin_is_a_scheme_a_host_and_a_port(one: str | None, other: str | None, *, same: bool) -> None:
    assert same_origin(one, other) is same
