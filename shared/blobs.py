"""Stores large data (images) once in the stream `BLOBS`, and inlines it where JSON text has its token (claim check).

A blob is named by its organisation and the sha256 of its content: organisations share nothing, and equal content is
stored once. Its parts are messages on fixed subjects; the head, which has their number, is appended after all of them.
So a blob that has a head is complete, and storing it again writes the same bytes to the same subjects.

A blob that nothing names any more is removed (services/logging/purge/blobs.py). Therefore the head says when the blob
was used last: whoever stores what is stored already appends the head anew, at most once in `TOUCH_SECONDS`.

A temporary blob has subjects of its own and is deleted by the server after an hour. The same content may also be stored
for good.
"""

import asyncio
import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pydantic_core import from_json, to_json

from shared import ids
from shared.bus import Bus, get_last_message, get_last_of_leader
from shared.cache import Cache
from shared.errors import Internal, NotFound, Unavailable

logger = logging.getLogger(__name__)

STREAM = "BLOBS"
SUBJECTS = "blobs.>"
TOKEN = "everloop-blob:"  # noqa: S105 - a prefix, no secret
"""Followed by the sha256 of the data in hex, it stands in place of the data."""
MIN_BYTES = 64 * 1024
"""Shorter data (base64 characters) is not offloaded: a message carries it easily."""
PART_BYTES = 1024 * 1024
TEMPORARY_SECONDS = 3600
"""How long the head of a temporary blob is kept."""
TOUCH_SECONDS = 300.0
"""How long a blob is taken to be stored before its head is appended anew. A blob in use thus has a head that is younger
than twice this time when a request begins."""
_PART_MARGIN_SECONDS = 600
"""How much longer its parts are kept: who has read the head has this long to read them."""
_TOKEN_PATTERN = re.compile(TOKEN.encode() + rb"([0-9a-f]{64})")
_DIGEST_PATTERN = re.compile(TOKEN + r"([0-9a-f]{64})")
_DATA_PREFIXES = (b'"', b";base64,")
"""Before a token that is a whole JSON string or the data of a data URL."""
_CACHED_CONTENT_BYTES = 16 * 1024 * 1024
_CACHED_HEADS = 20_000
_MAX_CONCURRENT_PARTS = 8
"""Parts being sent, and parts being read, at the same time: bounds memory, and how long other messages wait behind."""
_APPEND_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class BlobKey:
    """Identifies a blob."""

    organisation: str
    digest: str
    """sha256 of the content, hex."""
    temporary: bool = field(default=False, compare=False)
    """Whether its temporary copy is meant; the content is the same."""

    def subject(self, part: int | str) -> str:
        """Return the subject of a part (from 0) or of the `head`."""
        return f"blobs.{self.organisation}.{self.digest}.{'brief.' if self.temporary else ''}{part}"


@dataclass(frozen=True)
class BlobHead:
    """What the head of a blob says."""

    parts: int
    """How many parts of `PART_BYTES` it has; the last one may be shorter."""
    size: int
    """Bytes of the content."""
    temporary: bool = False


