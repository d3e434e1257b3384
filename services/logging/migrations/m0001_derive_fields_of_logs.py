"""Adds the derived fields (services/logging/store/derived_fields.py) to the logs of earlier versions, which have none.

It reads every log once. Logs are accepted meanwhile, and can be read when it is done.
"""

import logging

from pydantic import ValidationError
from pymongo import UpdateOne

from services.logging.store import derived_fields, documents, feedback_fields
from services.logging.store.bulk_writes import CHUNK_SIZE, update_many
from shared.mongo import Database, Document

logger = logging.getLogger(__name__)

_DERIVED = ("search_text", "metadata_text", "feedback_keys", "blobs")
_MAX_CHARACTERS_PER_WRITE = 4_000_000
"""Of derived texts in memory: a log may have 2 MB of them."""


async def run(database: Database) -> None:
    """Add the fields to every log without any; a repeat goes on where an earlier run was killed."""
    logs = database["logs"]
    condition = {"recorded": {"$exists": True}} | {name: {"$exists": False} for name in _DERIVED}
    updates: list[UpdateOne] = []
    characters = 0
    async for document in logs.find(condition, batch_size=CHUNK_SIZE):
        try:
            fields = _derived_fields_of(document)
        except ValidationError as error:
            logger.warning("log %s cannot be read: %s", document["_id"], error.error_count())
            continue
        if fields:
            states = feedback_fields.STATES_FIELD
            unchanged = {name: document.get(name, {"$exists": False}) for name in ("recorded", states)}
            updates.append(UpdateOne({"_id": document["_id"]} | unchanged, {"$set": fields}))
            characters += sum(len(fields.get(name, "")) for name in ("search_text", "metadata_text"))
        if len(updates) == CHUNK_SIZE or characters >= _MAX_CHARACTERS_PER_WRITE:
            await update_many(logs, updates)
            updates.clear()
            characters = 0
    await update_many(logs, updates)


def _derived_fields_of(document: Document) -> Document:
    states = document.get(feedback_fields.STATES_FIELD, {})
    said = {str(number): state["feedback"] for number, state in enumerate(states.values())}
    return {
        **derived_fields.text_fields(documents.log_of(document)),
        **derived_fields.feedback_fields(documents.feedback_of(document)),
        **derived_fields.blob_fields(document | said),
    }
