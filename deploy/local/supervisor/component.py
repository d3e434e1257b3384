"""One process of the stack, described: how it is started, how one knows that it works, what it needs first."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Component:
    """A process to keep alive."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """The whole environment; nothing is inherited beside it."""
    ready: Callable[[], Awaitable[None]]
    """Returns once the process does its work."""
    port: int | None = None
    after: tuple[str, ...] = ()
    """Components that must have been ready once before this one is started."""
    stop_wave: int = 0
    """The lowest wave is stopped first; the next one when that is gone."""
    start_timeout_seconds: float = 10.0
    """Between SIGTERM and SIGKILL."""
    hint: str = ""
    """What to do if it cannot be started at all."""
