"""Working on jobs: a pull consumer for each class of job on the work queue `JOBS`.

A process asks for no more jobs than it has free workers, so what waits is there for the other replicas. Each job is
acknowledged by itself once its handler has returned. Whatever happens to a job before that (an error, a kill, a server
that goes away), it is tried again after a growing delay. After its last try it is appended to `DEAD` and then
acknowledged, in this order, so that it is always in one of the two streams.
"""

import asyncio
import contextlib
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
from shared.bus.connection import FINISH_SECONDS
from shared.bus.consumer import _Reader
from shared.bus.dead_letters import append_dead_letter
from shared.bus.deliveries import Delivery, Exhausted, reason
from shared.contracts.message import Job
from shared.errors import Internal, Invalid, Problem

logger = logging.getLogger(__name__)

JOBS = "JOBS"
"""The stream; `services/evaluation` makes it."""
JOBS_SUBJECTS = "jobs.>"
JOBS_DUPLICATE_WINDOW_SECONDS = 900.0
"""A sender that tries again for a quarter of an hour enqueues once. An id costs the server about 200 bytes so long."""
TRIES = 8
ACK_WAIT_SECONDS = 6.0
"""A job whose worker was killed goes to another after this; a living worker says three times in it that it is at it."""
FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 600.0
_LONGEST_WISH_SECONDS = 86_400.0
_MOST_WAITING = 50_000
"""Jobs of a class that may be in hand or wait for their next try; beyond that no more are given out."""
_GIVE_BACK_SECONDS = 2.0


def retry_delay_seconds(tried: int, wanted_seconds: float | None = None) -> float:
    """How long to wait after try number `tried` (1 is the first): 4^(tried - 1) s, at most 600 s.

    1, 4, 16, 64, 256, 600, 600 …: eight tries take 26 minutes. `wanted_seconds`, what a `Problem` says in
    `retry_after_seconds`, makes it longer (up to a day), never shorter.
    """
    # The exponent is bounded because a float is: 4.0 ** 512 overflows.
    grown = min(FIRST_DELAY_SECONDS * 4.0 ** min(tried - 1, 32), LONGEST_DELAY_SECONDS)
    return max(grown, min(wanted_seconds or 0, _LONGEST_WISH_SECONDS))


class JobRoute(NamedTuple):
    """Which function works on which class of job, and how."""

    job: type[Job]
    function: Callable[[Any, Any], Awaitable[None]]
    workers: int
    tries: int

    def durable(self, service: str) -> str:
        """Name of the consumer, `<owner>-<what>`. TypeError if the job's subject is not `jobs.<service>.<what>`."""
        tokens = self.job.subject.split(".")
        if len(tokens) < 3 or tokens[0] != "jobs" or tokens[1] != service or not all(tokens):
            raise TypeError(
                f"{self.job.__name__}.subject is {self.job.subject!r}; {service} works on jobs.{service}.<what>"
            )
        return "-".join(tokens[1:])


