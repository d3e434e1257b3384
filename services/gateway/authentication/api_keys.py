"""API keys in requests."""

import re

from starlette.datastructures import Headers

from shared.errors import Unauthenticated

KEY_HEADER = "X-API-KEY"
_MAX_KEY_LENGTH = 200
"""Characters; keys have 43 to 60. No longer one is looked up."""
_API_KEY = re.compile(rb"\bhl_[A-Za-z0-9]{48}\b")
"""As authz makes them; one that an operator chose may look otherwise."""
_RAW_KEY_HEADER = KEY_HEADER.lower().encode()


def get_api_key(headers: Headers) -> str | None:
    """Return the API key of a request; None if it has none.

    Raises Unauthenticated for two different ones: a proxy or a log before this server might have taken the other.
    """
    keys = [value for name, value in headers.raw if name == _RAW_KEY_HEADER]
    if not keys:
        return None
    if len(set(keys)) > 1:
        raise Unauthenticated(f"The header {KEY_HEADER} is there {len(keys)} times with different keys: send one.")
    for name, value in headers.raw:
        if b"hl_" in value and value != keys[0] and any(other != keys[0] for other in _API_KEY.findall(value)):
            raise Unauthenticated(
                f"The header {name.decode('latin-1')} holds another API key than {KEY_HEADER}: "
                f"send one, in {KEY_HEADER} alone."
            )
    if len(keys[0]) > _MAX_KEY_LENGTH:
        raise Unauthenticated("This API key is not valid.")
    return keys[0].decode("latin-1")
