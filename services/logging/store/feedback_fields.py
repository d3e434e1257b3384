"""Feedback states in a log's document: the last accepted state of each type, or of each label of a multi-select type.

The state accepted last wins, decided by the database in one step. So states may be stored in any order, repeatedly and
by any number of replicas; and a replaced state takes no room.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from pydantic_core import from_json, to_json

from services.logging.decoding import Entry
from services.logging.feedback_state import FeedbackState, feedback_states
from shared.contracts.logs import Feedback, FeedbackGiven
from shared.mongo import Document

STATES_FIELD = "said"
"""Name of the field in stored documents: an object of states by `_state_key`."""


def state_expressions(entries: Iterable[Entry[FeedbackGiven]]) -> Document:
    """Return the `$set` expressions, by path, that add the states of `entries` on one log; they may be repeated."""
    latest: dict[str, FeedbackState] = {}
    for state in (state for entry in entries for state in feedback_states(entry)):
        path = f"{STATES_FIELD}.{_state_key(state)}"
        if path not in latest or latest[path].position < state.position:
            latest[path] = state
    return {path: _replace_if_newer(path, state) for path, state in latest.items()}


def states_of(document: Document) -> list[FeedbackState]:
    """Return the states in a document, in no particular order."""
    return [_state_of(stored) for stored in document.get(STATES_FIELD, {}).values()]


def _state_of(stored: dict[str, Any]) -> FeedbackState:
    return FeedbackState(
        type=stored["type"],
        label=stored["label"],
        id=stored["id"],
        position=stored["recorded"],
        label_index=stored["place"],
        feedback=None if stored["feedback"] is None else Feedback.model_validate(from_json(stored["feedback"])),
    )


def _stored_state(state: FeedbackState) -> dict[str, Any]:
    return {
        "type": state.type,
        "label": state.label,
        "id": state.id,
        "recorded": state.position,
        "place": state.label_index,
        "feedback": None if state.feedback is None else to_json(state.feedback, exclude_none=True).decode(),
    }


def _state_key(state: FeedbackState) -> str:
    """Return a hash of type and label as a field name: they may contain dots and dollars, and be long."""
    return hashlib.sha256(to_json([state.type, state.label])).hexdigest()[:32]


def _replace_if_newer(path: str, state: FeedbackState) -> Document:
    """Return the expression that sets `path` to `state` if what is there was accepted earlier, as another feedback."""
    newer = {"$and": [{"$gt": [state.position, f"${path}.recorded"]}, {"$ne": [state.id, f"${path}.id"]}]}
    return {"$cond": [newer, {"$literal": _stored_state(state)}, f"${path}"]}
