"""One process kept alive: started, watched, started again when it dies, stopped politely."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from enum import StrEnum

from deploy.local.errors import Refused
from deploy.local.folder import Folder
from deploy.local.supervisor.component import Component
from deploy.local.supervisor.spawn import spawn

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
"""0.2, 0.4, 0.8 ... 10 between a death and the next start."""
HEALTHY_SECONDS = 60.0
"""After so long a life the delay is the first one again."""
STARTS = 3
"""A process that dies so often before it was ready once will not come up by itself."""


class State(StrEnum):
    """Where a process is in its life."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPED = "stopped"


class Child:
    """A component's process, whichever incarnation of it runs at the moment."""

    def __init__(self, component: Component, folder: Folder, changed: Callable[["Child"], None]) -> None:
        self.component = component
        self.log = folder.log(component.name)
        self.state = State.STARTING
        self.restarts = 0
        self.was_ready = asyncio.Event()
        """Set once it has been ready for the first time, and for good."""
        self.last_exit: int | None = None
        self.delay_seconds = FIRST_DELAY_SECONDS
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def keep_alive(self) -> None:
        """Run until cancelled. Refused when the process cannot be started at all."""
        while True:
            started = time.monotonic()
            process = self._process = await self._start()
            self._enter(self.state)
            self.last_exit = await self._live(process)
            if not self.was_ready.is_set() and self.restarts + 1 >= STARTS:
                raise Refused(self._exit_report())
            if time.monotonic() - started > HEALTHY_SECONDS:
                self.delay_seconds = FIRST_DELAY_SECONDS
            self.restarts += 1
            self._enter(State.RESTARTING)
            await asyncio.sleep(self.delay_seconds)
            self.delay_seconds = min(self.delay_seconds * 2, LONGEST_DELAY_SECONDS)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL when patience runs out."""
        if self._process is not None and self._process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(self.component.start_timeout_seconds):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
                await self._process.wait()
        self._enter(State.STOPPED)

    def kill(self) -> None:
        """At once and without farewell."""
        self._signal(signal.SIGKILL)

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            return await spawn(self.component.command, self.component.environment, self.log)
        except OSError as error:
            raise Refused(f"{self.component.name} cannot be run: {error}. {self.component.hint}".rstrip()) from None

    async def _live(self, process: asyncio.subprocess.Process) -> int:
        """Watch over one life; returns its exit code."""
        becoming = asyncio.create_task(self._become_ready(), name=f"{self.component.name} ready?")
        try:
            return await process.wait()
        finally:
            becoming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await becoming

    async def _become_ready(self) -> None:
        await self.component.ready()
        self._enter(State.READY)
        self.was_ready.set()

    def _enter(self, state: State) -> None:
        self.state = state
        self._changed(self)

    def _signal(self, signum: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signum)

    def _exit_report(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        said = f" It said: {lines[-1].strip()[:300]}" if lines else ""
        return (
            f"{self.component.name} stopped {STARTS} times while starting (exit code {self.last_exit}).{said}\n"
            f"Everything it said: {self.log}. {self.component.hint}".rstrip()
        )
