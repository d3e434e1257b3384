"""What is measured. Every scenario runs several rounds, so that a figure comes with its spread."""

import asyncio
import json
import statistics
from time import perf_counter

from bench.client import Target, hammer

ROUNDS = 5
_CONFIG = {"type": "model", "model": "gpt-4-1106-preview", "temperature": 0.2, "prompt_template": "Answer: {{q}}"}


def log_body(project: str, count: int | None = None) -> bytes:
    """One log, or an array of `count`, of a size that is usual: about 1 kB with inputs, output and messages."""
    entry = {
        "project": project,
        "config": _CONFIG,
        "inputs": {"q": "Which country won Eurovision 2023?", "context": "Loreen sang for Sweden in Liverpool. " * 12},
        "messages": [{"role": "user", "content": "Which country won Eurovision 2023?"}],
        "output": "Sweden won the Eurovision Song Contest 2023 in Liverpool with the song Tattoo. " * 3,
        "duration": 0.8,
        "metadata": {"customer": "c-1", "release": "2026.11"},
        "source": "bench",
    }
    return json.dumps(entry if count is None else [entry] * count).encode()


def spread(values: list[float], digits: int = 1) -> dict[str, float]:
    """Median, least and greatest of the rounds."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def percentile(seconds: list[float], share: float) -> float:
    """In milliseconds."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


async def _stored(target: Target, project_id: str) -> int:
    connection = target.connect()
    _, body = await connection.request("GET", f"/v4/logs?project_id={project_id}&size=1")
    connection.close()
    return int(json.loads(body)["total"])


async def _project_id(target: Target, project: str) -> str:
    connection = target.connect()
    status, body = await connection.request("POST", "/v4/logs", log_body(project))
    connection.close()
    assert status == 200, body
    return str(json.loads(body)["project_id"])


async def logs(target: Target, *, connections: int, requests: int, batch: int | None) -> dict[str, object]:
    """Logs per second from the first request until the last log can be read; every answer must be 200."""
    project = f"bench-{connections}-{batch or 1}"
    project_id = await _project_id(target, project)
    body = log_body(project, batch)
    await hammer(target, "POST", "/v4/logs", body, connections=connections, requests=connections * 10)
    accepted, stored, p50, p99 = [], [], [], []
    for _ in range(ROUNDS):
        before = await _stored(target, project_id)
        started = perf_counter()
        tally = await hammer(target, "POST", "/v4/logs", body, connections=connections, requests=requests)
        wanted = before + requests * (batch or 1)
        while await _stored(target, project_id) < wanted:  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.02)
        stored.append(requests * (batch or 1) / (perf_counter() - started))
        accepted.append(requests * (batch or 1) / tally.elapsed_seconds)
        assert tally.count(200) == requests, tally.statuses
        p50.append(percentile(tally.seconds, 0.5))
        p99.append(percentile(tally.seconds, 0.99))
    return {
        "stored_logs_per_second": spread(stored),
        "accepted_logs_per_second": spread(accepted),
        "request_p50_ms": spread(p50, 2),
        "request_p99_ms": spread(p99, 2),
        "connections": connections,
        "logs_per_request": batch or 1,
        "rounds": ROUNDS,
    }
