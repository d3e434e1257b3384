"""`up --detach`: the supervisor goes on in a session of its own while the command returns."""

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

Ready = Callable[[], None]
_READY = b"1"


def in_background(run: Callable[[Ready], int], log: Path) -> int:
    """Fork; the child calls `run`, which calls back when the stack is ready. Returns 0 then, else its exit code.

    Until it is ready the child writes to this terminal, from then on to `log`.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setsid()
        os._exit(_supervise(run, log, writing))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        while True:
            try:
                answer = pipe.read(1)
                break
            except KeyboardInterrupt:
                os.kill(child, signal.SIGTERM)
    if answer == _READY:
        return 0
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _supervise(run: Callable[[Ready], int], log: Path, pipe: int) -> int:
    def ready() -> None:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for stream, target in ((0, nothing), (1, output), (2, output)):
            os.dup2(target, stream)
        os.close(output)
        os.close(nothing)
        os.write(pipe, _READY)
        os.close(pipe)

    try:
        return run(ready)
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
        traceback.print_exc()
        return 1
