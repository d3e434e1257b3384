"""Measures chat calls: the latency Everloop adds to a model that answers at once, and memory over many calls."""

import json
from time import perf_counter

from bench.client import Connection, LoadResult, Target, run_load
from bench.rounds import ROUNDS, percentile_ms, spread
from bench.stack import Stack, memory_mib

_CHAT = {
    "project": "bench-chat",
    "model_config": {
        "model": "gpt-4-1106-preview",
        "temperature": 0,
        "chat_template": [{"role": "system", "content": "You are {{tone}}."}],
    },
    "inputs": {"tone": "brief"},
    "messages": [{"role": "user", "content": "How are you?"}],
}


def _body(*, stream: bool) -> bytes:
    return json.dumps(_CHAT | {"stream": stream}, separators=(",", ":")).encode()


async def _send_chats(target: Target, path: str, *, stream: bool, connections: int, requests: int) -> LoadResult:
    body = _body(stream=stream)

    async def send(connection: Connection) -> tuple[int, float]:
        if stream:
            return await connection.stream(path, body)
        status, _ = await connection.request("POST", path, body)
        return status, perf_counter()

    result = await run_load(target, send, connections=connections, requests=requests)
    assert result.count(200) == requests, result.status_counts
    return result


async def measure_chat(stack: Stack, *, stream: bool, connections: int, requests: int) -> dict[str, object]:
    """Return the latency that Everloop adds to the upstream's, and calls per second.

    The latency of a stream is the time to its first event. Every response must be 200.
    """

    async def run(target: Target, path: str, number: int) -> LoadResult:
        return await _send_chats(target, path, stream=stream, connections=connections, requests=number)

    await run(stack.target, "/v4/chat", connections * 20)
    added_p50, added_p99, rates, upstream_p50 = [], [], [], []
    for _ in range(ROUNDS):
        upstream_alone = await run(stack.upstream, "/v1/chat/completions", requests)
        result = await run(stack.target, "/v4/chat", requests)
        upstream_p50.append(percentile_ms(upstream_alone.latencies_seconds, 0.5))
        added_p50.append(
            percentile_ms(result.latencies_seconds, 0.5) - percentile_ms(upstream_alone.latencies_seconds, 0.5)
        )
        added_p99.append(
            percentile_ms(result.latencies_seconds, 0.99) - percentile_ms(upstream_alone.latencies_seconds, 0.99)
        )
        rates.append(requests / result.elapsed_seconds)
    return {
        "measured": "time to first event" if stream else "time to answer",
        "added_p50_ms": spread(added_p50, 2),
        "added_p99_ms": spread(added_p99, 2),
        "requests_per_second": spread(rates),
        "upstream_alone_p50_ms": spread(upstream_p50, 2),
        "connections": connections,
        "rounds": ROUNDS,
    }


async def measure_memory(stack: Stack, *, calls: int, connections: int = 16, parts: int = 10) -> dict[str, object]:
    """Return the memory of each service after every tenth of many calls, half of them streamed; growth shows a leak."""
    samples: list[dict[str, float]] = []
    for part in range(parts):
        await _send_chats(
            stack.target, "/v4/chat", stream=bool(part % 2), connections=connections, requests=calls // parts
        )
        samples.append(memory_mib(stack))
    names = [name for name in samples[0] if name in {"gateway", "generation", "logging", "authz", "evaluation"}]
    return {
        "calls": calls,
        "mib_after_each_tenth": {name: [round(sample[name], 1) for sample in samples] for name in names},
        "growth_of_second_half_mib": {name: round(samples[-1][name] - samples[parts // 2][name], 1) for name in names},
    }
