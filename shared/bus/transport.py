"""nats-py's TCP connection to a server, which can be left although the server takes nothing more."""

import asyncio
from urllib.parse import ParseResult

from nats.aio.client import Client
from nats.aio.transport import TcpTransport

_CLOSE_SECONDS = 1.0
"""How long what was sent last has to reach the server when a client is closed."""
_CANCEL_SECONDS = 0.1


class AbortingTransport(TcpTransport):
    """Drops what it could not send when the client leaves a server.

    nats-py 2.16.0 waits until everything is sent before it connects to another server: to a silent host, for ever.
    """

    def __init__(self, client: Client, connected: TcpTransport) -> None:
        """Take over the connection that `client` has by `connected`."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.__dict__.update(vars(connected))
        self._client = client

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect, and close what is left of an attempt that got no answer."""
        self.abort()
        await super().connect(uri, buffer_size, connect_timeout)

    def close(self) -> None:
        """Close at once if the client connects again, else when everything is sent."""
        if self._client.is_reconnecting:
            self.abort()
        super().close()  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Close at once."""
        if self._io_writer is not None:
            self._io_writer.transport.abort()


def abort_when_reconnecting(client: Client) -> None:
    """Give a connected client this transport; nats-py has no public way to choose one."""
    if isinstance(client._transport, TcpTransport):  # noqa: SLF001
        client._transport = AbortingTransport(client, client._transport)  # noqa: SLF001


async def close_for_good(client: Client) -> None:
    """Close a client, whatever its state; on return it has no task and does not connect again.

    nats-py 2.16.0 goes on to connect, for ever, if the connection is lost while it drains, or if its one cancellation
    of the task that connects arrives in the moment in which an attempt fails; and an attempt that ends while it is
    closed makes it open again, and starts its tasks anew. To a silent host it closes nothing.
    """
    while True:
        closing = asyncio.create_task(client.close())
        await asyncio.wait({closing}, timeout=_CLOSE_SECONDS)
        if isinstance(client._transport, AbortingTransport):  # noqa: SLF001
            client._transport.abort()  # noqa: SLF001
        await end_task(closing)
        tasks = (client._reconnection_task, client._reading_task, client._ping_interval_task, client._flusher_task)  # noqa: SLF001
        alive = [task for task in tasks if task is not None and not task.done()]
        if client.is_closed and not alive:
            return
        for task in alive:
            await end_task(task)


async def end_task(task: "asyncio.Task[None]") -> None:
    """Wait for a task of nats-py, and cancel it until it ends: some of its code goes on after a cancellation."""
    while not (await asyncio.wait({task}, timeout=_CANCEL_SECONDS))[0]:
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
