"""The supervisor, with shell scripts as components."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from deploy.local.errors import CommandError
from deploy.local.folder import Folder
from deploy.local.supervisor import supervisor
from deploy.local.supervisor.child import State
from deploy.local.supervisor.component import Component
from deploy.local.supervisor.supervisor import Supervisor

SLEEPS = "exec sleep 60"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.create()
    return made


async def at_once() -> None:
    """Ready at once."""


async def never() -> None:
    """Never ready."""
    await asyncio.Event().wait()


def script(
    name: str,
    text: str = SLEEPS,
    *,
    ready: Callable[[], Awaitable[None]] = at_once,
    after: tuple[str, ...] = (),
    stop_order: int = 0,
    stop_timeout_seconds: float = 5.0,
) -> Component:
    return Component(
        name=name,
        command=("/bin/sh", "-c", text),
        environment={"PATH": os.environ["PATH"]},
        wait_ready=ready,
        after=after,
        stop_order=stop_order,
        stop_timeout_seconds=stop_timeout_seconds,
        remedy="Try without it.",
    )


class Running:
    """A supervisor in a task, and the lines it printed."""

    def __init__(self, folder: Folder, *components: Component) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.ready = asyncio.Event()
        self.work = asyncio.create_task(
            Supervisor(components, folder, "http://here", self.lines.append).run(self.ready.set)
        )

    def of(self, name: str) -> dict[str, object]:
        known: dict[str, dict[str, object]] = {each["name"]: each for each in self.folder.state.get("components", [])}
        return known.get(name, {})

    async def until(self, name: str, **values: object) -> None:
        async with asyncio.timeout(5):
            while not values.items() <= self.of(name).items():  # noqa: ASYNC110 - it is a file that changes
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(self.work, 10)


async def test_a_component_is_started_when_those_it_depends_on_are_ready(folder: Folder) -> None:
    gate = asyncio.Event()

    async def opened() -> None:
        await gate.wait()

    running = Running(folder, script("later", after=("first",)), script("first", ready=opened))
    await running.until("first", state=State.STARTING)
    assert running.of("later")["pid"] is None
    assert not running.ready.is_set()
    gate.set()
    await asyncio.wait_for(running.ready.wait(), 5)
    assert [line.split()[0] for line in running.lines] == ["first", "later"]
    await running.stop()


async def test_a_process_that_ends_is_restarted_with_a_growing_delay(folder: Folder) -> None:
    running = Running(folder, script("one"))
    for restarts in (1, 2):
        await running.until("one", state=State.READY, restarts=restarts - 1)
        os.kill(int(str(running.of("one")["pid"])), signal.SIGKILL)
        await running.until("one", state=State.READY, restarts=restarts)
    exits = [line for line in running.lines if "exit code -9" in line]
    assert ["0.2 s" in exits[0], "0.4 s" in exits[1]] == [True, True]
    await running.stop()


async def test_a_process_that_never_gets_ready_ends_the_start_with_the_last_line_of_its_log(folder: Folder) -> None:
    running = Running(folder, script("good"), script("bad", "echo no such; echo luck; exit 7", ready=never))
    await running.until("good", state=State.READY)
    good = int(str(running.of("good")["pid"]))
    with pytest.raises(
        CommandError, match=r"(?s)bad stopped 3 times .*exit code 7.*\n  no such\n  luck\nTry without it"
    ):
        await asyncio.wait_for(running.work, 10)
    with pytest.raises(ProcessLookupError):
        os.kill(good, 0)
    assert running.of("good")["state"] == State.STOPPED


async def test_a_state_that_cannot_be_written_does_not_end_the_stack(folder: Folder) -> None:
    running = Running(folder, script("one"))
    await running.until("one", state=State.READY)
    pid = int(str(running.of("one")["pid"]))
    (folder.path / "state.json").unlink()
    (folder.path / "state.json").mkdir()
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        while not any("one is ready again" in line for line in running.lines):  # noqa: ASYNC110 - lines are appended
            await asyncio.sleep(0.01)
    assert any("state.json cannot be written" in line for line in running.lines)
    await running.stop()


async def test_what_is_still_starting_after_a_while_is_told(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "SLOW_START_SECONDS", 0.2)
    running = Running(folder, script("good"), script("slow", ready=never), script("later", after=("slow",)))
    async with asyncio.timeout(5):
        while len(running.lines) < 2:  # noqa: ASYNC110 - lines are appended
            await asyncio.sleep(0.01)
    assert running.lines[1] == f"  still starting: slow, later; logs: {folder.logs}"
    await running.stop()


async def test_a_command_that_does_not_exist_ends_the_start(folder: Folder) -> None:
    missing = Component(
        name="ghost", command=("/nowhere/ghost",), environment={}, wait_ready=at_once, remedy="Install it."
    )
    with pytest.raises(CommandError, match=r"ghost cannot be run: .* Install it\."):
        await asyncio.wait_for(Running(folder, missing).work, 10)


async def test_components_are_stopped_in_order(folder: Folder) -> None:
    order = folder.path / "order"

    def writes_its_name(name: str, stop_order: int) -> Component:
        return script(
            name, f"trap 'sleep 0.2; echo {name} >> {order}; exit 0' TERM; sleep 60 & wait", stop_order=stop_order
        )

    running = Running(
        folder, writes_its_name("database", 2), writes_its_name("service", 1), writes_its_name("gateway", 0)
    )
    await asyncio.wait_for(running.ready.wait(), 5)
    await asyncio.sleep(0.2)  # the shells set their traps
    await running.stop()
    assert order.read_text().split() == ["gateway", "service", "database"]


async def test_a_process_that_ignores_sigterm_is_killed(folder: Folder) -> None:
    running = Running(
        folder, script("stubborn", "trap '' TERM; while :; do sleep 0.05; done", stop_timeout_seconds=0.3)
    )
    await asyncio.wait_for(running.ready.wait(), 5)
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await running.stop()
    assert 0.2 < time.monotonic() - began < 3
    assert running.of("stubborn") | {"pid": None, "state": "stopped"} == running.of("stubborn")


async def test_a_second_signal_kills_at_once(folder: Folder) -> None:
    running = Running(folder, script("stubborn", "trap '' TERM; while :; do sleep 0.05; done", stop_timeout_seconds=60))
    await asyncio.wait_for(running.ready.wait(), 5)
    await asyncio.sleep(0.1)
    for _ in range(2):  # one signal and its echo
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.6)
    assert not running.work.done()
    await asyncio.wait_for(running.stop(), 3)
