"""Chooses the port of each server: the one the user names, else that of the last start, else a free one."""

import errno
import random
import socket
import time

from deploy.local.errors import CommandError

HTTP_PORT = 8000
HOST = "127.0.0.1"
OPTIONS = {"http": "--port", "nats": "--nats-port", "mongo": "--mongo-port", "model": "--model-port"}
_RANGE = range(20_000, 32_000)
"""Below Linux's ephemeral ports (32768 and up): one of those could be taken by an outgoing connection meanwhile."""
_RELEASE_SECONDS = 1.0
"""How long to wait for a port: the kernel takes a moment to release those of processes that were just killed."""


def choose(requested: dict[str, int | None], previous: dict[str, int], http_host: str = HOST) -> dict[str, int]:
    """Return a port for each name in `requested`, whose value is a port, 0 for any free one, or None for no preference.

    Raises CommandError if a requested port, or the previous HTTP port, cannot be used; other previous ports that are in
    use are replaced.
    """
    chosen: dict[str, int] = {}
    for name, port in requested.items():
        host = http_host if name == "http" else HOST
        last = previous.get(name)
        if name == "http" and port is None:
            port = last or HTTP_PORT  # noqa: PLW2901 - clients know this address; it must not change by itself
        if port:
            _require_free(name, port, host, taken=chosen)
            chosen[name] = port
        elif port is None and last and last not in chosen.values() and is_free(last, host):
            chosen[name] = last
        else:
            chosen[name] = free_port(host, taken=chosen)
    return chosen


def is_free(port: int, host: str = HOST) -> bool:
    """Return whether a server could listen there, now or within _RELEASE_SECONDS.

    Raises PermissionError for a port this user may not listen on, another OSError if `host` is not of this machine.
    """
    deadline = time.monotonic() + _RELEASE_SECONDS
    while True:
        try:
            _bind(port, host)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def free_port(host: str, taken: dict[str, int]) -> int:
    """Return a port nobody listens on and that is none of `taken`. Raises CommandError if there is none."""
    for port in random.sample(_RANGE, k=200):
        if port in taken.values():
            continue
        try:
            _bind(port, host)
        except PermissionError:
            continue
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _host_error(host, error) from None
        else:
            return port
    raise CommandError(
        f"No free port was found between {_RANGE.start} and {_RANGE.stop}. Name some yourself: --nats-port ..."
    )


def _require_free(name: str, port: int, host: str, taken: dict[str, int]) -> None:
    option = OPTIONS[name]
    if port in taken.values():
        raise CommandError(f"Port {port} is asked for twice. Give {option} another one (0 takes a free one).")
    try:
        free = is_free(port, host)
    except PermissionError:
        raise CommandError(f"Port {port} needs rights this user lacks. Choose one above 1023 with {option}.") from None
    except OSError as error:
        raise _host_error(host, error) from None
    if not free:
        raise CommandError(
            f"Port {port} is in use by another program. Stop that program, or choose another port with {option} "
            "(0 takes a free one)."
        )


def _host_error(host: str, error: OSError) -> CommandError:
    return CommandError(
        f"{host!r} is not an IPv4 address of this machine ({error.strerror}). Set EVERLOOP_HTTP_HOST to one; "
        "0.0.0.0 is all of them."
    )


def _bind(port: int, host: str) -> None:
    with socket.socket() as probe:
        # As the servers do: a port in TIME_WAIT after a stop counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
