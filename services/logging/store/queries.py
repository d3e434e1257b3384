"""MongoDB filters and sort orders of the collection `logs`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING

from services.logging.store.derived_fields import filter_keys, searched_text, type_key
from services.logging.store.search_patterns import json_literal_pattern, literal_pattern
from shared.contracts.logs import SearchLogs, Sort
from shared.mongo import Document

NEWEST_FIRST = (("created_at", DESCENDING), ("recorded", DESCENDING))
_SORT_FIELDS = {"source": "source", "model": "model", "timestamp": "created_at"}


def search_filter(organisation: str, query: SearchLogs) -> Document:
    """Return the filter of a search. Stubs never match: they have no project. Raises Invalid if a text is too long."""
    conditions: Document = {"organisation": organisation, "project_id": query.project_id}
    every: list[Document] = [{"feedback_keys": {"$in": filter_keys(feedback)}} for feedback in query.feedback]
    if query.start or query.end:
        conditions["created_at"] = _time_range(query.start, query.end)
    for field, values in (("source", query.sources), ("model", query.models), ("environment", query.environments)):
        if values:
            conditions[field] = {"$in": values}
    if query.search:
        output = {"output": _case_insensitive(literal_pattern(query.search))}
        every.append({"$or": [output, *_value_conditions("search_text", "inputs", query.search)]})
    if query.metadata_search:
        every.append({"$or": _value_conditions("metadata_text", "metadata", query.metadata_search)})
    return conditions | ({"$and": every} if every else {})


def _value_conditions(text_field: str, json_field: str, term: str) -> list[Document]:
    """Return alternatives that find a term in the values of JSON. A process of an earlier version, running beside this
    one after the migration, stores no `text_field`: then the JSON text is searched."""
    return [
        {text_field: _case_insensitive(literal_pattern(searched_text(term)))},
        {text_field: {"$exists": False}, json_field: _case_insensitive(json_literal_pattern(term))},
    ]


def sort_order(sort: Sequence[Sort]) -> list[tuple[str, int]]:
    """Return the fields to sort by with their directions; logs equal in all of them come newest first.

    Of a column that is given twice the first counts: the second orders only what is equal in it.
    """
    fields: dict[str, int] = {}
    for column in sort:
        fields.setdefault(_sort_field(column), DESCENDING if column.descending else ASCENDING)
    if "created_at" in fields:
        return [*fields.items(), ("recorded", fields["created_at"])]
    return [*fields.items(), *NEWEST_FIRST]


def _sort_field(sort: Sort) -> str:
    if sort.column == "feedback":
        return f"feedback_order.{type_key(sort.feedback_type or '')}"
    return _SORT_FIELDS[sort.column]


def excluding_projects(project_ids: Sequence[str], among: Sequence[str] | None = None) -> Document:
    """Return a filter that excludes projects, and all but those in `among` if it is given; empty without any, as a
    condition makes MongoDB read every document."""
    if among is not None:
        return {"project_id": {"$in": [one for one in among if one not in project_ids]}}
    return {"project_id": {"$nin": list(project_ids)}} if project_ids else {}


def _time_range(start: datetime | None, end: datetime | None) -> dict[str, Any]:
    return {operator: time for operator, time in (("$gte", start), ("$lt", end)) if time is not None}


def _case_insensitive(pattern: str) -> dict[str, str]:
    return {"$regex": pattern, "$options": "i"}
