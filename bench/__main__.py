"""Measure throughput, latency and memory of a whole Everloop stack on this machine.

Starts a stack of its own in a temporary folder, without the local model and with
a fake OpenAI that answers at once, runs every measurement and stops the stack.
Prints one JSON object, figures and machine, to standard output; progress to
standard error.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
from dataclasses import asdict

import uvloop

from bench import access, chats, jobs, logs
from bench.stack import Stack, measure_idle, running_stack

SETTLE_SECONDS = 5.0
"""Pause between two measurements."""


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _measure(stack: Stack, scale: float) -> dict[str, object]:
    def requests(number: int) -> int:
        return max(64, int(number * scale))

    target = stack.target

    async def settle() -> None:
        """Wait, so that checkpoints and trimming after one measurement do not fall into the next."""
        await asyncio.sleep(SETTLE_SECONDS)

    _log("single logs, 32 connections …")
    single = await logs.measure_logs(target, connections=32, requests=requests(6000), batch=None)
    await settle()
    _log("logs in arrays of 50 …")
    arrays = await logs.measure_logs(target, connections=8, requests=requests(800), batch=50)
    await settle()
    figures: dict[str, object] = {"logs_single": single, "logs_arrays": arrays}
    _log("who is calling …")
    figures["access"] = await access.measure_access(stack, keys=requests(200))
    await settle()
    _log("jobs …")
    figures["jobs"] = await jobs.measure_jobs(stack, number=requests(6000))
    await settle()
    for connections, number in ((1, 400), (16, 1600), (64, 1600)):
        for stream in (False, True):
            name = f"{'stream' if stream else 'chat'}_{connections}"
            _log(f"{name.replace('_', ', ')} connections …")
            figures[name] = await chats.measure_chat(
                stack, stream=stream, connections=connections, requests=requests(number)
            )
            await settle()
    _log("memory over many calls …")
    figures["memory"] = await chats.measure_memory(stack, calls=requests(100_000))
    return figures


def main() -> None:
    """Run every measurement on a fresh stack."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="multiplies the number of requests of every measurement, at least 64 each (default: 1.0)",
    )
    parser.add_argument(
        "--idle-seconds",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long to watch the idle stack before the load (default: 30)",
    )
    arguments = parser.parse_args()
    with running_stack() as stack:
        _log(f"idle for {arguments.idle_seconds:.0f} s …")
        idle_usage = measure_idle(stack, arguments.idle_seconds)
        figures = uvloop.run(_measure(stack, arguments.scale))
        figures["idle"] = {name: round(value, 1) for name, value in asdict(idle_usage).items()}
        figures["machine"] = {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
            "note": "stack and load generator share the cores; sync_interval always",
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
