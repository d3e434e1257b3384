"""Which port each part listens on: the one asked for, else the one of the last start, else a free one."""

import random
import socket
import time

from deploy.local.errors import Refused

HTTP_PORT = 8000
HOST = "127.0.0.1"
OPTIONS = {"http": "--port", "nats": "--nats-port", "mongo": "--mongo-port", "model": "--model-port"}
_FREE = range(20_000, 32_000)
"""Below Linux's ephemeral ports (32768 and up): one of those could be taken by an outgoing connection meanwhile."""
_LINGER_SECONDS = 1.0
"""The processes of a stack that was killed a moment ago hold their ports until the kernel has cleared them away."""


def choose(wishes: dict[str, int | None], remembered: dict[str, int], http_host: str = HOST) -> dict[str, int]:
    """A port for each name in `wishes`: None is no wish, 0 is any free port."""
    chosen: dict[str, int] = {}
    for name, wish in wishes.items():
        host = http_host if name == "http" else HOST
        before = remembered.get(name)
        if name == "http" and wish is None:
            wish = before or HTTP_PORT  # noqa: PLW2901 - the address people know must not wander
        if wish:
            _insist(name, wish, host, taken=chosen)
            chosen[name] = wish
        elif wish is None and before and before not in chosen.values() and is_free(before, host):
            chosen[name] = before
        else:
            chosen[name] = free_port(host, taken=chosen)
    return chosen


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen there now, or in an instant."""
    deadline = time.monotonic() + _LINGER_SECONDS
    while True:
        try:
            _bind(port, host)
        except PermissionError:
            raise
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def free_port(host: str, taken: dict[str, int]) -> int:
    """A port nobody listens on."""
    for port in random.sample(_FREE, k=200):
        if port in taken.values():
            continue
        try:
            _bind(port, host)
        except OSError:
            continue
        return port
    raise Refused(f"No free port was found between {_FREE.start} and {_FREE.stop}. Name some yourself: --nats-port ...")


def _insist(name: str, port: int, host: str, taken: dict[str, int]) -> None:
    option = OPTIONS[name]
    if port in taken.values():
        raise Refused(f"Port {port} is asked for twice. Give {option} another one (0 takes a free one).")
    try:
        free = is_free(port, host)
    except PermissionError:
        raise Refused(f"Port {port} needs rights this user lacks. Choose one above 1023 with {option}.") from None
    if not free:
        raise Refused(
            f"Port {port} is in use by another program. Stop that program, or choose another port with {option} "
            "(0 takes a free one)."
        )


def _bind(port: int, host: str) -> None:
    with socket.socket() as probe:
        # As the servers do: a port that only lingers after a stop counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
