"""Large data beside the bus: a message says a token of it, the data itself stands once in the stream `BLOBS`.

A blob is found by its organisation and the sha256 of its content, so organisations share nothing and whatever is said
twice is stored once. Its parts are messages with fixed places; the head, which tells how many there are, is written
after all of them. So a blob that has a head is whole, and writing it again puts the same bytes into the same places.

What nobody wants kept is stored briefly, in places of its own: it goes by itself. The same content may also stand there
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

from pydantic_core import from_json, to_json

from shared.bus import Bus, newest
from shared.cache import Cache
from shared.errors import Internal, NotFound

logger = logging.getLogger(__name__)

STREAM = "BLOBS"
SUBJECTS = "blobs.>"
TOKEN = "everloop-blob:"  # noqa: S105 - a word, no secret
"""What stands in place of the data, followed by its sha256 in hex."""
LEAST_BYTES = 64 * 1024
"""Data of fewer characters stays where it is: it is no burden to a message."""
PART_BYTES = 1024 * 1024
BRIEF_SECONDS = 3600
"""How long a head stands that is kept briefly."""
_MARGIN_SECONDS = 600
"""How much longer its parts stand: who found the head has this long to read them."""
_FOUND = re.compile(TOKEN.encode() + rb"([0-9a-f]{64})")
_LEADS = (b'"', b";base64,")
_REMEMBERED_BYTES = 64 * 1024 * 1024
_REMEMBERED_NAMES = 20_000
_FOR_EVER = 10.0**9
_AT_ONCE = 8
"""Parts on their way at the same time, each way: what the connection holds in memory, and what others wait behind."""
_PART_SECONDS = 10.0


@dataclass(frozen=True)
class Name:
    """What a blob is found by."""

    organisation: str
    digest: str
    """sha256 of the content, hex."""
    brief: bool = field(default=False, compare=False)
    """Whether it stands there for a while only; the content is the same."""

    def subject(self, place: int | str) -> str:
        """Where a part, or the head, stands."""
        return f"blobs.{self.organisation}.{self.digest}.{'brief.' if self.brief else ''}{place}"


@dataclass(frozen=True)
class _Head:
    parts: int
    size: int
    brief: bool = False


class Blobs:
    """The blobs of every organisation, and the newest ones in memory: images are sent again and again."""

    def __init__(self, bus: Bus, *, remembered_bytes: int = _REMEMBERED_BYTES) -> None:
        self._bus = bus
        self._recent = _Recent(remembered_bytes)
        self._kept: Cache[Name, _Head] = _names()
        self._kept_briefly: Cache[Name, _Head] = _names(BRIEF_SECONDS / 2)
        self._heads: Cache[Name, _Head] = _names()
        self._sending = asyncio.Semaphore(_AT_ONCE)
        self._fetching = asyncio.Semaphore(_AT_ONCE)
        # The server that is back may have lost what it had, or be another one.
        bus.on_reconnect(self._forget)

    def _forget(self) -> None:
        for kept in (self._kept, self._kept_briefly):
            kept.clear()

    async def keep(self, organisation: str, contents: Mapping[str, bytes], *, brief: bool = False) -> None:
        """Store contents by their digest; on return they are durable. Unavailable: some may not be.

        What is kept briefly is there for half an hour at least and gone in little more than one.
        """
        kept = self._kept_briefly if brief else self._kept
        for digest, content in contents.items():
            name = Name(organisation, digest, brief)
            await kept.get(name, lambda name=name, content=content: self._store(name, content))  # type: ignore[misc]
            self._recent.add(name, content)

    async def filled(self, organisation: str, text: bytes) -> "Filled":
        """`text` with its tokens to be exchanged for what they stand for; those of nothing stay. Unavailable."""
        heads: dict[bytes, _Head] = {}
        for digest in {found[1] for found in _FOUND.finditer(text)}:
            if head := await self._found(Name(organisation, digest.decode())):
                heads[digest] = head
        return Filled(self, organisation, text, heads)

    async def _found(self, name: Name) -> _Head | None:
        with suppress(NotFound):
            return await self._heads.get(name, lambda: self._head(name))
        with suppress(NotFound):
            return await self._head(replace(name, brief=True))
        return None

    async def parts(self, name: Name, head: _Head) -> AsyncIterator[bytes]:
        """The content piece by piece; the last one comes only if the whole is what was stored. Internal: it is not."""
        if (content := self._recent.get(name)) is not None:
            for place in range(head.parts):
                yield content[place * PART_BYTES : (place + 1) * PART_BYTES]
            return
        seen = hashlib.sha256()
        for place in range(head.parts):
            async with self._fetching:
                part = await newest(self._bus, STREAM, name.subject(place))
            seen.update(part or b"")
            if part is None or (place == head.parts - 1 and seen.hexdigest() != name.digest):
                logger.error("blob %s is damaged at part %d of %d", name.subject("*"), place, head.parts)
                raise Internal(f"The stored data {TOKEN}{name.digest} is damaged; the service's log has the details.")
            yield part

    async def content(self, name: Name, head: _Head) -> bytes:
        """The whole, remembered."""
        content = b"".join([part async for part in self.parts(name, head)])
        self._recent.add(name, content)
        return content

    async def _head(self, name: Name) -> _Head:
        said = await newest(self._bus, STREAM, name.subject("head"))
        if said is None:
            raise NotFound(f"There is no {TOKEN}{name.digest}.")
        return _Head(**from_json(said), brief=name.brief)

    async def _store(self, name: Name, content: bytes) -> _Head:
        """What stands there for good is not stored again; what stands there briefly is, and gets another hour."""
        with suppress(NotFound):
            return await self._head(replace(name, brief=False))
        head = _Head(parts=-(-len(content) // PART_BYTES), size=len(content), brief=name.brief)
        try:
            async with asyncio.TaskGroup() as group:
                for place in range(head.parts):
                    group.create_task(self._send(name, place, content))
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        told = to_json({"parts": head.parts, "size": head.size})
        await self._append(name.subject("head"), told, BRIEF_SECONDS if name.brief else None)
        return head

    async def _send(self, name: Name, place: int, content: bytes) -> None:
        async with self._sending:
            part = content[place * PART_BYTES : (place + 1) * PART_BYTES]
            await self._append(name.subject(place), part, BRIEF_SECONDS + _MARGIN_SECONDS if name.brief else None)

    async def _append(self, subject: str, content: bytes, seconds: int | None) -> None:
        headers = None if seconds is None else {"Nats-TTL": f"{seconds}s"}
        await self._bus.append(subject, content, message_id=subject, timeout_seconds=_PART_SECONDS, headers=headers)


class Filled:
    """JSON text whose tokens are exchanged while it is read: contents need no escaping, they are base64 text."""

    def __init__(self, blobs: Blobs, organisation: str, text: bytes, heads: Mapping[bytes, _Head]) -> None:
        self._blobs = blobs
        self._organisation = organisation
        self._text = text
        self._heads = heads
        found = list(_FOUND.finditer(text))
        self._places = [(it.start(), it.end(), it[1]) for it in found if it[1] in heads]
        self.size = len(text) + sum(heads[digest].size - (end - start) for start, end, digest in self._places)
        """Bytes of the whole."""
        self.lost = [it[0].decode() for it in found if it[1] not in heads and _stands_for_data(text, it)]
        """Tokens of nothing, where data should stand."""

    async def pieces(self) -> AsyncIterator[bytes]:
        """The text from beginning to end; of a blob one part at a time is held."""
        done = 0
        for start, end, digest in self._places:
            yield self._text[done:start]
            name, head = self._named(digest)
            async for part in self._blobs.parts(name, head):
                yield part
            done = end
        yield self._text[done:]

    def _named(self, digest: bytes) -> tuple[Name, _Head]:
        head = self._heads[digest]
        return Name(self._organisation, digest.decode(), head.brief), head

    async def whole(self) -> bytes:
        """The text at once, its blobs remembered."""
        pieces: list[bytes] = []
        done = 0
        for start, end, digest in self._places:
            pieces += (self._text[done:start], await self._blobs.content(*self._named(digest)))
            done = end
        return b"".join((*pieces, self._text[done:]))


def _stands_for_data(text: bytes, found: "re.Match[bytes]") -> bool:
    """Whether it ends a string that is nothing else, or a data URL; elsewhere somebody talks about tokens."""
    before = text[max(0, found.start() - 8) : found.start()]
    return before.endswith(_LEADS) and text[found.end() : found.end() + 1] == b'"'


def _names(seconds: float = _FOR_EVER) -> Cache[Name, _Head]:
    return Cache(tags=lambda _, __: (), max_entries=_REMEMBERED_NAMES, fresh_seconds=seconds, stale_seconds=seconds)


class _Recent:
    """The contents used last, up to so many bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most = self._free = most_bytes
        self._contents: OrderedDict[Name, bytes] = OrderedDict()

    def get(self, name: Name) -> bytes | None:
        """The content, if it is remembered."""
        if name in self._contents:
            self._contents.move_to_end(name)
        return self._contents.get(name)

    def add(self, name: Name, content: bytes) -> None:
        """Remember it, and forget others for it."""
        if self.get(name) is not None or len(content) > self._most:
            return
        self._contents[name] = content
        self._free -= len(content)
        while self._free < 0:
            self._free += len(self._contents.popitem(last=False)[1])
