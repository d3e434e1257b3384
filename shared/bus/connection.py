"""A process's connection to NATS, and the tasks that run on it: those of requests, and supervised background tasks."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from faststream.nats import NatsBroker, NatsMessage
from faststream.nats.subscriber.usecases.basic import LogicSubscriber
from faststream.security import BaseSecurity, SASLPlaintext
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionReconnectingError, NoServersError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from pydantic import BaseModel

from shared.bus.transport import abort_when_reconnecting, close_for_good, end_task
from shared.errors import Unavailable
from shared.settings import ServiceSettings

logger = logging.getLogger(__name__)

RECONNECT_WAIT_SECONDS = 2.0
"""How long a request waits for a server that is away before its caller is told 503."""
SHUTDOWN_SECONDS = 8.0
"""How long a process that is told to stop works on the requests and jobs in hand before it cancels them."""
_CANCEL_SECONDS = 1.0
"""How long a cancelled request has to tell its caller."""
_SENDING_SECONDS = 1.0
"""How long a request may wait to be sent, beside the time for its reply."""
_LOST = 0.0
"""A time long ago, at which a request ends whose connection is lost."""
_DRAIN_SECONDS = 2.0
"""How long the connection has to take what is on its way, when the process disconnects."""
_LATE_SECONDS = 0.5
"""How long a replica that is not ready leaves an answer to those that are."""
_PERMISSIONS_VIOLATION = "permissions violation"


async def _keep_undecoded(message: NatsMessage) -> NatsMessage:
    """FastStream decoder that does nothing: handlers decode with the contract's class."""
    return message


