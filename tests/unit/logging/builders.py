"""Builders of records with defaults, so that a test names only the fields it is about."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bson import json_util

from services.logging.decoding import Entry
from shared.contracts.logs import FeedbackGiven, LogRecord, LogUpdate

START = datetime(2023, 11, 28, 10, 0, tzinfo=UTC)


def log(log_id: str = "data_1", *, seconds: float = 0, **fields: Any) -> LogRecord:
    """Return a log created `seconds` after `START`."""
    values: dict[str, Any] = {
        "id": log_id,
        "organisation": "tm_1",
        "project_id": "pr_1",
        "config_id": "config_1",
        "created_at": START + timedelta(seconds=seconds),
    }
    return LogRecord.model_validate(values | fields)


def update(log_id: str = "data_1", *, seconds: float = 60, **fields: Any) -> LogUpdate:
    """Return an update of a log, accepted `seconds` after `START`."""
    values: dict[str, Any] = {"id": log_id, "organisation": "tm_1", "at": START + timedelta(seconds=seconds)}
    return LogUpdate.model_validate(values | fields)


def feedback(feedback_id: str = "ann_1", *, seconds: float = 60, **fields: Any) -> FeedbackGiven:
    """Return feedback on a log, of the type `rating` by default, accepted `seconds` after `START`."""
    at = START + timedelta(seconds=seconds)
    values: dict[str, Any] = {"id": feedback_id, "organisation": "tm_1", "log_id": "data_1", "type": "rating"}
    return FeedbackGiven.model_validate(values | {"created_at": at, "at": at} | fields)


def entries(*logs: LogRecord) -> list[Entry[LogRecord]]:
    """Return entries of logs with the positions 1, 2, …"""
    return [Entry(position, record) for position, record in enumerate(logs, start=1)]


def golden_documents() -> dict[str, dict[str, Any]]:
    """Return documents as an earlier version stored them.

    A log with an update and feedback, a log with an unresolved session, a session, and a pending deletion.
    """
    text = (Path(__file__).parent / "golden" / "documents.json").read_text()
    documents: dict[str, dict[str, Any]] = json_util.loads(
        text, json_options=json_util.JSONOptions(tz_aware=True, tzinfo=UTC)
    )
    return documents
