"""What is said about a log, as its document keeps it: the last word on each type, or label of a multi-select.

Which word is the last is decided by the order of acceptance, in the database and in one step. So it does not matter in
which order, by how many replicas and how often they are stored; and what was replaced takes no room.
"""

from typing import Any

from pydantic_core import from_json, to_json

from services.logging.entries import Entry
from services.logging.feedback import Said, said
from shared.contracts.logs import Feedback, FeedbackGiven
from shared.mongo import Document

FIELD = "said"
_NOTHING: list[Any] = []


def saying(entry: Entry[FeedbackGiven]) -> Document:
    """The expression that adds an entry to what is kept; the same entry again changes nothing."""
    fresh = {"$literal": [_kept(word) for word in said(entry)]}
    there = {"$ifNull": [f"${FIELD}", _NOTHING]}
    later, same = {"$gt": ["$$new.recorded", "$$old.recorded"]}, {"$eq": ["$$new.id", "$$old.id"]}
    replaced = {"$and": [_concerns("$$new", "$$old"), later, {"$not": [same]}]}
    too_late = {"$and": [_concerns("$$old", "$$new"), {"$or": [{"$not": [later]}, same]}]}
    return {
        "$concatArrays": [
            _filtered(there, "old", {"$not": [_any(fresh, "new", replaced)]}),
            _filtered(fresh, "new", {"$not": [_any(there, "old", too_late)]}),
        ]
    }


def said_in(document: Document) -> list[Said]:
    """The words in a document."""
    return [
        Said(
            word["type"],
            word["label"],
            word["id"],
            word["recorded"],
            None if word["feedback"] is None else Feedback.model_validate(from_json(word["feedback"])),
        )
        for word in document.get(FIELD, _NOTHING)
    ]


def _kept(word: Said) -> Document:
    text = None if word.feedback is None else to_json(word.feedback, exclude_none=True).decode()
    return {
        "type": word.type,
        "label": word.label,
        "id": word.id,
        "recorded": word.recorded,
        "feedback": text,
    }


def _concerns(later: str, earlier: str) -> Document:
    """Whether a word speaks of what the other speaks of: of all of its type, or of the same label."""
    return {
        "$and": [
            {"$eq": [f"{later}.type", f"{earlier}.type"]},
            {"$in": [f"{later}.label", [None, f"{earlier}.label"]]},
        ]
    }


def _filtered(array: Document, name: str, condition: Document) -> Document:
    return {"$filter": {"input": array, "as": name, "cond": condition}}


def _any(array: Document, name: str, condition: Document) -> Document:
    return {"$anyElementTrue": [{"$map": {"input": array, "as": name, "in": condition}}]}