class Connection:
    """A FastStream broker and the nats-py client under it, as one NATS user."""

    def __init__(self, settings: ServiceSettings, service: str) -> None:
        self.service = service
        self._connected = asyncio.Event()
        self._close_hooks: list[Callable[[], Awaitable[None]]] = []
        self._reconnect_hooks: list[Callable[[], None]] = []
        self._tracked: set[asyncio.Task[None]] = set()
        self._supervised: set[asyncio.Task[None]] = set()
        self._requests: set[asyncio.Timeout] = set()
        """Of each `send_request` under way, what ends it."""
        self._closing = False
        self.failed = asyncio.Event()
        """Set when a supervised task has ended before `close`, a reconnect hook failed, or the connection was closed
        for good: the process has to stop."""
        self.broker = NatsBroker(
            [url.strip() for url in settings.nats_url.split(",")],
            name=f"everloop-{service}",
            security=_credentials(settings),
            inbox_prefix=f"_INBOX.{service}",
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,  # type: ignore[arg-type]  # nats-py sleeps this long; a fraction is fine
            # nats-py only sleeps and waits so long; fractions are fine
            connect_timeout=settings.nats_connect_seconds,  # type: ignore[arg-type]
            ping_interval=settings.nats_ping_seconds,  # type: ignore[arg-type]
            max_outstanding_pings=settings.nats_missed_pings,
            pending_size=64 * 1024 * 1024,
            apply_types=False,
            decoder=_keep_undecoded,
            logger=None,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
        )
        self.client: Client

    async def open(self) -> None:
        """Connect, waiting for a server as long as it takes."""
        while True:
            try:
                self.client = await self.broker.connect()
                abort_when_reconnecting(self.client)
            except (OSError, NoServersError) as error:
                logger.warning("NATS is away, trying again", extra={"error": str(error)})
                await asyncio.sleep(0.5)
            else:
                self._connected.set()
                return

    async def start_subscribers(self) -> None:
        """Start every subscriber registered on the broker; on return the server sends them messages."""
        await self.broker.start()
        await self.client.flush()

    def on_close(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Have `close` await `hook`, while the connection still works."""
        self._close_hooks.append(hook)

    def track_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, which answers one request, as a task that `close` waits for."""
        task = asyncio.create_task(work)
        self._tracked.add(task)
        task.add_done_callback(self._tracked.discard)

    async def answer_late(
        self, subject: str, answer: Callable[[], Awaitable[BaseModel]]
    ) -> Callable[[], Awaitable[None]]:
        """Answer requests on `subject` half a second after they came; return the function that ends this.

        Not in the service's queue group: a replica that is ready gets the request, too, and its answer comes first.
        What came before the end is answered after it.
        """

        async def reply(message: Msg) -> None:
            await asyncio.sleep(_LATE_SECONDS)
            payload = (await answer()).model_dump_json().encode()
            with contextlib.suppress(NatsError):  # then nobody is told
                await message.respond(payload)

        async def on_message(message: Msg) -> None:
            self.track_task(reply(message))

        subscription = await self.client.subscribe(subject, cb=on_message)

        return subscription.unsubscribe

    def supervise(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` for as long as the process runs; return its task, which may be cancelled.

        If it ends before `close`, by an exception or by returning, that is logged and `failed` is set: `shared.service`
        then stops the process with exit code 1, and whoever supervises the process starts it again.
        """
        task = asyncio.create_task(work, name=name)
        self._supervised.add(task)
        task.add_done_callback(self._on_supervised_done)
        return task

    def _on_supervised_done(self, task: asyncio.Task[None]) -> None:
        self._supervised.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None or not self._closing:
            logger.critical("%r has ended before its time", task.get_name(), exc_info=error)
        if not self._closing:
            self.failed.set()

    async def close(self) -> None:
        """Take no more messages, finish those in hand within `SHUTDOWN_SECONDS`, then disconnect.

        Every subscription is drained first: a message taken and not handled is a caller without an answer, and
        FastStream's own stop drops what arrives while it waits.
        """
        self._closing = True
        if self.is_connected:
            await asyncio.gather(*(self._drain(subscriber) for subscriber in self.broker.subscribers))
        # At once: whoever stops the process waits 15 s for all of it (deploy/local/services.py).
        await asyncio.gather(self._finish_tracked(), *(hook() for hook in self._close_hooks))
        if self.is_connected:
            stopping = asyncio.create_task(self.broker.stop())
            await asyncio.wait({stopping}, timeout=_DRAIN_SECONDS)
            await end_task(stopping)
        await close_for_good(self.client)

    async def _finish_tracked(self) -> None:
        """Wait for requests in hand, at most `SHUTDOWN_SECONDS`; cancel the rest, whose callers are told so."""
        if not self._tracked:
            return
        _, unfinished = await asyncio.wait(self._tracked, timeout=SHUTDOWN_SECONDS)
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished, timeout=_CANCEL_SECONDS)

    async def _drain(self, subscriber: object) -> None:
        if isinstance(subscriber, LogicSubscriber) and isinstance(subscriber.subscription, Subscription):
            with contextlib.suppress(NatsError):
                await subscriber.subscription.drain()  # type: ignore[no-untyped-call]
            subscriber.subscription = None

    async def connected_client(self) -> Client:
        """Return the client once it is connected. Raises Unavailable if NATS is away for `RECONNECT_WAIT_SECONDS`."""
        try:
            await self._wait_for_connection(RECONNECT_WAIT_SECONDS)
        except NatsTimeoutError:
            raise Unavailable("The message bus is away; nothing was stored. Try again.") from None
        return self.client

    async def send_request(
        self, subject: str, payload: bytes, *, timeout_seconds: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Send a request once, as soon as there is a connection, and return the reply. Raises as nats-py's `request`.

        Raises ConnectionReconnectingError as soon as the connection is lost: the request, or its reply, may be, too.
        """
        await self._wait_for_connection(timeout_seconds)
        # nats-py waits for the reply, and before that without an end while it has too much unsent.
        ending = asyncio.timeout(timeout_seconds + _SENDING_SECONDS)
        self._requests.add(ending)
        try:
            async with ending:
                return await self.client.request(subject, payload, timeout=timeout_seconds, headers=headers)
        except TimeoutError as error:
            if ending.when() == _LOST:
                raise ConnectionReconnectingError from error
            raise NatsTimeoutError from error
        finally:
            self._requests.discard(ending)

    async def _wait_for_connection(self, timeout_seconds: float) -> None:
        if self._connected.is_set():
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._connected.wait()
        except TimeoutError as error:
            raise NatsTimeoutError from error

    @property
    def is_connected(self) -> bool:
        """Whether the connection to NATS is up."""
        return self._connected.is_set()

    def on_reconnect(self, hook: Callable[[], None]) -> None:
        """Call `hook` whenever the connection is back: messages may have been missed meanwhile."""
        self._reconnect_hooks.append(hook)

    async def _on_error(self, error: Exception) -> None:
        """Log an error of the connection, or of a callback of a subscription: that is a defect."""
        if not isinstance(error, NatsError | OSError | TimeoutError):
            logger.error("a message was not handled", exc_info=error)
            return
        level = logging.ERROR if _PERMISSIONS_VIOLATION in str(error).lower() else logging.WARNING
        logger.log(level, "NATS: %r", error)

    async def _on_disconnected(self) -> None:
        self._connected.clear()
        for request in self._requests:
            if not request.expired():
                request.reschedule(_LOST)

    async def _on_closed(self) -> None:
        """End the process if the server closed the connection for good: nats-py does not connect again after an error
        such as a payload or an authorization violation, whatever `max_reconnect_attempts` says."""
        self._connected.clear()
        if not self._closing:
            logger.critical("the connection to NATS was closed for good")
            self.failed.set()

    async def _on_reconnected(self) -> None:
        self._connected.set()
        for hook in self._reconnect_hooks:
            try:
                hook()
            except Exception:  # nats-py would never reconnect again
                logger.critical(
                    "a hook failed after a reconnect; what it should have dropped may be void", exc_info=True
                )
                self.failed.set()


def _credentials(settings: ServiceSettings) -> BaseSecurity | None:
    if settings.nats_user is None or settings.nats_password is None:
        return None
    return SASLPlaintext(username=settings.nats_user, password=settings.nats_password.get_secret_value())
