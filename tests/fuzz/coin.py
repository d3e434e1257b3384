"""Choices that depend on a text alone: the same case is changed in the same way in every run."""

import zlib


class Coin:
    """A sequence of choices, begun by a text."""

    def __init__(self, text: str) -> None:
        self._state = zlib.crc32(text.encode(errors="replace"))

    def pick(self, number: int) -> int:
        """Return one of 0 to `number` - 1."""
        self._state = zlib.crc32(self._state.to_bytes(4, "big"))
        return (self._state >> 8) % number

    def toss(self) -> bool:
        """Return yes or no."""
        return self.pick(2) == 1
