"""An organisation builds few answers of reads at a time; what is not sent yet keeps no other read from being built."""

import asyncio

import pytest

from services.gateway.requests import reads, route
from services.gateway.requests.admission import BodyRoom
from services.gateway.requests.reads import MAX_READS, Reads
from services.gateway.responses import held_response
from shared.errors import Unavailable
from tests.unit.gateway.requests.fakes import ROOM_BYTES, FakeBlobs, create_app


async def test_an_organisation_has_so_many_reads_at_a_time_and_others_do_not_wait() -> None:
    turns, leave, inside = Reads(), asyncio.Event(), list[str]()

    async def read(organisation: str) -> None:
        async with turns.turn(organisation):
            inside.append(organisation)
            await leave.wait()

    tasks = [asyncio.create_task(read(name)) for name in ["crowd"] * (MAX_READS + 3) + ["other"]]
    await asyncio.sleep(0.01)
    assert sorted(inside) == ["crowd"] * MAX_READS + ["other"]
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    assert inside.count("crowd") == MAX_READS + 1
    leave.set()
    await asyncio.gather(*tasks[1:])
    assert turns._turns == {}


async def test_who_waits_too_long_for_a_turn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "_WAIT_SECONDS", 0.01)
    turns = Reads()
    held = [turns.turn("crowd") for _ in range(MAX_READS)]
    for turn in held:
        await turn.__aenter__()
    with pytest.raises(Unavailable, match="other reads of your organisation"):
        await turns.turn("crowd").__aenter__()
    for turn in held:
        await turn.__aexit__(None, None, None)
    assert turns._turns == {}


async def test_a_large_answer_holds_room_and_no_turn_until_it_is_sent(
    blobs: FakeBlobs, room: BodyRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "PIECE_BYTES", 100)
    monkeypatch.setattr(held_response, "PIECE_BYTES", 100)
    app, taken, go_on = create_app(blobs, room), asyncio.Event(), asyncio.Event()
    path = {"path": "/v4/repeat", "raw_path": b"/v4/repeat", "query_string": b"text=" + b"x" * 1000}
    headers = [(b"x-api-key", b"good"), (b"x-permitted", b"yes")]
    scope = {"type": "http", "method": "GET", "headers": headers, "http_version": "1.1", **path}

    async def receive() -> dict[str, object]:
        return {"type": "http.request"}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.body":
            taken.set()
            await go_on.wait()

    slow = [asyncio.create_task(app(scope, receive, send)) for _ in range(MAX_READS + 1)]  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        await taken.wait()
        while ROOM_BYTES - room.free < 2000 * len(slow):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert ROOM_BYTES - room.free < 2100 * len(slow)
    slow.pop().cancel()
    go_on.set()
    await asyncio.wait(slow)
    await asyncio.sleep(0.01)
    assert room.free == ROOM_BYTES
    assert app.state.gateway.reads._turns == {}
