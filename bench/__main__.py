"""`make bench`: one JSON object with every figure, its spread, and what the machine is."""

import argparse
import asyncio
import json
import os
import platform
import sys
from dataclasses import asdict

import uvloop

from bench import generations, jobs, scenarios
from bench.stack import Stack, idle, running

SETTLE_SECONDS = 5.0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _measure(stack: Stack, scale: float) -> dict[str, object]:
    def requests(number: int) -> int:
        return max(64, int(number * scale))

    target = stack.target

    async def settle() -> None:
        """Checkpoints and trimming after one scenario are not measured with the next."""
        await asyncio.sleep(SETTLE_SECONDS)

    _say("single logs, 32 connections …")
    single = await scenarios.logs(target, connections=32, requests=requests(6000), batch=None)
    await settle()
    _say("logs in arrays of 50 …")
    arrays = await scenarios.logs(target, connections=8, requests=requests(800), batch=50)
    await settle()
    figures: dict[str, object] = {"logs_single": single, "logs_arrays": arrays}
    _say("jobs …")
    figures["jobs"] = await jobs.jobs(stack, number=requests(6000))
    await settle()
    for connections, number in ((1, 400), (16, 1600), (64, 1600)):
        for stream in (False, True):
            name = f"{'stream' if stream else 'chat'}_{connections}"
            _say(f"{name.replace('_', ', ')} connections …")
            figures[name] = await generations.chat(
                stack, stream=stream, connections=connections, requests=requests(number)
            )
            await settle()
    _say("memory over many calls …")
    figures["memory"] = await generations.memory(stack, calls=requests(100_000))
    return figures


def main() -> None:
    """Run every scenario once over a fresh stack."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="fewer (0.1) or more (3) requests a round")
    parser.add_argument("--idle-seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    with running() as stack:
        _say(f"idle for {arguments.idle_seconds:.0f} s …")
        at_rest = idle(stack, arguments.idle_seconds)
        figures = uvloop.run(_measure(stack, arguments.scale))
        figures["idle"] = {name: round(value, 1) for name, value in asdict(at_rest).items()}
        figures["machine"] = {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
            "note": "stack and load generator share the cores; sync_interval always",
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
