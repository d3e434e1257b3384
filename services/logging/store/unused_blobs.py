"""The collection `unused_blobs`: blobs of deleted logs and projects, to be removed unless something else names them.

Stored fields: `due`, when to look; `head`, once the removal has begun: the sequence of the blob's head in the stream.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pymongo import ASCENDING, UpdateOne

from shared import mongo
from shared.mongo import Database


class UnusedBlob(NamedTuple):
    """A blob that may be unused."""

    organisation: str
    digest: str
    due: datetime
    head: int | None
    """Sequence of its head, if the removal has begun."""


@mongo.raises_unavailable
class UnusedBlobStore:
    """Blobs that may be unused. Inserting one again puts off its date."""

    def __init__(self, database: Database, unused_seconds: float) -> None:
        """`unused_seconds` is how long a blob is kept after it was used last."""
        self._blobs = database["unused_blobs"]
        self._unused = timedelta(seconds=unused_seconds)

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._blobs.create_index([("due", ASCENDING)], name="by_date")

    async def insert_many(self, organisation: str, digests: Collection[str]) -> None:
        """Insert blobs, to be looked at when they may have been unused for long enough. Called before or after what
        names them is deleted: until they are due both has happened.
        """
        if digests:
            document = {"organisation": organisation, "due": datetime.now(UTC) + self._unused}
            await self._blobs.bulk_write(
                [UpdateOne({"_id": f"{organisation}/{digest}"}, {"$set": document}, upsert=True) for digest in digests],
                ordered=False,
            )

    async def list_due(self, limit: int, without: Sequence[str] = ()) -> list[UnusedBlob]:
        """Return up to `limit` blobs that are due, of all organisations but those in `without`."""
        condition = {"due": {"$lte": datetime.now(UTC)}, "organisation": {"$nin": list(without)}}
        cursor = self._blobs.find(condition, sort=[("due", ASCENDING)], limit=limit)
        return [
            UnusedBlob(
                document["organisation"], document["_id"].rpartition("/")[2], document["due"], document.get("head")
            )
            async for document in cursor
        ]

    async def postpone(self, blob: UnusedBlob, used_at: datetime) -> None:
        """Look at a blob again when it has been unused for long enough since `used_at`."""
        await self._blobs.update_one(_unchanged(blob), {"$set": {"due": used_at + self._unused}})

    async def begin_removal(self, blob: UnusedBlob, head: int) -> None:
        """Note which head is removed, so that a process that comes after a killed one knows what was before it."""
        await self._blobs.update_one(_unchanged(blob), {"$set": {"head": head}})

    async def delete(self, blob: UnusedBlob) -> None:
        """Delete the entry of a blob that is removed or used, unless it was inserted again since `blob` was read."""
        await self._blobs.delete_one(_unchanged(blob))


def _unchanged(blob: UnusedBlob) -> mongo.Document:
    return {"_id": f"{blob.organisation}/{blob.digest}", "due": blob.due}
