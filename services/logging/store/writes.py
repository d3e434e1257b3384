"""Writing many documents at once: which were there already, and which can never be stored."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from shared.mongo import Document

Collection = AsyncIOMotorCollection[Document]

CHUNK = 1000
"""Documents of one call: the event loop gets a turn between calls."""
_DUPLICATE = 11000
_REFUSED_FOR_GOOD = frozenset({2, 9, 14, 121, 10334, 17280, 17419})
"""BadValue, FailedToParse, TypeMismatch, DocumentValidationFailure, BSONObjectTooLarge, KeyTooLong, and
"resulting document too large": the same write will fail the same way tomorrow."""
_WHOLE = (BSONError, OverflowError, UnicodeError, OperationFailure)
"""Driver and server refuse a whole call for one document that is too large or cannot be encoded."""


class Written(NamedTuple):
    """Outcome of a bulk write, by position in what was given."""

    present: list[int]
    """Was there already; nothing was changed."""
    refused: dict[int, str]
    """Can never be stored, and why."""


async def insert(collection: Collection, documents: Sequence[Document]) -> Written:
    """Insert those not yet there, each for itself."""
    if not documents:
        return Written([], {})
    try:
        await collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        return _outcome(error)
    except _WHOLE as error:
        reason = _reason(error)
        if len(documents) == 1:
            return Written([], {0: reason})
        middle = len(documents) // 2
        return _joined(
            await insert(collection, documents[:middle]), middle, await insert(collection, documents[middle:])
        )
    return Written([], {})


async def update(collection: Collection, updates: Sequence[UpdateOne]) -> dict[int, str]:
    """Apply updates, each for itself; those that can never be, and why."""
    if not updates:
        return {}
    try:
        await collection.bulk_write(list(updates), ordered=False)
    except BulkWriteError as error:
        outcome = _outcome(error)
        if outcome.present:
            raise  # two processes made the same document at once: the next try finds it
        return outcome.refused
    except _WHOLE as error:
        reason = _reason(error)
        if len(updates) == 1:
            return {0: reason}
        middle = len(updates) // 2
        refused = await update(collection, updates[:middle])
        later = await update(collection, updates[middle:])
        return refused | {middle + index: reason for index, reason in later.items()}
    return {}


def _reason(error: Exception) -> str:
    """Why a call was refused; raises again what may succeed next time."""
    if isinstance(error, OperationFailure) and error.code not in _REFUSED_FOR_GOOD:
        raise error
    return f"cannot be encoded: {error}"


def _joined(one: Written, middle: int, other: Written) -> Written:
    return Written(
        one.present + [middle + index for index in other.present],
        one.refused | {middle + index: reason for index, reason in other.refused.items()},
    )


def _outcome(error: BulkWriteError) -> Written:
    """What happened to each; raises again what may succeed next time."""
    details: dict[str, Any] = dict(error.details or {})
    written = Written([], {})
    if details.get("writeConcernErrors"):
        raise error
    for line in details.get("writeErrors", []):
        if line["code"] == _DUPLICATE:
            written.present.append(line["index"])
        elif line["code"] in _REFUSED_FOR_GOOD:
            written.refused[line["index"]] = line["errmsg"]
        else:
            raise error
    return written
