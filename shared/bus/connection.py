"""One process's connection to NATS: who it is, and how long it waits for a server that is away."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from faststream.nats import NatsBroker, NatsMessage
from faststream.nats.subscriber.usecases.basic import LogicSubscriber
from faststream.security import BaseSecurity, SASLPlaintext
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import NoServersError

from shared.errors import Unavailable
from shared.settings import ServiceSettings

logger = logging.getLogger(__name__)

RECONNECT_WAIT_SECONDS = 2.0
"""How long a request waits for a server that is away before its caller is told 503."""
FINISH_SECONDS = 8.0
"""How long a process that is told to stop works on what it has in hand."""
_LAST_WORDS_SECONDS = 1.0
"""For work that was not finished by then: time to tell its caller."""
_ACCESS_VIOLATION = "permissions violation"


async def _undecoded(message: NatsMessage) -> NatsMessage:
    """Handlers decode with the contract's class; FastStream's own decoding would be work done twice."""
    return message


class Connection:
    """A FastStream broker and the nats-py client under it, as one NATS user."""

    def __init__(self, settings: ServiceSettings, service: str) -> None:
        self.service = service
        self._online = asyncio.Event()
        self._before_close: list[Callable[[], Awaitable[None]]] = []
        self._reconnect_hooks: list[Callable[[], None]] = []
        self._tracked: set[asyncio.Task[None]] = set()
        self._supervised: set[asyncio.Task[None]] = set()
        self._closing = False
        self.failed = asyncio.Event()
        """Set when a supervised task has ended before its time: the process cannot do its work and has to stop."""
        self.broker = NatsBroker(
            [url.strip() for url in settings.nats_url.split(",")],
            name=f"everloop-{service}",
            security=_credentials(settings),
            inbox_prefix=f"_INBOX.{service}",
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,  # type: ignore[arg-type]  # nats-py sleeps this long; a fraction is fine
            ping_interval=20,
            pending_size=64 * 1024 * 1024,
            apply_types=False,
            decoder=_undecoded,
            logger=None,
            error_cb=self._error,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
        )
        self.client: Client

    async def open(self) -> None:
        """Connect, waiting for a server as long as it takes."""
        while True:
            try:
                self.client = await self.broker.connect()
            except (OSError, NoServersError) as error:
                logger.warning("NATS is away, trying again", extra={"error": str(error)})
                await asyncio.sleep(0.5)
            else:
                self._online.set()
                return

    async def serve(self) -> None:
        """Start every subscriber registered on the broker; when this returns, the server sends them messages."""
        await self.broker.start()
        await self.client.flush()

    def on_close(self, finish: Callable[[], Awaitable[None]]) -> None:
        """Have `finish` awaited when the process stops, while the connection still works."""
        self._before_close.append(finish)

    def track_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` beside everything else; `close` waits for it."""
        task = asyncio.create_task(work)
        self._tracked.add(task)
        task.add_done_callback(self._tracked.discard)

    def supervise(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` for as long as the process runs; returns its task, which may be cancelled.

        If it ends before `close`, by an exception or by returning, that is logged and `failed` is set: `shared.service`
        then stops the process with exit code 1, and whoever supervises the process starts it again.
        """
        task = asyncio.create_task(work, name=name)
        self._supervised.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._supervised.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None or not self._closing:
            logger.critical("%r has ended before its time", task.get_name(), exc_info=error)
        if not self._closing:
            self.failed.set()

    async def close(self) -> None:
        """Take no more messages, finish those in hand, then leave.

        In this order, because a message taken and not handled is a caller without an answer: FastStream's own stop
        drops what arrives while it waits, so every subscription is drained before.
        """
        self._closing = True
        if self.is_online:
            await asyncio.gather(*(self._leave(subscriber) for subscriber in self.broker.subscribers))
        await asyncio.gather(*(finish() for finish in self._before_close))
        if self._tracked:
            _, late = await asyncio.wait(self._tracked, timeout=FINISH_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_LAST_WORDS_SECONDS)
        with contextlib.suppress(NatsError):
            if self.is_online:
                await self.broker.stop()
            else:  # nothing can be drained
                await self.client.close()

    async def _leave(self, subscriber: object) -> None:
        if isinstance(subscriber, LogicSubscriber) and isinstance(subscriber.subscription, Subscription):
            with contextlib.suppress(NatsError):
                await subscriber.subscription.drain()  # type: ignore[no-untyped-call]
            subscriber.subscription = None

    async def online(self) -> Client:
        """The client, connected. Unavailable when NATS stays away."""
        if not self._online.is_set():
            try:
                async with asyncio.timeout(RECONNECT_WAIT_SECONDS):
                    await self._online.wait()
            except TimeoutError:
                raise Unavailable("The message bus is away; nothing was stored. Try again.") from None
        return self.client

    @property
    def is_online(self) -> bool:
        """Whether NATS answers at the moment."""
        return self._online.is_set()

    def on_reconnect(self, hook: Callable[[], None]) -> None:
        """Call `hook` whenever the connection is back: messages may have been missed meanwhile."""
        self._reconnect_hooks.append(hook)

    async def _error(self, error: Exception) -> None:
        level = logging.ERROR if _ACCESS_VIOLATION in str(error).lower() else logging.WARNING
        logger.log(level, "NATS: %r", error)

    async def _disconnected(self) -> None:
        self._online.clear()

    async def _reconnected(self) -> None:
        self._online.set()
        for hook in self._reconnect_hooks:
            hook()


def _credentials(settings: ServiceSettings) -> BaseSecurity | None:
    if settings.nats_user is None or settings.nats_password is None:
        return None
    return SASLPlaintext(username=settings.nats_user, password=settings.nats_password.get_secret_value())
