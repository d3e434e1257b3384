"""One child process: started, restarted with backoff when it ends, stopped with SIGTERM and then SIGKILL."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from enum import StrEnum

from deploy.local.errors import CommandError
from deploy.local.folder import Folder
from deploy.local.supervisor.component import Component
from deploy.local.supervisor.spawn import spawn

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
"""The delay before a restart: 0.2, 0.4, 0.8 ... 10 seconds."""
BACKOFF_RESET_SECONDS = 60.0
"""A process that ran for longer than this is restarted after the first delay again."""
MAX_FAILED_STARTS = 3
"""A process that ends so often before it was ready for the first time is not restarted."""

REPORTED_LINES = 4
"""Lines of the log in the error; a validation error of pydantic takes four."""


class State(StrEnum):
    """State of a child process, as `everloop status` shows it."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPED = "stopped"


class Child:
    """Runs one component's process; after a restart it is another process of the same component."""

    def __init__(self, component: Component, folder: Folder, on_state_change: Callable[["Child"], None]) -> None:
        self.component = component
        self.log = folder.log(component.name)
        self.state = State.STARTING
        self.restarts = 0
        self.was_ready = asyncio.Event()
        """Set when the process is ready for the first time; never cleared."""
        self.last_exit_code: int | None = None
        self.delay_seconds = FIRST_DELAY_SECONDS
        self._on_state_change = on_state_change
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Process id, or None while no process runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def run(self) -> None:
        """Start the process and restart it whenever it ends, until cancelled.

        Raises CommandError if the command cannot be executed, or ends MAX_FAILED_STARTS times before it was ready.
        """
        while True:
            started = time.monotonic()
            process = self._process = await self._start()
            self._set_state(self.state)
            self.last_exit_code = await self._wait_for_exit(process)
            if not self.was_ready.is_set() and self.restarts + 1 >= MAX_FAILED_STARTS:
                raise CommandError(self._exit_report())
            if time.monotonic() - started > BACKOFF_RESET_SECONDS:
                self.delay_seconds = FIRST_DELAY_SECONDS
            self.restarts += 1
            self._set_state(State.RESTARTING)
            await asyncio.sleep(self.delay_seconds)
            self.delay_seconds = min(self.delay_seconds * 2, LONGEST_DELAY_SECONDS)

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after the component's `stop_timeout_seconds`; return when the process has ended."""
        if self._process is not None and self._process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(self.component.stop_timeout_seconds):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
                await self._process.wait()
        self._set_state(State.STOPPED)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            return await spawn(self.component.command, self.component.environment, self.log)
        except OSError as error:
            raise CommandError(
                f"{self.component.name} cannot be run: {error}. {self.component.remedy}".rstrip()
            ) from None

    async def _wait_for_exit(self, process: asyncio.subprocess.Process) -> int:
        """Return the exit code; meanwhile the state becomes READY when the process is."""
        readiness = asyncio.create_task(self._wait_ready(), name=f"readiness of {self.component.name}")
        try:
            return await process.wait()
        finally:
            readiness.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await readiness

    async def _wait_ready(self) -> None:
        await self.component.wait_ready()
        self._set_state(State.READY)
        self.was_ready.set()

    def _set_state(self, state: State) -> None:
        self.state = state
        self._on_state_change(self)

    def _signal(self, signum: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signum)

    def _exit_report(self) -> str:
        lines = [line.rstrip()[:300] for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        last_lines = "".join(f"\n  {line}" for line in lines[-REPORTED_LINES:])
        return (
            f"{self.component.name} stopped {MAX_FAILED_STARTS} times while starting "
            f"(exit code {self.last_exit_code}). The end of its log, {self.log}:{last_lines}\n"
            f"{self.component.remedy}".rstrip()
        )