class JobWorker:
    """Works on the jobs of one class in this process."""

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
            max_ack_pending=_MOST_WAITING,
        )
        self._reader = _Reader(bus, JOBS, config)
        self._tracked: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin as soon as the stream is there; go on until the process stops."""
        task = self._bus.supervise(self._read(), name=f"work on {self._route.job.subject}")
        self._bus.on_close(lambda: self._stop(task))

    async def _read(self) -> None:
        await self._open()
        while not self._reader.stopped:
            if len(self._tracked) >= self._route.workers:
                await asyncio.wait(self._tracked, return_when=asyncio.FIRST_COMPLETED)
                continue
            for message in await self._reader.next_when_possible(self._route.workers - len(self._tracked)):
                self._take(Delivery(message))

    def _take(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._give_back(delivery) if self._reader.stopped else self._work(delivery))
        self._tracked.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tracked.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s: a delivery was not settled and comes again", self._route.job.subject, exc_info=error)

    async def _open(self) -> None:
        told = False
        while not self._reader.stopped:
            try:
                await self._reader.open()
            except (NatsError, Problem) as error:
                level, told = logging.DEBUG if told else logging.WARNING, True
                logger.log(level, "%s waits for the stream %s: %r", self._route.job.subject, JOBS, error)
                await asyncio.sleep(0.5)
            else:
                return

    async def _stop(self, reading: "asyncio.Task[None]") -> None:
        """Take no more jobs, finish those in hand for a while, give back the rest."""
        self._reader.stop()
        await asyncio.wait({reading, *self._tracked}, timeout=FINISH_SECONDS)
        for task in self._tracked:
            task.cancel()
        if unfinished := {reading, *self._tracked}:
            await asyncio.wait(unfinished, timeout=_GIVE_BACK_SECONDS)
        reading.cancel()
        await asyncio.gather(*(self._give_back(Delivery(message)) for message in await self._reader.leave()))

    async def _work(self, delivery: Delivery) -> None:
        """Try the job once and settle the delivery: acknowledge it, have it tried again, or append it to `DEAD`."""
        subject = self._route.job.subject
        with telemetry.tracer.start_as_current_span(
            subject, context=telemetry.incoming(delivery.message.headers), kind=SpanKind.CONSUMER
        ) as span:
            try:
                await self._handle(delivery.message, self._job(delivery))
            except asyncio.CancelledError as error:
                if not self._reader.stopped:  # the handler's own doing
                    await self._failed(delivery, error)
                    return
                await self._give_back(delivery)
            except Exception as error:  # noqa: BLE001 - told in `_failed`
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                await self._failed(delivery, error)
            else:
                with contextlib.suppress(NatsError):  # what is not acknowledged comes again
                    await delivery.message.ack()

    def _job(self, delivery: Delivery) -> Job:
        """The job to try now. Exhausted if there is no try left; Invalid if it cannot be read."""
        if delivery.number > self._route.tries:
            raise Exhausted("No worker has told how its last try ended: they were killed, or cut off for long.")
        try:
            return self._route.job.model_validate_json(delivery.message.data)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, line['loc']))}: {line['type']}" for line in error.errors()[:5])
            raise Invalid(f"The job cannot be read: {wrong.removeprefix(': ')}.") from None

    async def _handle(self, message: Msg, job: Job) -> None:
        """Run the handler, telling the server meanwhile that we are at it."""
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

    async def _failed(self, delivery: Delivery, error: BaseException) -> None:
        # Internal is what another service tells of its defect: not the job's fault, as a defect of ours is not.
        final = isinstance(error, Problem) and not error.retryable and not isinstance(error, Internal)
        if final or delivery.number >= self._route.tries:
            await self._dead_letter(delivery, error)
            return
        wanted = error.retry_after_seconds if isinstance(error, Problem) else None
        delay = retry_delay_seconds(delivery.number, wanted)
        logger.warning(
            "%s: try %d of %d failed, the next one follows in %.0f s: %s",
            *(self._route.job.subject, delivery.number, self._route.tries, delay, reason(error)),
            exc_info=None if isinstance(error, Problem) else error,
        )
        await _redeliver(delivery.message, delay)

    async def _dead_letter(self, delivery: Delivery, error: BaseException) -> None:
        subject = self._route.job.subject
        letter = delivery.letter(error)
        try:
            await append_dead_letter(self._bus, f"dead.{subject}", letter, message_id=delivery.letter_id())
        except Problem as refused:
            logger.warning("%s: a job that failed for good waits for the stream DEAD: %s", subject, refused.message)
            await _redeliver(delivery.message, retry_delay_seconds(delivery.number))
            return
        logger.error(
            "%s: given up after %d tries: %s: %s",
            *(subject, letter.tries, letter.error, letter.reason),
            exc_info=None if isinstance(error, Problem) else error,
        )
        with contextlib.suppress(NatsError):  # comes again, and is dead again under the same id
            await delivery.message.ack()

    async def _give_back(self, delivery: Delivery) -> None:
        """Let another process have the job at once, and do not count this delivery as a try.

        The server counts every delivery, so a copy that says how many were tries takes the place of the message: first
        the copy, then the acknowledgement. If the copy cannot be appended, the delivery counts.
        """
        sequence = delivery.message.metadata.sequence.stream
        try:
            await self._bus.append(
                delivery.message.subject,
                delivery.message.data,
                message_id=f"returned-{sequence}-{delivery.origin}",
                headers=delivery.returned_headers(),
                timeout_seconds=_GIVE_BACK_SECONDS / 2,
            )
        except Problem:
            await _redeliver(delivery.message, 0)
        else:
            with contextlib.suppress(NatsError):
                await delivery.message.ack()


async def _redeliver(message: Msg, delay_seconds: float) -> None:
    with contextlib.suppress(NatsError):  # then it comes after `ACK_WAIT_SECONDS`
        await message.nak(delay=delay_seconds)
