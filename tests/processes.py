"""Marks every process that a run of the tests starts by an environment variable, and ends those that are left.

Fixtures stop what they start. This is for what they cannot do: a run that is interrupted, a worker that is killed.
"""

import contextlib
import os
import uuid

import psutil

_VARIABLE = "STARTED_BY_TEST_RUN"
_TERMINATE_SECONDS = 15.0


def mark() -> bool:
    """Mark this process and all that inherit its environment; return whether it had no mark yet.

    Without a mark it is the outermost process of the run, which ends the others.
    """
    begins = _VARIABLE not in os.environ
    os.environ.setdefault(_VARIABLE, uuid.uuid4().hex)
    return begins


def marked_environment() -> dict[str, str]:
    """Return the variable that marks a process, for one that is started with an environment of its own."""
    return {_VARIABLE: os.environ[_VARIABLE]}


def end_marked() -> list[str]:
    """End every marked process but this one, and their descendants; return their command lines."""
    mine = os.environ[_VARIABLE]
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(_VARIABLE) == mine:
                found |= {process, *process.children(recursive=True)}
        except psutil.Error:  # somebody else's, or gone meanwhile
            continue
    lines = []
    for process in found:
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                lines.append(" ".join(process.cmdline()))
                process.terminate()
    for process in psutil.wait_procs(found, timeout=_TERMINATE_SECONDS)[1]:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return lines
