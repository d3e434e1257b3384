"""Listens for HTTP in the event loop of the service, and stops when the bus is closed."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from services.gateway.server.connection import BoundedConnection
from services.gateway.server.connections import Connections
from services.gateway.settings import Settings
from shared.bus import Bus

_UNSENT_BYTES = 64 * 1024
"""Of one connection, in the kernel."""


class _HttpServer(uvicorn.Server):
    """uvicorn without its own signal handlers: `shared.service` stops the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the handlers as they are."""
        yield


def _is_news(record: logging.LogRecord) -> bool:
    """Whether uvicorn's line says something new: `responses/sse.py` says why a stream broke off."""
    return record.msg != "ASGI callable returned without completing response."


async def serve_http(app: ASGIApp, settings: Settings, bus: Bus) -> None:
    """Listen; return when connections are accepted. Requests in hand are finished before the bus is closed."""
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    connections = Connections(settings)
    server = _HttpServer(
        uvicorn.Config(
            app,
            host=settings.http_host,
            port=settings.http_port,
            loop="none",  # it runs in the loop of the service
            http=partial(BoundedConnection, connections=connections),  # type: ignore[arg-type]  # called like a class
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # it would believe X-Forwarded-For of any process of this machine: client_address.py
            timeout_keep_alive=settings.http_keep_alive_seconds,  # type: ignore[arg-type]  # a fraction is fine
            timeout_graceful_shutdown=8,  # then streams are cut, while the bus can still tell who generates them
        )
    )
    serving = bus.supervise(server.serve([_listen(settings)]), "serve HTTP")
    sweeping = bus.supervise(connections.sweep(), "close connections that are overdue")

    async def stop() -> None:
        server.should_exit = True
        await asyncio.wait({serving})
        sweeping.cancel()

    bus.on_close(stop)
    while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)


def _listen(settings: Settings) -> socket.socket:
    """Return the socket that clients connect to. Its options are those of their connections."""
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    listening = socket.create_server((settings.http_host, settings.http_port), family=family)
    # The kernel holds no more than this of a response: it is not written ahead of a slow client, which would count as
    # reading, and a crowd of them would take megabytes each (tcp(7), TCP_NOTSENT_LOWAT).
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    return listening
