"""Which images go with deleted logs and projects, and when: real servers, and a generation that knows some."""

import asyncio
import hashlib
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from pydantic import BaseModel

from services.logging.purge import BlobRemoval
from services.logging.read_barrier import ReadBarrier
from services.logging.store import LogDeletionStore, LogStore, UnusedBlobStore
from shared import blobs as blobs_module
from shared.appender import Appender
from shared.blobs import PART_BYTES, STREAM, BlobKey, Blobs
from shared.bus import Bus, ConsumerProgress, Router, delete_message, get_last_of_leader, purge_before
from shared.contracts.generation.blobs import GetHeldBlobs, HeldBlobs
from shared.contracts.logs import LOGS_SUBJECT, GetFeedback, LogDeleted, ProjectDeleted
from shared.contracts.message import Request
from shared.errors import Internal
from shared.mongo import Database
from tests.integration.logging.stack import LoggingStack
from tests.principals import member
from tests.unit.logging.builders import START, feedback, log, update

V = TypeVar("V", bound=BaseModel)
ORGANISATION = "tm_1"
UNUSED_SECONDS = 1.0
ROUTER = Router[set[str]]()


@ROUTER.answers(GetHeldBlobs)
async def get_held_blobs(query: GetHeldBlobs, held: set[str]) -> HeldBlobs:
    return HeldBlobs(digests=sorted(held & set(query.digests)))


def image(parts: float = 1.5) -> tuple[str, bytes]:
    """Return a new content and its digest, before it."""
    content = random.randbytes(int(parts * PART_BYTES / 2)).hex().encode()  # noqa: S311
    return hashlib.sha256(content).hexdigest(), content


def token(digest: str) -> str:
    return f"data:image/png;base64,everloop-blob:{digest}"


@dataclass
class Client:
    """What a gateway does, what generation holds, and the database of logging."""

    bus: Bus
    operator: Bus
    database: Database
    held: set[str]
    """Digests that config versions and tools name."""
    blobs: Blobs = field(init=False)

    def __post_init__(self) -> None:
        self.blobs = Blobs(self.bus, touch_seconds=0)
        self._appender = Appender(self.bus, LOGS_SUBJECT)

    async def store(self, *images: tuple[str, bytes]) -> list[str]:
        await self.blobs.store(ORGANISATION, dict(images))
        return [digest for digest, _ in images]

    async def accept(self, *records: BaseModel) -> None:
        """Append records to `LOGS`, and wait until they are stored."""
        await self._appender.append([record.model_dump_json().encode() for record in records])
        await self.bus.request(GetFeedback(principal=member(ORGANISATION), log_ids=["data_0"]))

    async def are_stored(self, *digests: str) -> list[bool]:
        """Return of each whether a process that has nothing in memory can read it."""
        found = []
        for digest in digests:
            inlined = await Blobs(self.bus).inline(ORGANISATION, f'"everloop-blob:{digest}"'.encode())
            if not inlined.missing_tokens:
                await inlined.read()
            found.append(not inlined.missing_tokens)
        return found

    async def parts(self, digest: str) -> int:
        """Return how many messages of `BLOBS` it has."""
        info = await self.operator.client.jetstream().stream_info(STREAM, subjects_filter=f"blobs.*.{digest}.>")
        return len(info.state.subjects or {})

    async def until_decided(self) -> None:
        """Wait until no blob is left that may be unused."""
        async with asyncio.timeout(30):
            while await self.database["unused_blobs"].count_documents({}):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@asynccontextmanager
async def answering(servers: LoggingStack, held: set[str]) -> AsyncIterator[None]:
    """Answer as generation does."""
    bus = Bus(servers.settings("generation", "none"), "generation")
    await bus.open()
    ROUTER.attach(bus, held)
    await bus.start_subscribers()
    try:
        yield
    finally:
        await bus.close()


@pytest_asyncio.fixture(loop_scope="session")
async def client(servers: LoggingStack) -> AsyncIterator[Client]:
    held = set[str]()
    async with (
        servers.bus("operator") as operator,
        answering(servers, held),
        servers.replicas(EVERLOOP_BLOBS_UNUSED_SECONDS=str(UNUSED_SECONDS)) as (bus, database),
    ):
        yield Client(bus, operator, database, held)


def deleted_project(project_id: str, *digests: str) -> ProjectDeleted:
    return ProjectDeleted(organisation=ORGANISATION, project_id=project_id, at=START, blobs=list(digests))


def deleted_log(log_id: str) -> LogDeleted:
    return LogDeleted(id=log_id, organisation=ORGANISATION, at=START)


