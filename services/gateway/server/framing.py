"""The headers by which the end of a request is known, and that say for whom it is."""

from collections.abc import Iterable

from shared.errors import BadRequest

_FRAMING_HEADERS = (b"content-length", b"transfer-encoding")

Header = tuple[bytes, bytes]
"""Name in lower case, and value."""


def check_framing(headers: Iterable[Header], http_version: str) -> None:
    """Raise BadRequest for what other servers on the way might read otherwise: codings beside `chunked`, and no `Host`
    or several (RFC 9112 §6.1, §3.2).
    """
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise BadRequest("Of transfer codings only chunked is read: send Transfer-Encoding: chunked, or a length.")
    if hosts > 1 or (not hosts and http_version == "1.1"):
        raise BadRequest(f"There are {hosts} Host headers: send one.")


def framing_headers(headers: Iterable[Header]) -> bytes:
    """Return the lines of those headers that frame the body."""
    return b"".join(b"%s: %s\r\n" % header for header in headers if header[0] in _FRAMING_HEADERS)
