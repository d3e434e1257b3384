"""Regular expressions that find a caller's search text literally, in plain text or in JSON text."""

import re

from pydantic_core import to_json

from shared.errors import Invalid

_MAX_PATTERN_BYTES = 32_000
"""MongoDB takes 32,764 (https://www.mongodb.com/docs/manual/reference/operator/query/regex/, 2024)."""
_MAX_CHARACTERS = 21_000
"""Compiled, a pattern may take 64 KiB, and a letter of three cases (k, K and the Kelvin sign) takes three bytes."""


def literal_pattern(term: str) -> str:
    """Return a pattern that finds `term` literally in plain text.

    Raises Invalid if the pattern exceeds 32,000 bytes, or the term 21,000 characters.
    """
    pattern = re.escape(term).replace("\x00", r"\x00")
    if len(pattern.encode()) > _MAX_PATTERN_BYTES or len(term) > _MAX_CHARACTERS:
        raise Invalid(f"A search text of {len(term):,} characters is too long.")
    return pattern


def json_literal_pattern(term: str) -> str:
    """Return a pattern that finds `term` literally in JSON text, where quotes, line ends and such are escaped.

    Raises Invalid if the pattern exceeds 32,000 bytes, or the JSON text 21,000 characters.
    """
    return literal_pattern(to_json(term).decode()[1:-1])
