"""Dead letters: headers are read as they were written, those of earlier versions too."""

from datetime import UTC, datetime

from shared.contracts.dead_letters import MAX_PAYLOAD_BYTES, DeadLetter

STORED_AT = datetime(2026, 11, 1, tzinfo=UTC)
LETTER = DeadLetter(
    subject="jobs.evaluation.run",
    payload=b"\xff{}",
    error="RateLimited",
    reason="Die Grenze ist erreicht: später.",
    last_at=datetime(2026, 10, 2, 3, 4, 5, 678, tzinfo=UTC),
    first_at=datetime(2026, 10, 1, tzinfo=UTC),
    tries=8,
    organisation="tm_1",
    trace={"traceparent": "00-1-2-01", "tracestate": "a=b"},
)


def test_a_letter_is_read_as_it_was_written() -> None:
    assert DeadLetter.from_message(LETTER.to_headers(), LETTER.payload, STORED_AT) == LETTER


def test_a_letter_of_an_earlier_version_can_be_read() -> None:
    headers = {"Everloop-Reason": "not JSON", "Everloop-Recorded": "700000", "Nats-Msg-Id": "dead-logs-700000"}
    assert DeadLetter.from_message(headers, b"x", STORED_AT) == DeadLetter(
        subject="logs.intake", payload=b"x", error="Invalid", reason="not JSON", last_at=STORED_AT
    )


def test_a_reason_is_one_short_line() -> None:
    letter = DeadLetter("jobs.a.b", b"", "Invalid", "one\r\ntwo " + "long " * 1000, STORED_AT)
    reason = letter.to_headers()["Everloop-Reason"]
    assert reason.startswith("one two long")
    assert len(reason) <= 500


def test_a_payload_over_the_limit_has_its_size_in_a_header() -> None:
    whole = DeadLetter("jobs.a.b", b"x" * MAX_PAYLOAD_BYTES, "Invalid", "no", STORED_AT)
    longer = DeadLetter("jobs.a.b", b"x" * (MAX_PAYLOAD_BYTES + 1), "Invalid", "no", STORED_AT)
    assert DeadLetter.from_message(whole.to_headers(), b"", STORED_AT).size is None
    assert DeadLetter.from_message(longer.to_headers(), b"", STORED_AT).size == MAX_PAYLOAD_BYTES + 1
