"""Describes one process of a stack: its command, its environment, and how the supervisor treats it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

STOPPED_FIRST, STOPPED_SECOND, STOPPED_LAST = range(3)
"""Values of `stop_order`: the gateway, whose requests in flight need the services; the services; the servers."""


@dataclass(frozen=True)
class Component:
    """One process for the supervisor to run."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """All of the process's environment variables; nothing is inherited."""
    wait_ready: Callable[[], Awaitable[None]]
    """Returns once the process serves requests. Cancelled when the process ends first."""
    port: int | None = None
    after: tuple[str, ...] = ()
    """Names of components that must have been ready once before this one is started."""
    stop_order: int = STOPPED_FIRST
    """Components of the lowest number are stopped first; the next number follows when they have ended."""
    stop_timeout_seconds: float = 10.0
    """From SIGTERM to SIGKILL."""
    remedy: str = ""
    """What the user can do when the process does not start; the last sentence of the error."""
