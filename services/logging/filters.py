"""Search terms as text to look for, without any words of the database."""

import re

from pydantic_core import to_json


def in_plain(term: str) -> str:
    """A pattern that finds `term` literally in plain text."""
    return re.escape(term).replace("\x00", r"\x00")


def in_json(term: str) -> str:
    """A pattern that finds `term` literally in JSON text, where quotes, line ends and such are escaped."""
    return re.escape(to_json(term).decode()[1:-1])
