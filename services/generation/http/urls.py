"""URLs that callers name: their parts, as they are compared and sent."""

from urllib.parse import SplitResult, quote, urljoin, urlsplit

from shared.errors import Invalid

_URL_CHARACTERS = "/?:@!$&'()*+,;=%~-._[]"
"""RFC 3986 §2: characters that stay as they are in a path or query. Everything else is percent-encoded."""


def parse_url(url: str, base: str = "") -> SplitResult:
    """Split an http or https address, which may be relative to `base`.

    Raises Invalid for any other form, and for one with a user or password. Whether its host may be called is checked
    when the connection is opened.
    """
    try:
        parts = urlsplit(urljoin(base, url))
        is_complete = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, an IPv6 address that is none
        is_complete = False
    if not is_complete:
        raise Invalid("Only complete addresses that begin with https:// or http:// can be called.")
    if parts.username is not None or parts.password is not None:
        raise Invalid(f"The address of {parts.hostname!r} holds a user or password; send a header instead.")
    return parts


def same_origin(one: str | None, other: str | None) -> bool:
    """Return whether two addresses have the same scheme, host and port (RFC 6454).

    One without a scheme is https; None equals None alone; an address that cannot be called equals none.
    """
    if one is None or other is None:
        return one is other
    try:
        return origin(parse_url(_with_scheme(one))) == origin(parse_url(_with_scheme(other)))
    except Invalid:
        return False


def _with_scheme(url: str) -> str:
    return url if "://" in url else f"https://{url}"


def origin(target: SplitResult) -> tuple[str, str | None, int]:
    """Return scheme, host and port (RFC 6454 §4)."""
    return target.scheme, target.hostname, port(target)


def port(target: SplitResult) -> int:
    """Return the port, by default that of the scheme."""
    return target.port or (443 if target.scheme == "https" else 80)


def ascii_host(target: SplitResult) -> str:
    """Return the host, an international name in ASCII. Raises Invalid if that is impossible."""
    host = target.hostname or ""
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise Invalid(f"{host!r} is not the name of a host.") from None


def host_header(target: SplitResult) -> str:
    """Return the value of the header `Host` (RFC 9110 §7.2)."""
    host = ascii_host(target)
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if target.port is None else f"{bracketed}:{target.port}"


def request_target(target: SplitResult) -> str:
    """Return path and query as they are sent (RFC 9112 §3.2.1)."""
    path = quote(target.path or "/", safe=_URL_CHARACTERS, errors="replace")
    query = f"?{quote(target.query, safe=_URL_CHARACTERS, errors='replace')}" if target.query else ""
    return path + query
