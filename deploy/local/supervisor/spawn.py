"""Starts a process that the kernel kills when the supervisor ends, however that ends: no orphans are left."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
"""prctl(2), Linux: the signal this process gets when its parent dies."""
_libc = ctypes.CDLL(None)


async def spawn(command: Sequence[str], environment: Mapping[str, str], log: Path) -> asyncio.subprocess.Process:
    """Start `command` with exactly this environment; its stdout and stderr are appended to `log`.

    Raises OSError if the command cannot be executed.
    """
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the supervisor, which stops the others in order
            preexec_fn=_kill_with_parent(os.getpid()),
        )


def _kill_with_parent(parent: int) -> Callable[[], None]:
    """Return what the child calls between fork and exec."""

    def set_parent_death_signal() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # the supervisor died before prctl was called

    return set_parent_death_signal