class Blobs:
    """Stores and reads blobs of every organisation. Contents used last are cached, as images are sent repeatedly."""

    def __init__(
        self, bus: Bus, *, cached_content_bytes: int = _CACHED_CONTENT_BYTES, touch_seconds: float = TOUCH_SECONDS
    ) -> None:
        self._bus = bus
        self._touch_seconds = touch_seconds
        self._contents = _ContentCache(cached_content_bytes)
        self._stored: Cache[BlobKey, BlobHead] = _head_cache(touch_seconds)
        """Blobs known to be stored for good, and to have been used lately."""
        self._stored_temporarily: Cache[BlobKey, BlobHead] = _head_cache(TEMPORARY_SECONDS / 2)
        self._heads: Cache[BlobKey, BlobHead] = _head_cache(touch_seconds)
        self._send_slots = asyncio.Semaphore(_MAX_CONCURRENT_PARTS)
        self._read_slots = asyncio.Semaphore(_MAX_CONCURRENT_PARTS)
        # The server that is back may have lost what it had, or be another one.
        bus.on_reconnect(self._forget_stored)

    def _forget_stored(self) -> None:
        self._stored.clear()
        self._stored_temporarily.clear()

    async def store(self, organisation: str, contents: Mapping[str, bytes], *, temporary: bool = False) -> None:
        """Store contents by digest (sha256, hex); durable on return. Raises Unavailable if some may not be stored.

        Temporary ones can be read for half an hour at least and are deleted after little more than one hour.
        """
        stored = self._stored_temporarily if temporary else self._stored
        for digest, content in contents.items():
            key = BlobKey(organisation, digest, temporary)
            await stored.get(key, lambda key=key, content=content: self._store(key, content))  # type: ignore[misc]
            self._contents.add(key, content)

    async def inline(self, organisation: str, text: bytes) -> "InlinedText":
        """Return JSON text whose tokens are replaced by the data of this organisation's blobs when it is read.

        Tokens without a blob stay as they are. Raises Unavailable.
        """
        heads: dict[bytes, BlobHead] = {}
        for digest in {match[1] for match in _TOKEN_PATTERN.finditer(text)}:
            if head := await self._find_head(BlobKey(organisation, digest.decode())):
                heads[digest] = head
        return InlinedText(self, organisation, text, heads)

    async def _find_head(self, key: BlobKey) -> BlobHead | None:
        """Return the head of the blob stored for good, else of the temporary one, else None."""
        with suppress(NotFound):
            return await self._heads.get(key, lambda: self._read_head(key))
        with suppress(NotFound):
            return await self._read_head(replace(key, temporary=True))
        return None

    async def parts(self, key: BlobKey, head: BlobHead) -> AsyncIterator[bytes]:
        """Yield the content part by part. Raises Internal before the last one if the content is damaged."""
        if (content := self._contents.get(key)) is not None:
            for number in range(head.parts):
                yield content[number * PART_BYTES : (number + 1) * PART_BYTES]
            return
        sha256 = hashlib.sha256()
        for number in range(head.parts):
            async with self._read_slots:
                part = await get_last_message(self._bus, STREAM, key.subject(number))
            sha256.update(part or b"")
            if part is None or (number == head.parts - 1 and sha256.hexdigest() != key.digest):
                logger.error("blob %s is damaged at part %d of %d", key.subject("*"), number, head.parts)
                raise Internal(f"The stored data {TOKEN}{key.digest} is damaged; the service's log has the details.")
            yield part

    async def content(self, key: BlobKey, head: BlobHead) -> bytes:
        """Return the whole content, and cache it. Raises Internal if it is damaged."""
        content = b"".join([part async for part in self.parts(key, head)])
        self._contents.add(key, content)
        return content

    async def _read_head(self, key: BlobKey) -> BlobHead:
        payload = await get_last_message(self._bus, STREAM, key.subject("head"))
        if payload is None:
            raise NotFound(f"There is no {TOKEN}{key.digest}.")
        return BlobHead(**from_json(payload), temporary=key.temporary)

    async def _store(self, key: BlobKey, content: bytes) -> BlobHead:
        """Store the blob unless it is stored for good. A temporary one is stored again, for another hour."""
        if (stored := await self._touch(replace(key, temporary=False))) is not None:
            return stored
        head = BlobHead(parts=-(-len(content) // PART_BYTES), size=len(content), temporary=key.temporary)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(head.parts):
                    group.create_task(self._send_part(key, number, content))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        payload = to_json({"parts": head.parts, "size": head.size})
        await self._append(key.subject("head"), payload, _ttl_headers(key, TEMPORARY_SECONDS))
        return head

    async def _touch(self, key: BlobKey) -> BlobHead | None:
        """Append the head of a blob anew if it was not for `touch_seconds`; return it, or None if there is none.

        It is appended only in the place of the head that was read, so that a blob which is being removed at this moment
        is stored again instead.
        """
        subject = key.subject("head")
        stored = await get_last_of_leader(self._bus, STREAM, subject)
        if stored is None:
            return None
        if (datetime.now(UTC) - stored.stored_at).total_seconds() >= self._touch_seconds:
            expected = {"Nats-Expected-Last-Subject-Sequence": str(stored.sequence)}
            try:
                await self._append(subject, stored.payload, expected)
            except Unavailable:
                last = await get_last_of_leader(self._bus, STREAM, subject)
                if last is None:
                    return None
                if last.sequence == stored.sequence:
                    raise
        return BlobHead(**from_json(stored.payload))

    async def _send_part(self, key: BlobKey, number: int, content: bytes) -> None:
        async with self._send_slots:
            part = content[number * PART_BYTES : (number + 1) * PART_BYTES]
            await self._append(key.subject(number), part, _ttl_headers(key, TEMPORARY_SECONDS + _PART_MARGIN_SECONDS))

    async def _append(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> None:
        await self._bus.append(
            subject,
            payload,
            message_id=ids.mint("blob"),  # not derived from the subject, which may have been removed a moment ago
            timeout_seconds=_APPEND_TIMEOUT_SECONDS,
            headers=headers,
        )


def _ttl_headers(key: BlobKey, seconds: int) -> dict[str, str]:
    return {"Nats-TTL": f"{seconds}s"} if key.temporary else {}


class InlinedText:
    """JSON text whose tokens are replaced while it is read. Contents need no escaping: they are base64."""

    def __init__(self, blobs: Blobs, organisation: str, text: bytes, heads: Mapping[bytes, BlobHead]) -> None:
        """`heads` are those of the blobs that exist, by digest."""
        self._blobs = blobs
        self._organisation = organisation
        self._text = text
        self._heads = heads
        matches = list(_TOKEN_PATTERN.finditer(text))
        self._tokens = [(match.start(), match.end(), match[1]) for match in matches if match[1] in heads]
        """Start, end and digest of each token that has a blob."""
        self.size = len(text) + sum(heads[digest].size - (end - start) for start, end, digest in self._tokens)
        """Bytes of the text with all contents."""
        self.missing_tokens = [
            match[0].decode() for match in matches if match[1] not in heads and _is_in_place_of_data(text, match)
        ]
        """Tokens in place of data that have no blob."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the text from beginning to end, blobs part by part. Raises Internal if a blob is damaged."""
        done = 0
        for start, end, digest in self._tokens:
            yield self._text[done:start]
            key, head = self._blob(digest)
            async for part in self._blobs.parts(key, head):
                yield part
            done = end
        yield self._text[done:]

    def _blob(self, digest: bytes) -> tuple[BlobKey, BlobHead]:
        head = self._heads[digest]
        return BlobKey(self._organisation, digest.decode(), head.temporary), head

    async def read(self) -> bytes:
        """Return the whole text, and cache the contents of its blobs. Raises Internal if a blob is damaged."""
        chunks: list[bytes] = []
        done = 0
        for start, end, digest in self._tokens:
            chunks += (self._text[done:start], await self._blobs.content(*self._blob(digest)))
            done = end
        return b"".join((*chunks, self._text[done:]))


def _is_in_place_of_data(text: bytes, match: "re.Match[bytes]") -> bool:
    """Return whether the token is a whole JSON string or ends a data URL; elsewhere it is part of somebody's text."""
    before = text[max(0, match.start() - 8) : match.start()]
    return before.endswith(_DATA_PREFIXES) and text[match.end() : match.end() + 1] == b'"'


def _head_cache(seconds: float) -> Cache[BlobKey, BlobHead]:
    return Cache(tags=lambda _, __: (), max_entries=_CACHED_HEADS, fresh_seconds=seconds, stale_seconds=seconds)


def digests_in(text: str) -> list[str]:
    """Return the digests of all tokens in a text; one may stand there more than once."""
    return _DIGEST_PATTERN.findall(text) if TOKEN in text else []


class _ContentCache:
    """The contents used last, up to `max_bytes` together."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = self._free_bytes = max_bytes
        self._contents: OrderedDict[BlobKey, bytes] = OrderedDict()

    def get(self, key: BlobKey) -> bytes | None:
        """Return the content if it is cached."""
        if key in self._contents:
            self._contents.move_to_end(key)
        return self._contents.get(key)

    def add(self, key: BlobKey, content: bytes) -> None:
        """Cache a content, and evict the least recently used ones for it."""
        if self.get(key) is not None or len(content) > self._max_bytes:
            return
        self._contents[key] = content
        self._free_bytes -= len(content)
        while self._free_bytes < 0:
            self._free_bytes += len(self._contents.popitem(last=False)[1])
