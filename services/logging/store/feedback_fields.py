"""What is said about a log, as its document keeps it: the last word on each type, or label of a multi-select.

Which word is the last is decided by the order of acceptance, in the database and in one step. So it does not matter in
which order, by how many replicas and how often they are stored; and what was replaced takes no room.
"""

import hashlib
from collections.abc import Iterable

from pydantic_core import from_json, to_json

from services.logging.decoding import Entry
from services.logging.feedback_state import FeedbackState, feedback_states
from shared.contracts.logs import Feedback, FeedbackGiven
from shared.mongo import Document

FIELD = "said"


def feedback_updates(entries: Iterable[Entry[FeedbackGiven]]) -> Document:
    """The fields that entries on one log set; the same entry again changes nothing."""
    last: dict[str, FeedbackState] = {}
    for state in (state for entry in entries for state in feedback_states(entry)):
        place = f"{FIELD}.{_thing(state)}"
        if place not in last or last[place].recorded < state.recorded:
            last[place] = state
    return {place: _unless_outdated(place, state) for place, state in last.items()}


def feedback_states_in(document: Document) -> list[FeedbackState]:
    """The words in a document, in no particular order."""
    return [
        FeedbackState(
            state["type"],
            state["label"],
            state["id"],
            state["recorded"],
            state["place"],
            None if state["feedback"] is None else Feedback.model_validate(from_json(state["feedback"])),
        )
        for state in document.get(FIELD, {}).values()
    ]


def _thing(state: FeedbackState) -> str:
    """What a word is about, as the name of a field: types and labels may have dots and dollars, and be long."""
    thing = to_json([state.type, state.label])
    return hashlib.sha256(thing).hexdigest()[:32]


def _unless_outdated(place: str, state: FeedbackState) -> Document:
    feedback = None if state.feedback is None else to_json(state.feedback, exclude_none=True).decode()
    kept = state._asdict() | {"feedback": feedback}
    newer = {"$and": [{"$gt": [state.recorded, f"${place}.recorded"]}, {"$ne": [state.id, f"${place}.id"]}]}
    return {"$cond": [newer, {"$literal": kept}, f"${place}"]}
