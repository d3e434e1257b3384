"""Records with defaults, so that a test names only what it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from services.logging.decoding import Entry
from shared.contracts.logs import FeedbackGiven, LogRecord, LogUpdate

START = datetime(2023, 11, 28, 10, 0, tzinfo=UTC)


def log(log_id: str = "data_1", *, seconds: float = 0, **fields: Any) -> LogRecord:
    """A log, `seconds` after the start of the tests' time."""
    values: dict[str, Any] = {
        "id": log_id,
        "organisation": "tm_1",
        "project_id": "pr_1",
        "config_id": "config_1",
        "created_at": START + timedelta(seconds=seconds),
    }
    return LogRecord.model_validate(values | fields)


def update(log_id: str = "data_1", *, seconds: float = 60, **fields: Any) -> LogUpdate:
    """An update of a log."""
    values: dict[str, Any] = {"id": log_id, "organisation": "tm_1", "at": START + timedelta(seconds=seconds)}
    return LogUpdate.model_validate(values | fields)


def given(feedback_id: str = "ann_1", *, seconds: float = 60, **fields: Any) -> FeedbackGiven:
    """Feedback on a log, a rating unless it says otherwise."""
    at = START + timedelta(seconds=seconds)
    values: dict[str, Any] = {"id": feedback_id, "organisation": "tm_1", "log_id": "data_1", "type": "rating"}
    return FeedbackGiven.model_validate(values | {"created_at": at, "at": at} | fields)


def entries(*logs: LogRecord) -> list[Entry[LogRecord]]:
    """Logs in the order of acceptance."""
    return [Entry(place, one) for place, one in enumerate(logs, start=1)]
