"""What a call to a model costs beside the model: with an upstream that answers at once, it is all there is."""

import json
from time import perf_counter

from bench.client import Connection, Tally, Target, repeat
from bench.scenarios import ROUNDS, percentile, spread
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


async def _chats(target: Target, path: str, *, stream: bool, connections: int, requests: int) -> Tally:
    body = _body(stream=stream)

    async def ask(connection: Connection) -> tuple[int, float]:
        if stream:
            return await connection.first_piece(path, body)
        status, _ = await connection.request("POST", path, body)
        return status, perf_counter()

    tally = await repeat(target, ask, connections=connections, requests=requests)
    assert tally.count(200) == requests, tally.statuses
    return tally


async def chat(stack: Stack, *, stream: bool, connections: int, requests: int) -> dict[str, object]:
    """Latency that Everloop adds, and calls per second. Of a stream the latency is that of its first event."""

    async def run(target: Target, path: str, number: int) -> Tally:
        return await _chats(target, path, stream=stream, connections=connections, requests=number)

    await run(stack.target, "/v4/chat", connections * 20)
    p50, p99, rates, direct = [], [], [], []
    for _ in range(ROUNDS):
        alone = await run(stack.upstream, "/v1/chat/completions", requests)
        tally = await run(stack.target, "/v4/chat", requests)
        direct.append(percentile(alone.seconds, 0.5))
        p50.append(percentile(tally.seconds, 0.5) - percentile(alone.seconds, 0.5))
        p99.append(percentile(tally.seconds, 0.99) - percentile(alone.seconds, 0.99))
        rates.append(requests / tally.elapsed_seconds)
    return {
        "measured": "time to first event" if stream else "time to answer",
        "added_p50_ms": spread(p50, 2),
        "added_p99_ms": spread(p99, 2),
        "requests_per_second": spread(rates),
        "upstream_alone_p50_ms": spread(direct, 2),
        "connections": connections,
        "rounds": ROUNDS,
    }


async def memory(stack: Stack, *, calls: int, connections: int = 16, parts: int = 10) -> dict[str, object]:
    """Memory of each service after every tenth of many calls, half of them streamed. Flat, or something leaks."""
    course: list[dict[str, float]] = []
    for part in range(parts):
        await _chats(stack.target, "/v4/chat", stream=bool(part % 2), connections=connections, requests=calls // parts)
        course.append(memory_mib(stack))
    names = [name for name in course[0] if name in {"gateway", "generation", "logging", "authz", "evaluation"}]
    return {
        "calls": calls,
        "mib_after_each_tenth": {name: [round(at[name], 1) for at in course] for name in names},
        "growth_of_second_half_mib": {name: round(course[-1][name] - course[parts // 2][name], 1) for name in names},
    }
