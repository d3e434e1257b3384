"""Bulk writes that report, document by document, what existed already and what can never be stored."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from shared.mongo import Document

Collection = AsyncIOMotorCollection[Document]
T = TypeVar("T")

CHUNK_SIZE = 1000
"""Documents of one call: the event loop gets a turn between calls."""
_DUPLICATE_KEY = 11000
_PERMANENT_ERROR_CODES = frozenset({2, 9, 14, 121, 10334, 17280, 17419})
"""BadValue, FailedToParse, TypeMismatch, DocumentValidationFailure, BSONObjectTooLarge, KeyTooLong, and
"resulting document too large": the same write fails the same way whenever it is tried."""
_WHOLE_CALL_ERRORS = (BSONError, OverflowError, UnicodeError, OperationFailure)
"""What driver and server raise for a whole call if one document of it is too large or cannot be encoded."""


class InsertOutcome(NamedTuple):
    """What a bulk insert did not insert, by index in the documents given."""

    existing: list[int]
    """A document with this `_id` existed and is unchanged."""
    rejected: dict[int, str]
    """Can never be stored, with the reason."""


async def insert_many(collection: Collection, documents: Sequence[Document]) -> InsertOutcome:
    """Insert documents, each independently of the others. Raises PyMongoError for failures that a retry may cure.

    A call that is refused whole is split in halves until the document at fault is alone.
    """
    if not documents:
        return InsertOutcome([], {})
    try:
        await collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        return _outcome_of(error)
    except _WHOLE_CALL_ERRORS as error:
        reason = _permanent_reason(error)
        if len(documents) == 1:
            return InsertOutcome([], {0: reason})
        middle = len(documents) // 2
        return _combine(
            await insert_many(collection, documents[:middle]),
            middle,
            await insert_many(collection, documents[middle:]),
        )
    return InsertOutcome([], {})


async def update_many(collection: Collection, updates: Sequence[UpdateOne]) -> dict[int, str]:
    """Apply updates, each independently; return by index the reasons of those that can never be applied.

    Raises PyMongoError for failures that a retry may cure.
    """
    if not updates:
        return {}
    try:
        await collection.bulk_write(list(updates), ordered=False)
    except BulkWriteError as error:
        outcome = _outcome_of(error)
        if outcome.existing:
            raise  # two processes upserted the same document at once: the next try finds it
        return outcome.rejected
    except _WHOLE_CALL_ERRORS as error:
        reason = _permanent_reason(error)
        if len(updates) == 1:
            return {0: reason}
        middle = len(updates) // 2
        rejected = await update_many(collection, updates[:middle])
        second_half = await update_many(collection, updates[middle:])
        return rejected | {middle + index: reason for index, reason in second_half.items()}
    return {}


async def upsert_many(collection: Collection, updates: Iterable[tuple[str, list[Document]]]) -> dict[int, str]:
    """Apply an update pipeline to each document, by `_id`, or to a new one; return by index the reasons of those that
    can never be applied. Raises PyMongoError for failures that a retry may cure.
    """
    rejected: dict[int, str] = {}
    for number, chunk in enumerate(chunks(updates)):
        upserts = [UpdateOne({"_id": document_id}, update, upsert=True) for document_id, update in chunk]
        for index, reason in (await update_many(collection, upserts)).items():
            rejected[number * CHUNK_SIZE + index] = reason
    return rejected


def chunks(items: Iterable[T]) -> Iterable[list[T]]:
    """Yield the items in lists of at most `CHUNK_SIZE`."""
    remaining = iter(items)
    while chunk := list(islice(remaining, CHUNK_SIZE)):
        yield chunk


def _permanent_reason(error: Exception) -> str:
    """Return why a call can never succeed. Raises `error` again if it may succeed next time."""
    if isinstance(error, OperationFailure) and error.code not in _PERMANENT_ERROR_CODES:
        raise error
    return f"cannot be encoded: {error}"


def _combine(first: InsertOutcome, middle: int, second: InsertOutcome) -> InsertOutcome:
    """Return the outcome of both halves; indexes of the second are counted from `middle`."""
    return InsertOutcome(
        first.existing + [middle + index for index in second.existing],
        first.rejected | {middle + index: reason for index, reason in second.rejected.items()},
    )


def _outcome_of(error: BulkWriteError) -> InsertOutcome:
    """Return what the error says of each document. Raises it again if one of them may succeed next time."""
    details: dict[str, Any] = dict(error.details or {})
    outcome = InsertOutcome([], {})
    if details.get("writeConcernErrors"):
        raise error
    for line in details.get("writeErrors", []):
        if line["code"] == _DUPLICATE_KEY:
            outcome.existing.append(line["index"])
        elif line["code"] in _PERMANENT_ERROR_CODES:
            outcome.rejected[line["index"]] = line["errmsg"]
        else:
            raise error
    return outcome
