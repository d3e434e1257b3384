"""Which port each part listens on: the one asked for, else the one of the last start, else a free one."""

import random
import socket

from deploy.local.errors import Refused

HTTP_PORT = 8000
HOST = "127.0.0.1"
_FREE = range(20_000, 32_000)
"""Below Linux's ephemeral ports (32768 and up): one of those could be taken by an outgoing connection meanwhile."""
OPTIONS = {"http": "--port", "nats": "--nats-port", "mongo": "--mongo-port", "model": "--model-port"}


def choose(asked: dict[str, int | None], remembered: dict[str, int], host: str = HOST) -> dict[str, int]:
    """A port for each name in `asked`, whose value is the wish: None for no wish, 0 for any free port."""
    chosen: dict[str, int] = {}
    for name, wish in asked.items():
        if name == "http" and wish is None:
            wish = remembered.get(name, HTTP_PORT)  # noqa: PLW2901 - the address people know must not wander
        if wish:
            _insist(name, wish, host if name == "http" else HOST, chosen)
            chosen[name] = wish
        else:
            again = remembered.get(name, 0) if wish is None else 0
            chosen[name] = again if again and is_free(again) else free_port(taken=set(chosen.values()))
    return chosen


def _insist(name: str, port: int, host: str, chosen: dict[str, int]) -> None:
    option = OPTIONS[name]
    if port in chosen.values():
        raise Refused(f"Port {port} is asked for twice. Give {option} another one (0 takes a free one).")
    try:
        _bind(port, host)
    except PermissionError:
        raise Refused(f"Port {port} needs rights this user lacks. Choose one above 1023: everloop up {option} 8000")
    except OSError:
        raise Refused(
            f"Port {port} is in use by another program. Stop that program, or choose another port: "
            f"everloop up {option} {port + 1} (0 takes a free one)"
        ) from None


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen there now."""
    try:
        _bind(port, host)
    except OSError:
        return False
    return True


def free_port(taken: set[int]) -> int:
    """A port nobody listens on."""
    for port in random.sample(_FREE, k=200):
        if port not in taken and is_free(port):
            return port
    raise Refused(f"No free port was found between {_FREE.start} and {_FREE.stop}. Name one with --nats-port and so on.")


def _bind(port: int, host: str) -> None:
    with socket.socket() as probe:
        # As the servers do: a port that only lingers after a stop counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
