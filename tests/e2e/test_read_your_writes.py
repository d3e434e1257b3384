"""Promise 2: what was just written is read at once, five hundred times under load."""

import asyncio
from typing import Any

import httpx

from tests.calls import reference
from tests.stack import Stack

READERS = 5
ROUNDS_EACH = 100
LOAD_WRITERS = 4


def body(project: str, **fields: Any) -> dict[str, Any]:
    """A small log."""
    config = {"type": "tool", "name": "writer", "source_code": "def write(): ..."}
    return {"project": project, "config": config, "inputs": {"x": 1}} | fields


async def _load(client: httpx.AsyncClient, stop: asyncio.Event) -> int:
    sent = 0
    while not stop.is_set():
        answer = await client.post("/logs", json=[body("load", output=f"{sent}-{index}") for index in range(20)])
        assert answer.status_code == 200
        sent += 20
    return sent


async def _reader(client: httpx.AsyncClient, number: int) -> list[str]:
    misses = []
    for turn in range(ROUNDS_EACH):
        session, output = reference(), f"reader {number} turn {turn}"
        created = await client.post("/logs", json=body(f"reader-{number}", output=output, session_reference_id=session))
        log = created.json()
        by_id = await client.get(f"/logs/{log['id']}")
        response = await client.get("/logs", params={"project_id": log["project_id"], "size": 1})
        in_session = await client.get(f"/sessions/{log['session_id']}")
        if by_id.status_code != 200 or by_id.json()["output"] != output:
            misses.append(f"get, turn {turn}: {by_id.status_code}")
        if response.status_code != 200 or [record["id"] for record in response.json()["records"]] != [log["id"]]:
            misses.append(f"list, turn {turn}: {response.status_code}")
        if in_session.status_code != 200 or in_session.json()["last_output"] != output:
            misses.append(f"session, turn {turn}: {in_session.status_code}")
    return misses


async def test_a_log_is_read_right_after_it_was_accepted_under_load(stack: Stack) -> None:
    headers = {"X-API-KEY": stack.api_key}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as client:
        stop = asyncio.Event()
        load = [asyncio.create_task(_load(client, stop)) for _ in range(LOAD_WRITERS)]
        try:
            found = await asyncio.gather(*(_reader(client, number) for number in range(READERS)))
        finally:
            stop.set()
        sent = sum(await asyncio.gather(*load))
    assert [miss for misses in found for miss in misses] == []
    assert sent > 1000, "there was no load to speak of"