async def test_images_go_with_their_project_wherever_they_are_in_it(client: Client) -> None:
    gone = await client.store(*(image(0.1) for _ in range(5)), image())
    (kept,) = await client.store(image(0.1))
    await client.accept(
        log("data_1", project_id="pr_gone", inputs={"a": [token(gone[0])]}, output=f"See {token(gone[1])}"),
        log("data_2", project_id="pr_gone"),
        update("data_2", output=token(gone[2]), project_id="pr_gone"),
        feedback("ann_1", log_id="data_2", type="correction", value=token(gone[3])),
        log("data_3", project_id="pr_kept", metadata={"a": token(kept)}),
    )
    await client.accept(deleted_project("pr_gone", gone[4], gone[5]))
    await client.until_decided()
    assert await client.are_stored(*gone, kept) == [False] * 6 + [True]
    assert [await client.parts(digest) for digest in gone] == [0] * 6


async def test_what_something_else_names_stays(client: Client) -> None:
    of_log, of_version, of_both = await client.store(image(0.1), image(0.1), image(0.1))
    client.held |= {of_version, of_both}
    await client.accept(
        log("data_1", project_id="pr_gone", inputs={"a": token(of_log), "b": token(of_version), "c": token(of_both)}),
        log("data_2", output=token(of_log)),
        log("data_3", organisation="tm_2", output=token(of_version)),
    )
    await client.accept(deleted_project("pr_gone"))
    await client.until_decided()
    assert await client.are_stored(of_log, of_version, of_both) == [True] * 3
    client.held.clear()
    await client.accept(deleted_log("data_2"))
    await client.until_decided()
    assert await client.are_stored(of_log, of_version) == [False, True], "its version did not go with a project"


async def test_images_go_with_a_deleted_log(client: Client) -> None:
    mine, shared = await client.store(image(), image(0.1))
    await client.accept(
        log("data_1", inputs={"a": token(mine), "b": token(shared)}), log("data_2", output=token(shared))
    )
    await client.accept(deleted_log("data_1"))
    await client.until_decided()
    assert await client.are_stored(mine, shared) == [False, True]
    await client.accept(deleted_log("data_2"))
    await client.until_decided()
    assert await client.are_stored(shared) == [False]


async def test_images_of_what_comes_for_a_deleted_log_go(client: Client) -> None:
    """Its feedback came before, and it is deleted while it is streamed: what is logged and said later is dropped."""
    of_feedback, of_log, of_update, of_retry, kept = await client.store(*(image(0.1) for _ in range(5)))
    await client.accept(feedback("ann_1", log_id="data_1", type="correction", value=token(of_feedback)))
    await client.until_decided()
    assert await client.are_stored(of_feedback) == [True], "its log may come"
    await client.accept(deleted_log("data_1"))
    await client.accept(log("data_1", output=token(of_log)))
    await client.accept(update("data_1", output=token(of_update)))
    await client.accept(log("data_2", output=token(kept)), log("data_2", output=token(of_retry)))
    await client.accept(log("data_2", output=token(kept)))
    await client.until_decided()
    assert await client.are_stored(of_feedback, of_log, of_update, of_retry, kept) == [False] * 4 + [True]


async def test_an_image_that_is_sent_again_meanwhile_is_whole(client: Client) -> None:
    """Again and again the last log with it is deleted while another one comes: each has its image."""
    one = image(2.5)
    (digest,) = await client.store(one)
    await client.accept(log("data_0", output=token(digest)))
    for number in range(12):
        await client.accept(deleted_log(f"data_{number}"))
        await asyncio.sleep(random.uniform(0.8, 1.3) * UNUSED_SECONDS)  # noqa: S311 - about when it is removed
        await client.store(one)
        await client.accept(log(f"data_{number + 1}", output=token(digest)))
        assert await client.are_stored(digest) == [True]
    await client.until_decided()
    assert await client.are_stored(digest) == [True]
    await client.accept(deleted_log("data_12"))
    await client.until_decided()
    assert await client.parts(digest) == 0


@pytest_asyncio.fixture(loop_scope="session")
async def removal(servers: LoggingStack, client: Client) -> AsyncIterator[tuple[Client, BlobRemoval, UnusedBlobStore]]:
    """Yield a removal that runs when it is told to, on a database of its own."""
    with servers.database(f"t{secrets.token_hex(4)}") as database:
        await LogStore(database).prepare()

        async def get_progress() -> ConsumerProgress:
            return ConsumerProgress(first_sequence=1, last_sequence=0, ack_floor=0)

        async with servers.bus("logging") as bus:
            store, logs = UnusedBlobStore(database, 0.01), LogDeletionStore(database)
            yield client, BlobRemoval(bus, store, logs, ReadBarrier(get_progress, 2.0), 0.01), store


