"""Months in UTC, as `2026-11`."""

from datetime import UTC, datetime


def month_of(moment: datetime) -> str:
    """Return the month of a moment, which has a time zone."""
    return f"{moment.astimezone(UTC):%Y-%m}"


def title(month: str) -> str:
    """Return a month as people write it: `November 2026`."""
    return f"{datetime.strptime(month, '%Y-%m').replace(tzinfo=UTC):%B %Y}"


def seconds_left(moment: datetime) -> float:
    """Return the seconds from a moment to the end of its month."""
    moment = moment.astimezone(UTC)
    year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
    return (datetime(year, month, 1, tzinfo=UTC) - moment).total_seconds()
