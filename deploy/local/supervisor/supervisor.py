"""Starts every component when those it depends on are ready, restarts what ends, and stops all of them in order."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from deploy.local.errors import CommandError
from deploy.local.folder import Folder
from deploy.local.supervisor.child import Child, State
from deploy.local.supervisor.component import Component

START_TIMEOUT_SECONDS = 180.0
"""For the whole stack, on a slow disk or processor."""
SLOW_START_SECONDS = 15.0
"""After so long the user is told what is still starting."""
DUPLICATE_SIGNAL_SECONDS = 1.0
"""A second signal within this time is ignored: one to a whole process group arrives directly and through `make`."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Supervisor:
    """Runs the components of a stack as children of this process until it gets a stop signal.

    `echo` prints one line for the user; the state of every child is kept in `state.json` of the folder.
    """

    def __init__(self, components: Sequence[Component], folder: Folder, url: str, echo: Callable[[str], None]) -> None:
        self._folder = folder
        self._url = url
        self._echo = echo
        self._started_at = time.monotonic()
        self._stopping_since: float | None = None
        self._children: dict[str, Child] = {}
        for component in components:
            self._children[component.name] = Child(component, folder, self._on_state_change)

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Start all, call `on_ready` when all are ready, and return after a stop signal when every process has ended.

        Raises CommandError when the stack cannot be started; every process has ended by then, too.
        """
        work = asyncio.create_task(self._run_children(on_ready))
        loop = asyncio.get_running_loop()
        for signum in STOP_SIGNALS:
            loop.add_signal_handler(signum, self._stop_or_kill, work)
        self._folder.write_lock_owner()
        self._write_state()
        try:
            await work
        except asyncio.CancelledError:
            self._echo("Stopping ...")
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await self._stop()
            for signum in STOP_SIGNALS:
                loop.remove_signal_handler(signum)

    async def _run_children(self, on_ready: Callable[[], None]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for child in self._children.values():
                tasks.create_task(self._run_child(child), name=child.component.name)
            slow_start = tasks.create_task(self._report_slow_start())
            try:
                async with asyncio.timeout(START_TIMEOUT_SECONDS):
                    for child in self._children.values():
                        await child.was_ready.wait()
            except TimeoutError:
                raise CommandError(
                    f"{self._names_not_ready()} did not become ready within {START_TIMEOUT_SECONDS:.0f} seconds. "
                    f"Their logs are in {self._folder.logs}."
                ) from None
            slow_start.cancel()
            on_ready()

    async def _run_child(self, child: Child) -> None:
        for name in child.component.after:
            await self._children[name].was_ready.wait()
        await child.run()

    async def _report_slow_start(self) -> None:
        await asyncio.sleep(SLOW_START_SECONDS)
        self._echo(f"  still starting: {self._names_not_ready()}; logs: {self._folder.logs}")

    def _names_not_ready(self) -> str:
        return ", ".join(name for name, child in self._children.items() if not child.was_ready.is_set())

    def _stop_or_kill(self, work: "asyncio.Task[None]") -> None:
        """Signal handler. The first signal stops the children in order; a second one kills them."""
        now = time.monotonic()
        if self._stopping_since is None:
            self._stopping_since = now
            work.cancel()
        elif now - self._stopping_since > DUPLICATE_SIGNAL_SECONDS:
            for child in self._children.values():
                child.kill()

    async def _stop(self) -> None:
        self._stopping_since = self._stopping_since or time.monotonic()
        for stop_order in sorted({child.component.stop_order for child in self._children.values()}):
            await asyncio.gather(
                *(child.stop() for child in self._children.values() if child.component.stop_order == stop_order)
            )
        self._write_state()

    def _on_state_change(self, child: Child) -> None:
        self._write_state()
        name, port = child.component.name, child.component.port
        clock = time.strftime("%Y-%m-%d %H:%M:%S")
        if child.state is State.READY and child.restarts:
            self._echo(f"{clock}  {name} is ready again")
        elif child.state is State.READY:
            seconds = time.monotonic() - self._started_at
            self._echo(f"  {name:<12} ready  {seconds:5.1f} s" + (f"  port {port}" if port else ""))
        elif child.state is State.RESTARTING and child.pid is None:
            self._echo(
                f"{clock}  {name} stopped (exit code {child.last_exit_code}), starts again in "
                f"{child.delay_seconds:.1f} s; see {child.log}"
            )

    def _write_state(self) -> None:
        try:
            self._folder.state = self._state()
        except OSError as error:  # a full disk must not end a stack that runs
            self._echo(f"state.json cannot be written ({error.strerror}); `everloop status` shows an earlier state")

    def _state(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "url": self._url,
            "components": [
                {
                    "name": child.component.name,
                    "pid": child.pid,
                    "port": child.component.port,
                    "state": str(child.state),
                    "restarts": child.restarts,
                }
                for child in self._children.values()
            ],
        }
