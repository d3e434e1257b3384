"""A search as a MongoDB condition and order."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING

from services.logging.filters import in_json, in_plain
from shared.contracts.logs import SearchLogs, Sort
from shared.mongo import Document

_COLUMNS = {"source": "source", "model": "model", "timestamp": "created_at"}
_NEWEST_FIRST = (("created_at", DESCENDING), ("recorded", DESCENDING))


def condition(organisation: str, query: SearchLogs) -> Document:
    """What a log must fulfil. Stubs never do: they have no project."""
    wanted: Document = {"organisation": organisation, "project_id": query.project_id}
    if query.start or query.end:
        wanted["created_at"] = _between(query.start, query.end)
    for column, values in (("source", query.sources), ("model", query.models), ("environment", query.environments)):
        if values:
            wanted[column] = {"$in": values}
    if query.search:
        wanted["$or"] = [{"inputs": _pattern(in_json(query.search))}, {"output": _pattern(in_plain(query.search))}]
    if query.metadata_search:
        wanted["metadata"] = _pattern(in_json(query.metadata_search))
    return wanted


def order(sort: Sequence[Sort]) -> list[tuple[str, int]]:
    """The columns asked for, in order; newest first among equals."""
    columns = {_COLUMNS[one.column]: DESCENDING if one.descending else ASCENDING for one in sort}
    if "created_at" in columns:
        return [*columns.items(), ("recorded", columns["created_at"])]
    return [*columns.items(), *_NEWEST_FIRST]


def _between(start: datetime | None, end: datetime | None) -> dict[str, Any]:
    return {operator: time for operator, time in (("$gte", start), ("$lt", end)) if time is not None}


def _pattern(literal: str) -> dict[str, str]:
    return {"$regex": literal, "$options": "i"}
