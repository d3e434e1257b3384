"""Starts the stack to measure: real servers on a fresh data folder, with `bench.upstream` in place of OpenAI."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.client import Target

_MIB = 1024 * 1024
_EVERLOOP = Path(sys.executable).parent / "everloop"


@dataclass(frozen=True)
class Stack:
    """A running stack and its upstream."""

    target: Target
    """The gateway."""
    upstream: Target
    """The server that the stack takes for OpenAI."""
    folder: Path
    """The data folder."""

    def pids(self) -> dict[str, int]:
        """Return process ids by the name of the component, without the local model."""
        return {row["name"]: row["pid"] for row in self._components() if row["name"] != "model" and row["pid"]}

    def bus_login(self) -> tuple[str, str]:
        """Return the URL of the stack's NATS and the operator's password."""
        port = next(row["port"] for row in self._components() if row["name"] == "nats-server")
        secrets = json.loads((self.folder / "secrets.json").read_text())
        return f"nats://127.0.0.1:{port}", secrets["bus_passwords"]["operator"]

    def _components(self) -> list[dict[str, Any]]:
        command = [str(_EVERLOOP), "status", "--json", "--data", str(self.folder)]
        rows: list[dict[str, Any]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return rows

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the stack and its supervisor, without the local model and the load generator."""
        pids = set(self.pids().values())
        pids |= {psutil.Process(pid).ppid() for pid in pids}
        return [psutil.Process(pid) for pid in pids if pid > 1 and pid != os.getpid()]


@contextmanager
def running_stack() -> Iterator[Stack]:
    """Start a stack and yield it; stop it and delete its data afterwards."""
    upstream = subprocess.Popen([sys.executable, "-m", "bench.upstream"], stdout=subprocess.PIPE, text=True)
    assert upstream.stdout is not None
    upstream_url = f"http://127.0.0.1:{int(upstream.stdout.readline())}"
    with tempfile.TemporaryDirectory(prefix="everloop-bench-") as temporary:
        folder = Path(temporary)
        environment = os.environ | {"OPENAI_BASE_URL": f"{upstream_url}/v1", "OPENAI_API_KEY": "sk-bench"}
        try:
            subprocess.run(
                [str(_EVERLOOP), "up", "--detach", "--no-model", "--port", "0", "--data", str(folder)],
                check=True,
                env=environment,
                stdout=sys.stderr,
            )
            credentials = json.loads((folder / "credentials.json").read_text())
            url = credentials["url"].removesuffix("/v4")
            yield Stack(Target(url, credentials["api_key"]), Target(upstream_url, "none"), folder)
        finally:
            subprocess.run([str(_EVERLOOP), "down", "--data", str(folder)], check=False, stdout=sys.stderr)
            upstream.terminate()
            upstream.wait()


def memory_mib(stack: Stack) -> dict[str, float]:
    """Return the memory of every component in MiB, by name: its proportional share (PSS), shared pages counted once."""
    return {name: psutil.Process(pid).memory_full_info().pss / _MIB for name, pid in stack.pids().items()}


@dataclass(frozen=True)
class IdleUsage:
    """Processor and memory use of a stack without requests."""

    cpu_percent: float
    """Of one core."""
    rss_mib: float
    """Resident memory, shared pages counted in every process."""
    pss_mib: float
    """Resident memory, shared pages counted once."""


def measure_idle(stack: Stack, seconds: float) -> IdleUsage:
    """Return what the stack uses on average over `seconds`."""
    processes = stack.processes()

    def cpu_seconds() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    before, started = cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    cpu_percent = (cpu_seconds() - before) / (time.monotonic() - started) * 100
    memory = [process.memory_full_info() for process in processes]
    return IdleUsage(cpu_percent, sum(item.rss for item in memory) / _MIB, sum(item.pss for item in memory) / _MIB)
