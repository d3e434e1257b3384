"""The response of a server that a caller named."""

import codecs
import re
from dataclasses import dataclass

_CHARSETS = re.compile(
    r"ascii|utf-(8|16|32)(-[a-z]+)?|iso8859-\d+|cp\d+|koi8-[rtu]|mac-.+|(gb|big5|euc|shift|iso2022).*|tis-620"
)
"""Names of Python's codecs for the encodings of https://encoding.spec.whatwg.org, 2026-11, and their families."""


@dataclass(frozen=True)
class HttpResponse:
    """A response, whatever its status."""

    status: int
    content_type: str
    """As sent, with its parameters; empty if none was."""
    content: bytes | bytearray

    @property
    def text(self) -> str:
        """The content decoded by the charset it names, if texts are written in it, else as UTF-8; what cannot be
        decoded is replaced."""
        for parameter in self.content_type.split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset" and (charset := _text_charset(value.strip().strip("\"'"))):
                return self.content.decode(charset, errors="replace")
        return self.content.decode(errors="replace")


def _text_charset(label: str) -> str | None:
    """Return the codec of a charset that texts on the web are written in, or None.

    Python has others, which a server must not choose: some take quadratic time, some are no charsets at all.
    """
    try:
        name = codecs.lookup(label).name
    except (LookupError, ValueError):
        return None
    return name if _CHARSETS.fullmatch(name) else None
