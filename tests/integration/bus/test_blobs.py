"""Blobs on a real NATS server: stored once, whole or not at all, and never another organisation's."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.logging.main import streams
from services.logging.settings import LoggingSettings
from shared import blobs as module
from shared.blobs import Blobs, InlinedText
from shared.bus import Bus, ensure_stream, get_last_message
from shared.errors import Internal, Unavailable
from tests.integration.servers import Nats, connected, running

ORGANISATION, OTHER = "tm_1", "tm_2"
PART = module.PART_BYTES


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    server = Nats(tmp_path_factory.mktemp("blobs"))
    with running(server):
        yield server


async def prepare(bus: Bus, most_bytes: int = -1) -> None:
    """The stream, as logging makes it."""
    settings = LoggingSettings(blobs_max_bytes=most_bytes)
    (spec,) = (spec for spec in streams(settings) if spec.name == module.STREAM)
    await asyncio.gather(ensure_stream(bus, spec), ensure_stream(bus, spec))  # two replicas start at the same time
    await ensure_stream(bus, spec)


@pytest.fixture
async def bus(nats: Nats) -> AsyncIterator[Bus]:
    async with connected(nats) as bus:
        await prepare(bus)
        yield bus


def image(parts: float = 2.5) -> dict[str, bytes]:
    """Content nobody stored before, by its digest."""
    content = random.randbytes(int(parts * PART / 2)).hex().encode()  # noqa: S311
    return {hashlib.sha256(content).hexdigest(): content}


async def read(bus: Bus, organisation: str, digest: str) -> bytes:
    """As a process does that has nothing in memory."""
    inlined = await Blobs(bus).inline(organisation, f"everloop-blob:{digest}".encode())
    return b"".join([piece async for piece in inlined.chunks()])


async def places(bus: Bus, digest: str) -> dict[str, int]:
    """Where its messages stand, and how many there are of each."""
    info = await bus.client.jetstream().stream_info(module.STREAM, subjects_filter=f"blobs.*.{digest}.*")
    return {subject.rpartition(".")[2]: count for subject, count in (info.state.subjects or {}).items()}


async def overwrite(bus: Bus, digest: str, place: int, content: bytes) -> None:
    """As nobody of ours would."""
    await bus.client.jetstream().publish(f"blobs.{ORGANISATION}.{digest}.{place}", content)


@pytest.mark.parametrize("parts", [0.1, 1, 2.5])
async def test_what_is_kept_is_read_by_another_process(bus: Bus, parts: float) -> None:
    ((digest, content),) = image(parts).items()
    await Blobs(bus).store(ORGANISATION, {digest: content})
    assert await read(bus, ORGANISATION, digest) == content


async def test_it_is_stored_once_however_often_and_by_however_many(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    ((digest, content),) = image().items()
    several = [Blobs(bus) for _ in range(3)]
    await asyncio.gather(*(each.store(ORGANISATION, {digest: content}) for each in several * 2))
    monkeypatch.setattr(bus, "append", None)  # from now on nothing is sent
    await Blobs(bus).store(ORGANISATION, {digest: content})
    await several[0].store(ORGANISATION, {digest: content})
    assert await places(bus, digest) == {"0": 1, "1": 1, "2": 1, "head": 1}


async def test_what_one_organisation_keeps_another_does_not_have(bus: Bus) -> None:
    ((digest, content),) = image().items()
    blobs = Blobs(bus)
    await blobs.store(ORGANISATION, {digest: content})
    text = f'"everloop-blob:{digest}"'.encode()
    inlined = await blobs.inline(OTHER, text)
    assert await inlined.read() == text
    assert inlined.missing_tokens == [f"everloop-blob:{digest}"]
    await blobs.store(OTHER, {digest: content})
    assert await read(bus, OTHER, digest) == content


async def test_text_is_filled_piece_by_piece_and_at_once(bus: Bus) -> None:
    first, second = image(1.5), image(0.2)
    ((one, one_content), (two, two_content)) = *first.items(), *second.items()
    await Blobs(bus).store(ORGANISATION, first | second)
    unknown = "everloop-blob:" + "0" * 64
    text = f'{{"a": "everloop-blob:{one}", "b": ["everloop-blob:{two} {unknown}", "everloop-blob:{one}"]}}'.encode()
    wanted = b'{"a": "%b", "b": ["%b %b", "%b"]}' % (one_content, two_content, unknown.encode(), one_content)
    inlined = await Blobs(bus).inline(ORGANISATION, text)
    assert inlined.missing_tokens == []  # it stands in a text, and may well be one
    assert inlined.size == len(wanted)
    pieces = [piece async for piece in inlined.chunks()]
    assert b"".join(pieces) == wanted
    assert max(map(len, pieces)) <= PART
    assert await inlined.read() == wanted


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ('"{}"', True),
        ('"data:image/png;base64,{}"', True),
        ('"What is {}?"', False),
        ('"{} is what?"', False),
        ('"not {}"', False),
    ],
)
async def test_where_data_should_stand_a_token_of_nothing_is_named(bus: Bus, text: str, *, lost: bool) -> None:
    token = "everloop-blob:" + "a" * 64
    inlined: InlinedText = await Blobs(bus).inline(ORGANISATION, text.format(token).encode())
    assert inlined.missing_tokens == ([token] if lost else [])
    assert await inlined.read() == text.format(token).encode()


async def test_damaged_data_is_an_error_and_never_given_whole(bus: Bus) -> None:
    ((digest, content),) = image().items()
    await Blobs(bus).store(ORGANISATION, {digest: content})
    await overwrite(bus, digest, 1, content[PART + 1 : 2 * PART] + b"!")
    inlined = await Blobs(bus).inline(ORGANISATION, f"everloop-blob:{digest}".encode())
    given: list[bytes] = []

    async def give() -> None:
        async for piece in inlined.chunks():
            given.append(piece)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(Internal, match="damaged"):
        await give()
    assert b"".join(given).strip() == content[:PART] + content[PART + 1 : 2 * PART] + b"!"
    with pytest.raises(Internal, match="damaged"):
        await inlined.read()


async def test_lost_data_is_an_error(bus: Bus) -> None:
    ((digest, content),) = image().items()
    await Blobs(bus).store(ORGANISATION, {digest: content})
    await bus.client.jetstream().purge_stream(module.STREAM, subject=f"blobs.{ORGANISATION}.{digest}.1")
    with pytest.raises(Internal, match="damaged"):
        await read(bus, ORGANISATION, digest)


async def test_memory_is_bounded_and_saves_the_way(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [image(1) for _ in range(3)]
    blobs = Blobs(bus, cached_content_bytes=2 * PART)
    for each in images:
        await blobs.store(ORGANISATION, each)
    asked: list[str] = []

    async def noting(bus: Bus, stream: str, subject: str) -> bytes | None:
        asked.append(subject)
        return await get_last_message(bus, stream, subject)

    monkeypatch.setattr(module, "get_last_message", noting)
    for each in reversed(images):
        ((digest, content),) = each.items()
        inlined = await blobs.inline(ORGANISATION, f"everloop-blob:{digest}".encode())
        assert b"".join([piece async for piece in inlined.chunks()]) == content
    (oldest,) = images[0]
    assert [subject for subject in asked if not subject.endswith("head")] == [f"blobs.{ORGANISATION}.{oldest}.0"]


async def test_a_replica_that_is_behind_is_not_believed(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    ((digest, content),) = image(1).items()
    await Blobs(bus).store(ORGANISATION, {digest: content})
    request = Client.request

    async def behind(client: Client, subject: str, *arguments: Any, **named: Any) -> Msg:
        if ".DIRECT.GET." in subject:
            return Msg(client, headers={"Status": "404", "Description": "Message Not Found"})
        return await request(client, subject, *arguments, **named)

    monkeypatch.setattr(Client, "request", behind)
    assert await read(bus, ORGANISATION, digest) == content
    assert await get_last_message(bus, module.STREAM, "blobs.tm_1.nothing") is None


async def every_place(bus: Bus, digest: str) -> set[str]:
    """Where it stands, for good and briefly."""
    info = await bus.client.jetstream().stream_info(module.STREAM, subjects_filter=f"blobs.*.{digest}.>")
    return {subject.split(".", 3)[3] for subject in info.state.subjects or {}}


async def test_what_is_kept_briefly_goes_by_itself(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEMPORARY_SECONDS", 1)
    monkeypatch.setattr(module, "_PART_MARGIN_SECONDS", 1)
    ((digest, content),) = image(1.5).items()
    blobs = Blobs(bus)
    await blobs.store(ORGANISATION, {digest: content}, temporary=True)
    assert await every_place(bus, digest) == {"brief.0", "brief.1", "brief.head"}
    assert await read(bus, ORGANISATION, digest) == content
    async with asyncio.timeout(10):
        while await every_place(bus, digest):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.1)
    text = f"everloop-blob:{digest}".encode()
    assert await (await blobs.inline(ORGANISATION, text)).read() == text


async def test_what_is_kept_for_good_stays_whatever_is_kept_briefly(bus: Bus) -> None:
    first, second = image(0.1), image(0.1)
    ((one, _), (two, content)) = *first.items(), *second.items()
    blobs = Blobs(bus)
    await blobs.store(ORGANISATION, first)
    await blobs.store(ORGANISATION, first, temporary=True)
    assert await every_place(bus, one) == {"0", "head"}
    await blobs.store(ORGANISATION, second, temporary=True)
    await blobs.store(ORGANISATION, second)
    assert await every_place(bus, two) == {"0", "head", "brief.0", "brief.head"}
    await bus.client.jetstream().purge_stream(module.STREAM, subject=f"blobs.{ORGANISATION}.{two}.brief.*")
    assert await read(bus, ORGANISATION, two) == content


async def test_sent_again_it_stands_for_another_while(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    ((digest, content),) = image(0.1).items()
    await Blobs(bus).store(ORGANISATION, {digest: content}, temporary=True)
    sent: dict[str, Any] = {}

    async def noting(subject: str, _: bytes, *, headers: Any, **__: Any) -> int:
        sent[subject.rpartition(".")[2]] = headers
        return 1

    monkeypatch.setattr(bus, "append", noting)
    await Blobs(bus).store(ORGANISATION, {digest: content}, temporary=True)
    assert sent == {"0": {"Nats-TTL": "4200s"}, "head": {"Nats-TTL": "3600s"}}


async def test_a_full_stream_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    first, second = image(1.5), image(1.5)
    ((digest, content),) = first.items()
    server = Nats(tmp_path)
    with running(server):
        async with connected(server) as bus:
            await prepare(bus, 2 * PART)
            await Blobs(bus).store(ORGANISATION, first)
            with pytest.raises(Unavailable, match="maximum bytes exceeded"):
                await Blobs(bus).store(ORGANISATION, second)
            assert await read(bus, ORGANISATION, digest) == content


async def test_a_server_killed_in_the_middle_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_CONCURRENT_PARTS", 1)
    monkeypatch.setattr(module, "_APPEND_TIMEOUT_SECONDS", 1.0)
    ((digest, content),) = image(6).items()
    server = Nats(tmp_path)
    with running(server):
        async with connected(server) as bus:
            await prepare(bus)
            append, sent = bus.append, list[str]()

            async def killing(subject: str, *arguments: Any, **named: Any) -> int:
                sent.append(subject)
                if len(sent) == 4:
                    server.kill()
                return await append(subject, *arguments, **named)

            monkeypatch.setattr(bus, "append", killing)
            blobs = Blobs(bus)
            with pytest.raises(Unavailable):
                await blobs.store(ORGANISATION, {digest: content})
            with pytest.raises(Unavailable):
                await blobs.inline(ORGANISATION, f"everloop-blob:{digest}".encode())
            server.start()
            await bus.connected_client()
            assert set(await places(bus, digest)) == {"0", "1", "2"}
            text = f"everloop-blob:{digest}".encode()
            assert await (await blobs.inline(ORGANISATION, text)).read() == text
            await blobs.store(ORGANISATION, {digest: content})
            assert await read(bus, ORGANISATION, digest) == content
            assert set((await places(bus, digest)).values()) == {1}


async def test_a_server_that_lost_everything_is_given_it_again(tmp_path: Path) -> None:
    ((digest, content),) = image(1).items()
    server = Nats(tmp_path)
    with running(server):
        async with connected(server) as bus:
            await prepare(bus)
            blobs = Blobs(bus)
            await blobs.store(ORGANISATION, {digest: content})
            await bus.client.jetstream().delete_stream(module.STREAM)
            back = asyncio.Event()
            bus.on_reconnect(back.set)
            server.kill()
            server.start()
            await asyncio.wait_for(back.wait(), 10)
            await prepare(bus)
            await blobs.store(ORGANISATION, {digest: content})
            assert await read(bus, ORGANISATION, digest) == content
