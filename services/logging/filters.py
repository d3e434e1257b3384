"""Search terms as text to look for, without any words of the database."""

import re

from pydantic_core import to_json

from shared.errors import Invalid

_MOST_BYTES = 32_000
"""Of a pattern. MongoDB takes 32,764 (https://www.mongodb.com/docs/manual/reference/operator/query/regex/, 2024)."""


def in_plain(term: str) -> str:
    """A pattern that finds `term` literally in plain text. Errors: Invalid."""
    pattern = re.escape(term).replace("\x00", r"\x00")
    if len(pattern.encode()) > _MOST_BYTES:
        raise Invalid(f"A search text of {len(term):,} characters is too long.")
    return pattern


def in_json(term: str) -> str:
    """A pattern that finds `term` literally in JSON text, where quotes, line ends and such are escaped."""
    return in_plain(to_json(term).decode()[1:-1])
