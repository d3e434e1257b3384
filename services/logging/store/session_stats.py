"""The aggregation over the collection `logs` that computes the statistics of sessions."""

from collections.abc import Sequence
from typing import Any

from pymongo import ASCENDING, DESCENDING

from services.logging.sessions import SessionStats
from services.logging.store import documents
from services.logging.store.queries import excluding_projects
from shared.mongo import Document

_GROUP_BY_SESSION_AND_PROJECT: dict[str, Any] = {
    "_id": {"session": "$session_id", "project": "$project_id"},
    "logs": {"$sum": 1},
    "updated_at": {"$max": "$updated_at"},
    "first": {
        "$top": {
            "sortBy": {"created_at": ASCENDING, "recorded": ASCENDING},
            "output": {"at": "$created_at", "recorded": "$recorded", "inputs": "$inputs"},
        }
    },
    # A missing `output_at` sorts below every date.
    "last": {
        "$top": {
            "sortBy": {"output_at": DESCENDING, "recorded": DESCENDING},
            "output": {"at": "$output_at", "recorded": "$recorded", "output": "$output"},
        }
    },
}


def stats_pipeline(organisation: str, session_ids: Sequence[str], hidden: Sequence[str]) -> list[Document]:
    """Return the pipeline that yields one row for each session and project, without the projects in `hidden`."""
    sessions = {"organisation": organisation, "session_id": {"$in": list(session_ids)}}
    return [{"$match": sessions | excluding_projects(hidden)}, {"$group": _GROUP_BY_SESSION_AND_PROJECT}]


def stats_of(row: Document) -> SessionStats:
    """Return the statistics in a row of the pipeline."""
    first, last = row["first"], row["last"]
    return SessionStats(
        session_id=row["_id"]["session"],
        project_id=row["_id"]["project"],
        log_count=row["logs"],
        first_log=(first["at"], first["recorded"]),
        first_inputs=documents.inputs_of(first),
        last_output_set=(last["at"], last["recorded"]) if last.get("at") else None,
        last_output=last.get("output"),
        updated_at=row["updated_at"],
    )
