"""Failures of providers become problems by their status."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.providers import errors
from shared.errors import Problem


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (400, 422),
        (401, 401),
        (402, 422),
        (403, 401),
        (404, 422),
        (408, 502),
        (413, 422),
        (422, 422),
        (424, 502),
        (429, 429),
        (500, 502),
        (502, 502),
        (503, 503),
        (504, 502),
        (529, 503),
    ],
)
def test_the_status_decides(theirs: int, ours: int) -> None:
    problem = errors.from_status("OpenAI", theirs, "because")
    assert (problem.status, problem.message, problem.origin) == (ours, "because", "OpenAI")


def test_a_redirect_says_that_the_address_is_wrong() -> None:
    problem = errors.from_status("OpenAI", 307, None)
    assert (problem.status, problem.message) == (
        422,
        "OpenAI has moved (status 307): its address is not the right one.",
    )


@pytest.mark.parametrize("make", [errors.invalid_response, errors.response_withheld, errors.prompt_blocked])
def test_long_messages_are_truncated(make: Callable[[str, str], Problem]) -> None:
    assert len(make("OpenAI", "x" * 1_000_000).message) == 2_000


@pytest.mark.parametrize(
    ("status", "detail", "ours"),
    [
        (400, "API key not valid. Please pass a valid API key.", 401),
        (400, "API Key not found. Please pass a valid API key.", 401),
        (400, "API key expired. Please renew the API key.", 401),
        (400, "The tool says: API key not valid.", 422),
        (500, "API key not valid.", 502),
    ],
)
def test_a_wrong_google_key_is_unauthenticated_despite_status_400(status: int, detail: str, ours: int) -> None:
    assert errors.from_status("Google", status, detail).status == ours


def test_an_error_without_a_message_names_its_status() -> None:
    assert "418" in errors.from_status("Groq", 418, None).message


def test_long_details_are_truncated() -> None:
    assert len(errors.from_status("Groq", 400, "x" * 10_000).message) == 2_000


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0.5", 0.5), ("soon", None), ("-1", None), (None, None)])
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    assert errors.retry_after_seconds(header) == seconds
    assert errors.from_status("OpenAI", 429, "slow down", header).retry_after_seconds == seconds


def test_retry_after_as_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < (errors.retry_after_seconds(soon) or 0) <= 30
    assert errors.retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert errors.retry_after_seconds("Fri, 31 Dec 9999 23:59:59 -0100") is None


@given(st.text(max_size=20))
def test_any_header_is_parsed_or_ignored(header: str) -> None:
    seconds = errors.retry_after_seconds(header)
    assert seconds is None or seconds >= 0


def test_a_key_is_masked() -> None:
    assert errors.mask_key("Incorrect key sk-1 (sk-1)", "sk-1") == "Incorrect key *** (***)"
    assert errors.mask_key("no key", None) == "no key"
    parts = "AKIAABCDEFGH:secretsecret:sessiontoken"
    assert (
        errors.mask_key("x-amz-security-token:sessiontoken for AKIAABCDEFGH", parts)
        == "x-amz-security-token:*** for ***"
    )
    assert errors.mask_key("a b", "a:b") == "a b"
