"""Starts every component when what it needs is ready, keeps all of them alive, stops them in order."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence

from deploy.local.errors import Refused
from deploy.local.folder import Folder
from deploy.local.supervisor.child import Child, State
from deploy.local.supervisor.component import Component

START_SECONDS = 180.0
"""A slow disk or processor is waited for; beyond this something is wrong."""
ECHO_SECONDS = 1.0
"""Whoever signals a whole process group reaches us twice: directly, and through `make`."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Say = Callable[[str], None]


class Supervisor:
    """Runs a stack in this process until it is told to stop."""

    def __init__(self, components: Sequence[Component], folder: Folder, url: str, say: Say) -> None:
        self._folder = folder
        self._url = url
        self._say = say
        self._began = time.monotonic()
        self._stopping_since: float | None = None
        self._children: dict[str, Child] = {}
        for component in components:
            self._children[component.name] = Child(component, folder, self._changed)

    async def run(self, announce: Callable[[], None]) -> None:
        """Returns after SIGTERM, SIGINT or SIGHUP, when every process is gone. `announce` is called when all are ready.

        Refused when the stack cannot be started; nothing runs any more by then either.
        """
        work = asyncio.create_task(self._work(announce))
        loop = asyncio.get_running_loop()
        for signum in STOP_SIGNALS:
            loop.add_signal_handler(signum, self._stop_or_kill, work)
        self._folder.sign()
        self._record()
        try:
            await work
        except asyncio.CancelledError:
            self._say("Stopping ...")
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await self._stop()
            for signum in STOP_SIGNALS:
                loop.remove_signal_handler(signum)

    async def _work(self, announce: Callable[[], None]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for child in self._children.values():
                tasks.create_task(self._keep(child), name=child.component.name)
            try:
                async with asyncio.timeout(START_SECONDS):
                    for child in self._children.values():
                        await child.was_ready.wait()
            except TimeoutError:
                late = [name for name, child in self._children.items() if not child.was_ready.is_set()]
                raise Refused(
                    f"{', '.join(late)} did not become ready within {START_SECONDS:.0f} seconds. "
                    f"What they say is in {self._folder.logs}."
                ) from None
            announce()

    async def _keep(self, child: Child) -> None:
        for name in child.component.after:
            await self._children[name].was_ready.wait()
        await child.keep_alive()

    def _stop_or_kill(self, work: "asyncio.Task[None]") -> None:
        """The first signal stops in order; a second one means now, unless it is the echo of the first."""
        now = time.monotonic()
        if self._stopping_since is None:
            self._stopping_since = now
            work.cancel()
        elif now - self._stopping_since > ECHO_SECONDS:
            for child in self._children.values():
                child.kill()

    async def _stop(self) -> None:
        self._stopping_since = self._stopping_since or time.monotonic()
        for wave in sorted({child.component.stop_wave for child in self._children.values()}):
            await asyncio.gather(
                *(child.stop() for child in self._children.values() if child.component.stop_wave == wave)
            )
        self._record()

    def _changed(self, child: Child) -> None:
        self._record()
        name, place = child.component.name, child.component.port
        clock = time.strftime("%Y-%m-%d %H:%M:%S")
        if child.state is State.READY and child.restarts:
            self._say(f"{clock}  {name} is ready again")
        elif child.state is State.READY:
            seconds = time.monotonic() - self._began
            self._say(f"  {name:<12} ready  {seconds:5.1f} s" + (f"  port {place}" if place else ""))
        elif child.state is State.RESTARTING and child.pid is None:
            self._say(
                f"{clock}  {name} stopped (exit code {child.last_exit}), starts again in {child.delay_seconds:.1f} s; "
                f"see {child.log}"
            )

    def _record(self) -> None:
        self._folder.state = {
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
