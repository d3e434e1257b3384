"""`ImageMemory`: bounds the image data that the requests under way hold in memory.

A request names a stored image by a token of eighty bytes, so the size of a request says nothing about the memory it
takes; the calls of an organisation share half of what there is.
"""

import asyncio

from shared.errors import TooLarge, Unavailable

MAX_BYTES = 96 * 1024 * 1024
"""Of all requests under way."""
MAX_ORGANISATION_BYTES = MAX_BYTES // 2
MAX_REQUEST_BYTES = 48 * 1024 * 1024
"""Of one, with its fallbacks and text: as much as a request could bring itself (`EVERLOOP_BODY_LIMIT_BYTES`)."""
_WAIT_SECONDS = 30.0
"""As long as a call waits for a place at its provider."""


class ImageMemory:
    """Counts what each run holds, until it is released."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[str, int]] = {}
        """Organisation and bytes of a run, by `id`."""
        self._released = asyncio.Event()

    async def acquire(self, run: object, organisation: str, title: str, size: int) -> None:
        """Wait until `size` more bytes fit, and count them for the run.

        Raises TooLarge if they never do, naming the provider by its `title`: what a run holds it holds to its end, so
        it would wait for itself. Raises Unavailable after 30 s.
        """
        _, held = self._held.get(id(run), (organisation, 0))
        if size > (most := MAX_REQUEST_BYTES - held):
            raise TooLarge(f"With its images the request to {title} takes {size:,} bytes; at most {most:,} fit.")
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                while not self._fits(organisation, size):
                    self._released.clear()
                    await self._released.wait()
        except TimeoutError:
            raise Unavailable("There are as many images in hand as fit into memory. Try again.") from None
        _, held = self._held.get(id(run), (organisation, 0))
        self._held[id(run)] = (organisation, held + size)

    def release(self, run: object) -> None:
        """Forget what the run holds; it has ended."""
        if self._held.pop(id(run), None):
            self._released.set()

    def _fits(self, organisation: str, size: int) -> bool:
        own = sum(held for owner, held in self._held.values() if owner == organisation)
        everyones = sum(held for _, held in self._held.values())
        return own + size <= MAX_ORGANISATION_BYTES and everyones + size <= MAX_BYTES
