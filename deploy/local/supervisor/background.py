"""Implements `everloop up --detach`: the supervisor goes on in a session of its own while the command returns."""

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

OnReady = Callable[[], None]
_READY = b"1"
"""What the child writes to the pipe when the stack is ready; the pipe is closed without it when the start fails."""


def run_in_background(run: Callable[[OnReady], int], log: Path) -> int:
    """Fork and let the child call `run`, which returns an exit code and calls its argument when the stack is ready.

    Returns 0 when it is ready, or the child's exit code if it ends before that. Until then the child writes to this
    terminal, afterwards to `log`.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        os.setsid()
        os._exit(_run_child(run, log, write_end))
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        while True:
            try:
                message = pipe.read(1)
                break
            except KeyboardInterrupt:
                os.kill(child, signal.SIGTERM)
    if message == _READY:
        return 0
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _run_child(run: Callable[[OnReady], int], log: Path, pipe: int) -> int:
    def on_ready() -> None:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        devnull = os.open(os.devnull, os.O_RDONLY)
        for stream, target in ((0, devnull), (1, output), (2, output)):
            os.dup2(target, stream)
        os.close(output)
        os.close(devnull)
        os.write(pipe, _READY)
        os.close(pipe)

    try:
        return run(on_ready)
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
        traceback.print_exc()
        return 1
