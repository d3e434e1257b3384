"""A call that was made is kept, whatever it said."""

import json
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.generation.log_writer import LogWriter
from shared.bus import Bus
from shared.contracts.logs import LogRecord


class Stream:
    """What was appended."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    async def online(self) -> None:
        """At once."""

    async def append(self, _: str, payload: bytes, **__: Any) -> int:
        self.records += json.loads(payload)
        return len(self.records)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"a": "half of a pair: \ud83d"}, "could not be written down"),
        ({"a": "x" * 8_000_000}, "too large"),
    ],
)
async def test_what_cannot_be_written_down_is_kept_without_its_content(content: dict[str, str], told: str) -> None:
    stream = Stream()
    record = LogRecord(
        id="data_1",
        organisation="tm_1",
        project_id="pr_1",
        config_id="config_1",
        created_at=datetime.now(UTC),
        prompt_tokens=1000,
        provider_response=content,
    )
    await LogWriter(cast("Bus", stream)).start_append([record])
    (kept,) = stream.records
    assert (kept["id"], kept["prompt_tokens"]) == ("data_1", 1000)
    assert "provider_response" not in kept
    assert told in kept["error"]
