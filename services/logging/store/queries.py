"""MongoDB filters and sort orders of the collection `logs`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING

from services.logging.search_patterns import json_literal_pattern, literal_pattern
from shared.contracts.logs import SearchLogs, Sort
from shared.mongo import Document

NEWEST_FIRST = (("created_at", DESCENDING), ("recorded", DESCENDING))
_SORT_FIELDS = {"source": "source", "model": "model", "timestamp": "created_at"}


def search_filter(organisation: str, query: SearchLogs) -> Document:
    """Return the filter of a search. Stubs never match: they have no project. Raises Invalid if a text is too long."""
    conditions: Document = {"organisation": organisation, "project_id": query.project_id}
    if query.start or query.end:
        conditions["created_at"] = _time_range(query.start, query.end)
    for field, values in (("source", query.sources), ("model", query.models), ("environment", query.environments)):
        if values:
            conditions[field] = {"$in": values}
    if query.search:
        conditions["$or"] = [
            {"inputs": _case_insensitive(json_literal_pattern(query.search))},
            {"output": _case_insensitive(literal_pattern(query.search))},
        ]
    if query.metadata_search:
        conditions["metadata"] = _case_insensitive(json_literal_pattern(query.metadata_search))
    return conditions


def sort_order(sort: Sequence[Sort]) -> list[tuple[str, int]]:
    """Return the fields to sort by with their directions; logs equal in all of them come newest first."""
    fields = {_SORT_FIELDS[column.column]: DESCENDING if column.descending else ASCENDING for column in sort}
    if "created_at" in fields:
        return [*fields.items(), ("recorded", fields["created_at"])]
    return [*fields.items(), *NEWEST_FIRST]


def excluding_projects(project_ids: Sequence[str]) -> Document:
    """Return a filter that excludes projects; empty without any, as a condition makes MongoDB read every document."""
    return {"project_id": {"$nin": list(project_ids)}} if project_ids else {}


def _time_range(start: datetime | None, end: datetime | None) -> dict[str, Any]:
    return {operator: time for operator, time in (("$gte", start), ("$lt", end)) if time is not None}


def _case_insensitive(pattern: str) -> dict[str, str]:
    return {"$regex": pattern, "$options": "i"}
