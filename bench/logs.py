"""Measures logging: logs per second until they can be read."""

import asyncio
import json
from time import perf_counter

from bench.client import Target, send_repeatedly
from bench.rounds import ROUNDS, percentile_ms, spread

_CONFIG = {"type": "model", "model": "gpt-4-1106-preview", "temperature": 0.2, "prompt_template": "Answer: {{q}}"}


def log_body(project: str, count: int | None = None) -> bytes:
    """Return one log, or an array of `count`, as JSON: about 1 kB each, with inputs, output and messages."""
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


async def _count_stored_logs(target: Target, project_id: str) -> int:
    connection = target.connect()
    _, body = await connection.request("GET", f"/v4/logs?project_id={project_id}&size=1")
    connection.close()
    return int(json.loads(body)["total"])


async def _create_project(target: Target, project: str) -> str:
    connection = target.connect()
    status, body = await connection.request("POST", "/v4/logs", log_body(project))
    connection.close()
    assert status == 200, body
    return str(json.loads(body)["project_id"])


async def measure_logs(target: Target, *, connections: int, requests: int, batch: int | None) -> dict[str, object]:
    """Return logs per second from the first request until the last log can be read, and latencies of the requests.

    `batch` is the number of logs a request, None for a single one outside an array. Every response must be 200.
    """
    project = f"bench-{connections}-{batch or 1}"
    project_id = await _create_project(target, project)
    body = log_body(project, batch)
    await send_repeatedly(target, "POST", "/v4/logs", body, connections=connections, requests=connections * 10)
    accepted, stored, p50, p99 = [], [], [], []
    for _ in range(ROUNDS):
        before = await _count_stored_logs(target, project_id)
        started = perf_counter()
        result = await send_repeatedly(target, "POST", "/v4/logs", body, connections=connections, requests=requests)
        expected = before + requests * (batch or 1)
        while await _count_stored_logs(target, project_id) < expected:  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.02)
        stored.append(requests * (batch or 1) / (perf_counter() - started))
        accepted.append(requests * (batch or 1) / result.elapsed_seconds)
        assert result.count(200) == requests, result.status_counts
        p50.append(percentile_ms(result.latencies_seconds, 0.5))
        p99.append(percentile_ms(result.latencies_seconds, 0.99))
    return {
        "stored_logs_per_second": spread(stored),
        "accepted_logs_per_second": spread(accepted),
        "request_p50_ms": spread(p50, 2),
        "request_p99_ms": spread(p99, 2),
        "connections": connections,
        "logs_per_request": batch or 1,
        "rounds": ROUNDS,
    }
