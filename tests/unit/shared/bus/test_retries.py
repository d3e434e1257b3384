"""Requests to JetStream are repeated when it asks for that, and only then."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.errors import ConnectionReconnectingError, NoRespondersError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError

from shared.bus import Bus
from shared.bus.jetstream import retries
from shared.errors import TooLarge, Unavailable
from shared.settings import ServiceSettings

DUPLICATE_IN_PROCESS = {"code": 409, "err_code": 10158, "description": "duplicate message id is in process"}
NO_LEADER = {"code": 503, "err_code": 10008, "description": "JetStream system temporarily unavailable"}
NO_PEERS = {"code": 400, "err_code": 10005, "description": "no suitable peers for placement"}
NOT_LEADER = {"code": 503, "description": "raft: not leader"}
FULL = {"code": 503, "err_code": 10077, "description": "maximum bytes exceeded"}
WRONG_STREAM = {"code": 400, "err_code": 10060, "description": "expected stream does not match"}


class ScriptedBus(Bus):
    """A bus whose requests get the scripted replies, one after the other: an exception, an error, or a sequence."""

    def __init__(self, replies: Iterator[object]) -> None:
        super().__init__(ServiceSettings(), "gateway")
        self.replies = replies
        self.sent: list[tuple[str, bytes, str]] = []

    async def connected_client(self) -> Any:
        class Client:
            max_payload = 1024

        return Client()

    async def send_request(
        self, subject: str, payload: bytes, *, timeout_seconds: float, headers: dict[str, str] | None = None
    ) -> Msg:
        assert timeout_seconds >= 0
        self.sent.append((subject, payload, (headers or {})["Nats-Msg-Id"]))
        reply = next(self.replies)
        if isinstance(reply, Exception):
            raise reply
        answer = {"error": reply} if isinstance(reply, dict) else {"stream": "LOGS", "seq": reply}
        return Msg(None, data=json.dumps(answer).encode())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "temporary",
    [
        *(DUPLICATE_IN_PROCESS, NO_LEADER, NO_PEERS, NOT_LEADER),
        *(NoRespondersError(), NatsTimeoutError(), ConnectionReconnectingError()),
    ],
    ids=repr,
)
async def test_an_append_that_could_not_be_decided_is_sent_again_with_the_same_message_id(temporary: object) -> None:
    bus = ScriptedBus(iter([temporary, temporary, 7]))
    assert await bus.append("logs.test", b"x", message_id="m1") == 7
    assert bus.sent == [("logs.test", b"x", "m1")] * 3


@pytest.mark.parametrize("final", [FULL, WRONG_STREAM, NatsError("permissions violation")], ids=repr)
async def test_an_append_that_is_refused_for_good_is_not_sent_again(final: object) -> None:
    bus = ScriptedBus(iter([final]))
    with pytest.raises(Unavailable):
        await bus.append("logs.test", b"x", message_id="m1")
    assert len(bus.sent) == 1


async def test_an_append_is_given_up_with_the_last_reason_when_its_time_is_over() -> None:
    bus = ScriptedBus(iter([DUPLICATE_IN_PROCESS] * 100))
    with pytest.raises(Unavailable, match="duplicate message id is in process"):
        await bus.append("logs.test", b"x", message_id="m1", timeout_seconds=0.2)
    assert 2 < len(bus.sent) < 10, "with growing delays"


async def test_an_append_over_the_limit_is_not_sent() -> None:
    bus = ScriptedBus(iter([]))
    with pytest.raises(TooLarge):
        await bus.append("logs.test", b"x" * 1024, message_id="m1")
    assert bus.sent == []


async def test_attempts_are_given_growing_times_that_end_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_ATTEMPT_SECONDS", 0.05)
    given: list[float] = []

    async def attempt(seconds: float) -> None:
        given.append(seconds)
        raise NatsTimeoutError

    with pytest.raises(NatsTimeoutError):
        await retries.retry_temporary(attempt, 0.3)
    assert given[:2] == pytest.approx([0.05, 0.1], abs=0.001)
    assert max(given) <= 0.3
