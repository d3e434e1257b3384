"""Months begin and end in UTC."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.generation.usage import months


@pytest.mark.parametrize(
    ("moment", "month"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), "2026-11"),
        (datetime(2026, 12, 1, tzinfo=UTC), "2026-12"),
        (datetime(2026, 12, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), "2026-11"),
        (datetime(2026, 12, 31, 23, 0, tzinfo=timezone(timedelta(hours=-5))), "2027-01"),
    ],
)
def test_a_moment_is_in_the_month_of_utc(moment: datetime, month: str) -> None:
    assert months.month_of(moment) == month


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), 1),
        (datetime(2026, 12, 31, 12, tzinfo=UTC), 12 * 3600),
        (datetime(2028, 2, 29, tzinfo=UTC), 86_400),
        (datetime(2027, 2, 28, tzinfo=UTC), 86_400),
        (datetime(2026, 11, 1, tzinfo=UTC), 30 * 86_400),
        (datetime(2026, 12, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), 1800),
    ],
)
def test_seconds_left_of_a_month(moment: datetime, seconds: float) -> None:
    assert months.seconds_left(moment) == seconds


def test_the_title_of_a_month() -> None:
    assert months.title("2026-11") == "November 2026"
