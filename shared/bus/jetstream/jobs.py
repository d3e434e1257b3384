"""Works on jobs: one pull consumer for each class of job on the work queue `JOBS`.

A process fetches no more jobs than it has free workers, so that its replicas get the others. A job is acknowledged once
its handler has returned. Whatever happens to a job before that (an error, a kill, a server that goes away), it is tried
again after a growing delay. After its last try it is appended to `DEAD` and then acknowledged, in this order, so that
it is always in one of the two streams.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig
from opentelemetry.trace import SpanKind, Status, StatusCode
from pydantic import ValidationError

from shared import telemetry
from shared.bus.client import Bus
from shared.bus.connection import SHUTDOWN_SECONDS
from shared.bus.jetstream.dead_letters import append_dead_letter
from shared.bus.jetstream.deliveries import Delivery, Exhausted, failure_reason
from shared.bus.jetstream.pull_consumer import PullConsumer
from shared.contracts.dead_letters import DeadLetter
from shared.contracts.message import Job
from shared.errors import Internal, Invalid, Problem

logger = logging.getLogger(__name__)

JOBS = "JOBS"
"""The stream; `services/evaluation` creates it."""
JOBS_SUBJECTS = "jobs.>"
JOBS_DUPLICATE_WINDOW_SECONDS = 900.0
"""How long the stream remembers job ids, so that a sender that repeats itself enqueues once. An id costs the server
about 200 bytes of memory."""
DEFAULT_TRIES = 8
ACK_WAIT_SECONDS = 6.0
"""A job whose worker was killed is redelivered after this; a live worker reports progress three times in it."""
FIRST_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 600.0
_MAX_RETRY_AFTER_SECONDS = 86_400.0
_MAX_ACK_PENDING = 50_000
"""Jobs of a class that may be in hand or wait for their next try; beyond that the server delivers no more."""
_MAX_DEAD_LETTER_DELAY_SECONDS = 5.0
"""At most this long after `DEAD` has refused a dead letter, it is appended again."""
_RETURN_SECONDS = 2.0
"""How long returning jobs to the queue may take when the process stops."""


def retry_delay_seconds(tried: int, retry_after_seconds: float | None = None) -> float:
    """Return how long to wait after try number `tried` (1 is the first): 4^(tried - 1) s, at most 600 s.

    1, 4, 16, 64, 256, 600, 600 …: eight tries take 26 minutes. `retry_after_seconds` of a `Problem` makes it
    longer (up to a day), never shorter.
    """
    # The exponent is bounded because a float is: 4.0 ** 512 overflows.
    grown = min(FIRST_DELAY_SECONDS * 4.0 ** min(tried - 1, 32), MAX_DELAY_SECONDS)
    return max(grown, min(retry_after_seconds or 0, _MAX_RETRY_AFTER_SECONDS))


class JobRoute(NamedTuple):
    """A class of job and its handler."""

    job: type[Job]
    function: Callable[[Any, Any], Awaitable[None]]
    workers: int
    """How many run at a time in one process."""
    tries: int
    """After so many failed tries a job goes to `DEAD`."""

    def durable(self, service: str) -> str:
        """Return the name of the durable consumer, `<owner>-<what>`.

        Raises TypeError if the job's subject is not `jobs.<service>.<what>`.
        """
        tokens = self.job.subject.split(".")
        if len(tokens) < 3 or tokens[0] != "jobs" or tokens[1] != service or not all(tokens):
            raise TypeError(
                f"{self.job.__name__}.subject is {self.job.subject!r}; {service} works on jobs.{service}.<what>"
            )
        return "-".join(tokens[1:])


class JobWorker:
    """Fetches and handles the jobs of one class in this process."""

    def __init__(self, route: JobRoute, bus: Bus, deps: Any) -> None:  # noqa: ANN401 - each service has its own
        self._route = route
        self._bus = bus
        self._deps = deps
        durable = route.durable(bus.service)
        config = ConsumerConfig(
            name=durable,
            durable_name=durable,
            filter_subject=route.job.subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            max_deliver=-1,  # we count ourselves: what the server stops delivering stays in the stream unseen
            max_ack_pending=_MAX_ACK_PENDING,
        )
        self._consumer = PullConsumer(bus, JOBS, config)
        self._tracked: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start working in a supervised task, as soon as the stream exists and until the process stops."""
        task = self._bus.supervise(self._read(), name=f"work on {self._route.job.subject}")
        self._bus.on_close(lambda: self._stop(task))

    async def _read(self) -> None:
        await self._consumer.open_when_available()
        while not self._consumer.stopped:
            if len(self._tracked) >= self._route.workers:
                await asyncio.wait(self._tracked, timeout=ACK_WAIT_SECONDS / 3, return_when=asyncio.FIRST_COMPLETED)
                await self._consumer.report_progress()
                continue
            for message in await self._consumer.fetch_or_recreate(self._route.workers - len(self._tracked)):
                self._start_delivery(Delivery(message))

    def _start_delivery(self, delivery: Delivery) -> None:
        task = asyncio.create_task(
            self._return_to_queue(delivery) if self._consumer.stopped else self._try_once(delivery)
        )
        self._tracked.add(task)
        task.add_done_callback(self._on_delivery_done)

    def _on_delivery_done(self, task: asyncio.Task[None]) -> None:
        self._tracked.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s: a delivery was not settled and is redelivered", self._route.job.subject, exc_info=error)

    async def _stop(self, reading: "asyncio.Task[None]") -> None:
        """Fetch no more jobs, finish those in hand within `SHUTDOWN_SECONDS`, return the rest to the queue."""
        self._consumer.stop()
        await asyncio.wait({reading, *self._tracked}, timeout=SHUTDOWN_SECONDS)
        for task in self._tracked:
            task.cancel()
        if unfinished := {reading, *self._tracked}:
            await asyncio.wait(unfinished, timeout=_RETURN_SECONDS)
        reading.cancel()
        await asyncio.gather(*(self._return_to_queue(Delivery(message)) for message in await self._consumer.drain()))

    async def _try_once(self, delivery: Delivery) -> None:
        """Try the job once and settle the delivery: acknowledge it, have it tried again, or append it to `DEAD`."""
        subject = self._route.job.subject
        with telemetry.tracer.start_as_current_span(
            subject, context=telemetry.context_from_headers(delivery.message.headers), kind=SpanKind.CONSUMER
        ) as span:
            try:
                await self._run_handler(delivery.message, self._parse(delivery))
            except asyncio.CancelledError as error:
                if not self._consumer.stopped:  # the handler cancelled itself
                    await self._settle_failure(delivery, error)
                    return
                await self._return_to_queue(delivery)
            except Exception as error:  # noqa: BLE001 - logged in `_settle_failure`
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                await self._settle_failure(delivery, error)
            else:
                with contextlib.suppress(NatsError):  # what is not acknowledged is redelivered
                    await delivery.message.ack()

    def _parse(self, delivery: Delivery) -> Job:
        """Return the job to try now. Raises Exhausted if no try is left, Invalid if it cannot be read."""
        if delivery.number > self._route.tries:
            raise Exhausted("No worker has told how its last try ended: they were killed, or cut off for long.")
        try:
            return self._route.job.model_validate_json(delivery.message.data)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, line['loc']))}: {line['type']}" for line in error.errors()[:5])
            raise Invalid(f"The job cannot be read: {wrong.removeprefix(': ')}.") from None

    async def _run_handler(self, message: Msg, job: Job) -> None:
        """Run the handler; meanwhile tell the server that the job is in progress."""
        work = asyncio.ensure_future(self._route.function(job, self._deps))
        try:
            while not (await asyncio.wait({work}, timeout=ACK_WAIT_SECONDS / 3))[0]:
                with contextlib.suppress(NatsError):
                    await message.in_progress()
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait({work})
            if work.cancelled() or work.exception():
                raise
        await work

    async def _settle_failure(self, delivery: Delivery, error: BaseException) -> None:
        # Internal is another service's defect: not the job's fault, as a defect of this service is not.
        final = isinstance(error, Problem) and not error.retryable and not isinstance(error, Internal)
        if final or delivery.number >= self._route.tries:
            await self._dead_letter(delivery, error)
            return
        retry_after = error.retry_after_seconds if isinstance(error, Problem) else None
        delay = retry_delay_seconds(delivery.number, retry_after)
        logger.warning(
            "%s: try %d of %d failed, the next one follows in %.0f s: %s",
            *(self._route.job.subject, delivery.number, self._route.tries, delay, failure_reason(error)),
            exc_info=None if isinstance(error, Problem) else error,
        )
        await _nak(delivery.message, delay)

    async def _dead_letter(self, delivery: Delivery, error: BaseException) -> None:
        subject = self._route.job.subject
        letter = delivery.dead_letter(error)
        try:
            async with asyncio.TaskGroup() as group:
                progress = group.create_task(_report_progress(delivery.message))
                await self._append_until_stored(delivery, letter)
                progress.cancel()
        except asyncio.CancelledError:  # the process stops; whoever repeats this try has its reason again
            await self._return_to_queue(delivery)
            return
        logger.error(
            "%s: given up after %d tries: %s: %s",
            *(subject, letter.tries, letter.error, letter.reason),
            exc_info=None if isinstance(error, Problem) else error,
        )
        with contextlib.suppress(NatsError):  # is redelivered, and dead again under the same message id
            await delivery.message.ack()

    async def _append_until_stored(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Append the letter to `DEAD`, again after a growing delay until it is stored.

        The job is not redelivered meanwhile: a further delivery would know nothing of the reason in `letter`.
        """
        subject = self._route.job.subject
        for attempt in itertools.count(1):
            try:
                await append_dead_letter(self._bus, f"dead.{subject}", letter, message_id=delivery.dead_letter_id())
            except Problem as refused:
                level = logging.WARNING if attempt == 1 else logging.DEBUG
                logger.log(level, "%s: a job that failed for good waits for DEAD: %s", subject, refused.message)
                await asyncio.sleep(min(retry_delay_seconds(attempt), _MAX_DEAD_LETTER_DELAY_SECONDS))
            else:
                return

    async def _return_to_queue(self, delivery: Delivery) -> None:
        """Have the job redelivered at once, and do not count this delivery as a try.

        The server counts every delivery, so a copy whose header says how many were tries takes the place of the
        message: first the copy, then the acknowledgement. If the copy cannot be appended, the delivery counts.
        """
        sequence = delivery.message.metadata.sequence.stream
        try:
            await self._bus.append(
                delivery.message.subject,
                delivery.message.data,
                message_id=f"returned-{sequence}-{delivery.origin}",
                headers=delivery.returned_headers(),
                timeout_seconds=_RETURN_SECONDS / 2,
            )
        except Problem:
            await _nak(delivery.message, 0)
        else:
            with contextlib.suppress(NatsError):
                await delivery.message.ack()


async def _report_progress(message: Msg) -> None:
    """Tell the server again and again that the message is in progress, until cancelled."""
    while True:
        await asyncio.sleep(ACK_WAIT_SECONDS / 3)
        with contextlib.suppress(NatsError):
            await message.in_progress()


async def _nak(message: Msg, delay_seconds: float) -> None:
    with contextlib.suppress(NatsError):  # then it is redelivered after `ACK_WAIT_SECONDS`
        await message.nak(delay=delay_seconds)