async def test_what_cannot_be_said_of_one_organisation_does_not_keep_the_images_of_others(
    removal: tuple[Client, BlobRemoval, UnusedBlobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, removing, unused = removal
    (mine,) = await client.store(image(0.1))
    others = [image(0.001) for _ in range(110)]
    await client.blobs.store("tm_2", dict(others))
    await unused.insert_many("tm_2", [digest for digest, _ in others])
    await asyncio.sleep(0.01)
    await unused.insert_many(ORGANISATION, [mine])
    await asyncio.sleep(0.05)
    request = Bus.request

    async def fail_for_one(bus: Bus, query: Request[V], **arguments: Any) -> V:
        if isinstance(query, GetHeldBlobs) and query.organisation == "tm_2":
            raise Internal("It has too many versions.")
        return await request(bus, query, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Bus, "request", fail_for_one)
        with pytest.raises(Internal):
            await removing.remove_due()
    assert await client.are_stored(mine) == [False]
    assert len(await unused.list_due(200)) == 110
    await removing.remove_due()
    assert await unused.list_due(200) == []


async def test_a_removal_that_was_killed_is_finished(
    removal: tuple[Client, BlobRemoval, UnusedBlobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, removing, unused = removal
    (digest,) = await client.store(image(2.5))
    await unused.insert_many(ORGANISATION, [digest])
    await asyncio.sleep(0.05)
    await _kill_at("purge_before", removing, monkeypatch)
    assert (await client.are_stored(digest), await client.parts(digest)) == ([False], 3)
    await removing.remove_due()
    assert await client.parts(digest) == 0
    assert await unused.list_due(1) == []


async def test_an_image_that_was_sent_again_after_a_killed_removal_stays_whole(
    removal: tuple[Client, BlobRemoval, UnusedBlobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, removing, unused = removal
    one = image(2.5)
    (digest,) = await client.store(one)
    await unused.insert_many(ORGANISATION, [digest])
    await asyncio.sleep(0.05)
    for step in ("delete_message", "purge_before"):
        await _kill_at(step, removing, monkeypatch)
        await client.store(one)
        client.held.add(digest)
        await asyncio.sleep(0.05)
        await removing.remove_due()
        assert await client.are_stored(digest) == [True]
        client.held.clear()
        await unused.insert_many(ORGANISATION, [digest])
        await asyncio.sleep(0.05)


async def test_a_head_is_not_renewed_in_the_moment_of_the_removal(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the head and renewing it, the blob is removed: it is stored again as a whole."""
    one = image(2.5)
    (digest,) = await client.store(one)
    read = get_last_of_leader

    async def remove_after_reading(bus: Bus, stream: str, subject: str) -> object:
        monkeypatch.setattr(blobs_module, "get_last_of_leader", read)
        head = await read(bus, stream, subject)
        assert head is not None
        assert await delete_message(client.operator, STREAM, head, subject)
        assert not await delete_message(client.operator, STREAM, head, subject)
        await purge_before(client.operator, STREAM, BlobKey(ORGANISATION, digest).subject("*"), head.sequence)
        return head

    monkeypatch.setattr(blobs_module, "get_last_of_leader", remove_after_reading)
    await client.store(one)
    assert await client.parts(digest) == 4
    assert await client.are_stored(digest) == [True]


async def test_a_blob_in_use_renews_its_head_and_nothing_else(client: Client) -> None:
    one = image(2.5)
    (digest,) = await client.store(one)
    subject = BlobKey(ORGANISATION, digest).subject("head")
    before = await get_last_of_leader(client.bus, STREAM, subject)
    part = await get_last_of_leader(client.bus, STREAM, BlobKey(ORGANISATION, digest).subject(0))
    await asyncio.gather(*(Blobs(client.bus, touch_seconds=0).store(ORGANISATION, dict([one])) for _ in range(3)))
    after = await get_last_of_leader(client.bus, STREAM, subject)
    await Blobs(client.bus, touch_seconds=60).store(ORGANISATION, dict([one]))
    assert before is not None
    assert after is not None
    assert after.sequence > before.sequence
    assert await get_last_of_leader(client.bus, STREAM, subject) == after
    assert await get_last_of_leader(client.bus, STREAM, BlobKey(ORGANISATION, digest).subject(0)) == part


async def _kill_at(step: str, removing: BlobRemoval, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what is due until this step, which is not done."""

    async def die(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(f"services.logging.purge.blobs.{step}", die)
        with pytest.raises(asyncio.CancelledError):
            await removing.remove_due()
