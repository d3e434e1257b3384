"""`TextBudget`: bounds the text that one request makes this service write, and names what most of it is for."""

from shared.errors import Invalid

MAX_BYTES = 4 * 1024 * 1024
"""In UTF-8: as much text as a request may bring itself."""
_MAX_CHARACTERS_SHOWN = 200
"""Of a name or a call in an error."""


class TextBudget:
    """Counts texts in bytes of UTF-8, before they are joined."""

    def __init__(self, subject: str) -> None:
        """`subject` begins the sentence of the error."""
        self._subject = subject
        self._bytes = 0
        self._bytes_of_name: dict[str, int] = {}

    def take(self, text: str, name: str = "") -> str:
        """Count `text` and return it; `name` is the input or call it is the value of.

        Raises Invalid if all texts together are more than `MAX_BYTES`.
        """
        size = len(text) if text.isascii() else len(text.encode(errors="replace"))
        self._bytes += size
        if name:
            self._bytes_of_name[name] = self._bytes_of_name.get(name, 0) + size
        if self._bytes > MAX_BYTES:
            raise Invalid(f"{self._subject} takes more than {MAX_BYTES:,} bytes{self._remedy()}")
        return text

    def _remedy(self) -> str:
        if not self._bytes_of_name:
            return "; shorten it."
        largest = max(self._bytes_of_name, key=lambda name: self._bytes_of_name[name])
        return (
            f", {self._bytes_of_name[largest]:,} of them for {shown(largest)!r} alone: shorten its value, or write it "
            "less often."
        )


def shown(text: str) -> str:
    """Return a name or a call as it stands in an error: what is long is cut."""
    return text if len(text) <= _MAX_CHARACTERS_SHOWN else f"{text[:_MAX_CHARACTERS_SHOWN]}…"
