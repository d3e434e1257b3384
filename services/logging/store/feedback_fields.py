"""What is said about a log, as its document keeps it: the last word on each type, or label of a multi-select.

Which word is the last is decided by the order of acceptance, in the database and in one step. So it does not matter in
which order, by how many replicas and how often they are stored; and what was replaced takes no room.
"""

import hashlib
from collections.abc import Iterable

from pydantic_core import from_json, to_json

from services.logging.decoding import Entry
from services.logging.feedback_state import Said, said
from shared.contracts.logs import Feedback, FeedbackGiven
from shared.mongo import Document

FIELD = "said"


def saying(entries: Iterable[Entry[FeedbackGiven]]) -> Document:
    """The fields that entries on one log set; the same entry again changes nothing."""
    last: dict[str, Said] = {}
    for word in (word for entry in entries for word in said(entry)):
        place = f"{FIELD}.{_thing(word)}"
        if place not in last or last[place].recorded < word.recorded:
            last[place] = word
    return {place: _unless_outdated(place, word) for place, word in last.items()}


def said_in(document: Document) -> list[Said]:
    """The words in a document, in no particular order."""
    return [
        Said(
            word["type"],
            word["label"],
            word["id"],
            word["recorded"],
            word["place"],
            None if word["feedback"] is None else Feedback.model_validate(from_json(word["feedback"])),
        )
        for word in document.get(FIELD, {}).values()
    ]


def _thing(word: Said) -> str:
    """What a word is about, as the name of a field: types and labels may have dots and dollars, and be long."""
    thing = to_json([word.type, word.label])
    return hashlib.sha256(thing).hexdigest()[:32]


def _unless_outdated(place: str, word: Said) -> Document:
    feedback = None if word.feedback is None else to_json(word.feedback, exclude_none=True).decode()
    kept = word._asdict() | {"feedback": feedback}
    newer = {"$and": [{"$gt": [word.recorded, f"${place}.recorded"]}, {"$ne": [word.id, f"${place}.id"]}]}
    return {"$cond": [newer, {"$literal": kept}, f"${place}"]}
