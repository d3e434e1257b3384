"""Promise 1, 3 and 6: what was answered 200 is there exactly once, whichever process was killed meanwhile."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests import stack as stacks
from tests.stack import Stack

CLIENTS = 6
MIN_ANSWERED = 100
MONGODB_AWAY_SECONDS = 30
CONFIG = {"type": "tool", "name": "counter", "source_code": "def count(): ..."}


@pytest.fixture(scope="module")
def killable_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own, because its processes get killed."""
    running = stacks.start(tmp_path_factory.mktemp("killable_stack"), "--no-model")
    yield running
    running.stop()


@dataclass
class PostedLogs:
    """The logs that clients posted, and how they were answered."""

    project: str
    project_id: str = ""
    answered: dict[int, str] = field(default_factory=dict)
    """Number → log id, for every 200."""
    by_reference: set[int] = field(default_factory=set)
    refused: Counter[int] = field(default_factory=Counter)
    last_200: float = field(default_factory=time.monotonic)
    longest_gap: float = 0.0
    next_number: int = 0


async def _client(stack: Stack, posted: PostedLogs, stop: asyncio.Event) -> None:
    """Post logs one after the other; every second one with a reference, repeated until it is answered."""
    async with httpx.AsyncClient(base_url=stack.url, headers={"X-API-KEY": stack.api_key}, timeout=30) as client:
        while not stop.is_set():
            posted.next_number += 1
            number = posted.next_number
            body: dict[str, Any] = {
                "project": posted.project,
                "config": CONFIG,
                "output": f"log {number}",
                "metadata": {"number": number},
            }
            if number % 2:
                body["reference_id"] = f"{posted.project}-{number}"
                posted.by_reference.add(number)
            while True:
                try:
                    answer = await client.post("/logs", json=body)
                except httpx.HTTPError:
                    posted.refused[0] += 1
                else:
                    if answer.status_code == 200:
                        now = time.monotonic()
                        posted.longest_gap = max(posted.longest_gap, now - posted.last_200)
                        posted.last_200 = now
                        posted.answered[number] = answer.json()["id"]
                        posted.project_id = answer.json()["project_id"]
                        break
                    posted.refused[answer.status_code] += 1
                    assert answer.status_code == 503, answer.text
                    assert int(answer.headers["Retry-After"]) >= 1
                await asyncio.sleep(0.05)


@asynccontextmanager
async def clients(stack: Stack, posted: PostedLogs) -> AsyncIterator[None]:
    """Several clients posting at the same time."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(_client(stack, posted, stop)) for _ in range(CLIENTS)]
    try:
        await asyncio.sleep(1)
        yield
        await asyncio.sleep(1)
    finally:
        stop.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)


async def _all_logs(stack: Stack, posted: PostedLogs) -> list[dict[str, Any]]:
    """Every stored log of the project, by paging through the list."""
    async with httpx.AsyncClient(base_url=stack.url, headers={"X-API-KEY": stack.api_key}, timeout=60) as client:
        await _until_all_is_stored(client, posted.project_id, len(posted.answered))
        records: list[dict[str, Any]] = []
        while True:
            query: dict[str, Any] = {"project_id": posted.project_id, "size": 1000, "page": len(records) // 1000}
            page = (await client.get("/logs", params=query)).json()
            records += page["records"]
            if len(records) >= page["total"] or not page["records"]:
                return records


async def _until_all_is_stored(client: httpx.AsyncClient, project_id: str, least: int) -> None:
    """What waited for a database may still be on its way into it; pages of a growing list overlap."""
    before, total = -1, 0
    async with asyncio.timeout(60):
        while total < least or total != before:
            await asyncio.sleep(1)
            answer = await client.get("/logs", params={"project_id": project_id, "size": 1})
            before, total = total, answer.json().get("total", 0)


async def _assert_all_stored_once(stack: Stack, posted: PostedLogs) -> None:
    await _until_ready(stack)
    records = await _all_logs(stack, posted)
    ids = Counter(record["id"] for record in records)
    assert max(ids.values()) == 1
    lost = {number for number, identifier in posted.answered.items() if identifier not in ids}
    assert not lost, f"{len(lost)} of {len(posted.answered)} answered logs are gone"
    numbers = Counter(record["metadata"]["number"] for record in records)
    repeated = {number for number in posted.by_reference if numbers[number] > 1}
    assert not repeated, f"{len(repeated)} references gave more than one log"
    assert len(posted.answered) > MIN_ANSWERED


async def _until_ready(stack: Stack) -> None:
    async with httpx.AsyncClient() as client, asyncio.timeout(60):
        while True:
            try:
                if (await client.get(f"{stack.base_url}/readyz")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("process_name", ["logging", "generation", "gateway", "nats-server", "mongod", "authz"])
async def test_every_log_answered_with_200_is_stored_once_after_the_kill_of(
    process_name: str, killable_stack: Stack
) -> None:
    await _until_ready(killable_stack)
    posted = PostedLogs(project=f"killed-{process_name}")
    before = killable_stack.status()[process_name]
    async with clients(killable_stack, posted):
        os.kill(before["pid"], signal.SIGKILL)
        await asyncio.sleep(3)
        async with asyncio.timeout(60):
            while len(posted.answered) <= MIN_ANSWERED:  # noqa: ASYNC110 - the clients tell nobody
                await asyncio.sleep(0.1)
    await _assert_all_stored_once(killable_stack, posted)
    after = killable_stack.status()[process_name]
    assert after["restarts"] == before["restarts"] + 1
    assert after["pid"] != before["pid"]


async def test_logs_are_accepted_while_mongodb_is_away_for_half_a_minute(killable_stack: Stack) -> None:
    await _until_ready(killable_stack)
    posted = PostedLogs(project="mongodb-away")
    async with clients(killable_stack, posted):
        async with asyncio.timeout(60):
            while not posted.answered:  # noqa: ASYNC110 - the clients tell nobody
                await asyncio.sleep(0.1)
        accepted_before = len(posted.answered)
        until = time.monotonic() + MONGODB_AWAY_SECONDS
        while time.monotonic() < until:
            row = await asyncio.to_thread(lambda: killable_stack.status()["mongod"])
            if row["pid"] and row["state"] != "stopped":
                try:
                    os.kill(row["pid"], signal.SIGKILL)
                except ProcessLookupError:
                    continue
            await asyncio.sleep(0.2)
        accepted_meanwhile = len(posted.answered) - accepted_before
    assert accepted_meanwhile > 100, "with MongoDB away, logs are still accepted"
    assert posted.longest_gap < 10
    await _assert_all_stored_once(killable_stack, posted)
