"""Bounds the bytes of servers' responses that are in memory at a time."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import TooLarge, Unavailable


class ResponseBytes:
    """At most `max_bytes` are reserved at a time, half of them for one organisation."""

    def __init__(self, max_bytes: int) -> None:
        self._free = max_bytes
        self._organisation_bytes = max_bytes // 2
        self._reserved: Counter[str] = Counter()
        """By organisation."""

    @contextmanager
    def reservation(self, organisation: str, max_bytes: int, what: str) -> Iterator["Reservation"]:
        """Yield a reservation that may grow to `max_bytes`; release it in the end. `what` it is for is in errors."""
        reservation = Reservation(self, organisation, max_bytes, what)
        try:
            yield reservation
        finally:
            reservation.release()

    def take(self, organisation: str, count: int) -> bool:
        """Reserve bytes; return whether there was room for them."""
        reserved = self._reserved.get(organisation, 0) + count
        if count > self._free or reserved > self._organisation_bytes:
            return False
        self._free -= count
        self._reserved[organisation] = reserved
        return True

    def give_back(self, organisation: str, count: int) -> None:
        """Release bytes that were reserved."""
        self._free += count
        self._reserved[organisation] -= count
        if not self._reserved[organisation]:
            del self._reserved[organisation]


class Reservation:
    """The bytes that the responses to one caller's request take."""

    def __init__(self, room: ResponseBytes, organisation: str, max_bytes: int, what: str) -> None:
        self._room = room
        self._organisation = organisation
        self._max_bytes = max_bytes
        self._what = what
        self._reserved = 0

    def grow(self, count: int) -> None:
        """Reserve bytes that have arrived.

        Raises TooLarge if these responses have too many together, Unavailable if those of others leave no room.
        """
        if self._reserved + count > self._max_bytes:
            raise TooLarge(
                f"The {self._what} have more than {self._max_bytes:,} bytes together: name fewer, or smaller ones."
            )
        if not self._room.take(self._organisation, count):
            raise Unavailable(
                f"The {self._what} find no room beside those of other calls. Try again with fewer calls at a time; who "
                "runs this installation sets the room with EVERLOOP_OUTBOUND_BYTES."
            )
        self._reserved += count

    def release(self) -> None:
        """Give every byte back."""
        self._room.give_back(self._organisation, self._reserved)
        self._reserved = 0
