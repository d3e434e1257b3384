"""Stored provider keys and tool secrets while EVERLOOP_SECRET is replaced, on the real service."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared import ids
from shared.contracts.generation.credentials import SetProviderKey
from shared.contracts.generation.tools import CreateTool, Google
from shared.encryption import SecretBox
from shared.errors import Internal
from tests.integration.generation.stack import (
    GenerationStack,
    chat,
    collect_answer,
    config,
    new_organisation,
    run_generation_stack,
)
from tests.integration.servers import SECRET, Process, running, service, until_ready
from tests.principals import member

OLD = SECRET
NEW = base64.urlsafe_b64encode(bytes(range(32))).decode()
LOST = base64.urlsafe_b64encode(bytes(range(1, 33))).decode()
KEY = "sk-kept-by-the-organisation"
TOOL_SECRET = {"serpapi_key": "serp-secret"}


@pytest.fixture(scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GenerationStack]:
    """The servers; each test starts generation itself."""
    async with run_generation_stack(tmp_path_factory.mktemp("rotation")) as made:
        made.generation.terminate()
        yield made


@pytest.fixture
async def stack(servers: GenerationStack) -> AsyncIterator[GenerationStack]:
    """Nothing stored yet."""
    yield servers
    for collection in ("credentials", "tools"):
        await servers.database[collection].delete_many({})


@contextmanager
def generation(stack: GenerationStack, folder: Path, secret: str, *fallbacks: str) -> Iterator[Process]:
    process = service(
        *("generation", folder, stack.nats, stack.mongo),
        OPENAI_BASE_URL=stack.upstream.url,
        EVERLOOP_SECRET=secret,
        EVERLOOP_SECRET_FALLBACKS=",".join(fallbacks),
    )
    process.log.unlink(missing_ok=True)
    with running(process):
        yield process


def box(secret: str, *fallbacks: str) -> SecretBox:
    """What a gateway with these secrets encrypts with."""
    return SecretBox(SecretStr(secret), SecretStr(",".join(fallbacks)))


async def store_secrets(stack: GenerationStack, org: str, gateway: SecretBox) -> None:
    key = gateway.encrypt({"key": KEY})
    await stack.bus.request(SetProviderKey(principal=member(org), name="openai", sealed=key, by="ada@example.org"))
    encrypted = gateway.encrypt(TOOL_SECRET)
    settings = Google(kind="google")
    tool = CreateTool(
        id=ids.mint("tl"), principal=member(org), name="search", settings=settings, sealed_secrets=encrypted
    )
    await stack.bus.request(tool)


async def ciphertexts(stack: GenerationStack, org: str) -> list[str]:
    found = []
    for collection in ("credentials", "tools"):
        found += [document["sealed"] async for document in stack.database[collection].find({"organisation": org})]
    return found


async def key_used(stack: GenerationStack, org: str, **fields: Any) -> str | None:
    """Which key a call of the organisation shows to the provider."""
    asked = config(provider="openai", model="gpt-4o")
    _, generated = await collect_answer(stack.bus, chat(organisation=org, config=asked, **fields))
    assert generated.samples[0].output == "Fine, thank you."
    return stack.upstream.last.key


def told(process: Process) -> list[dict[str, Any]]:
    """What it logged about stored secrets."""
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if "encrypted anew" in line["message"] or "cannot be decrypted" in line["message"]]


async def test_after_a_start_with_the_new_secret_the_old_one_can_go(stack: GenerationStack, tmp_path: Path) -> None:
    org = new_organisation()
    with generation(stack, tmp_path, OLD):
        await until_ready(stack.bus, "generation")
        await store_secrets(stack, org, box(OLD))
    with generation(stack, tmp_path, NEW, OLD) as rotated:
        await until_ready(stack.bus, "generation")
        assert await key_used(stack, org) == KEY
    assert [line["message"] for line in told(rotated)] == [
        "1 provider keys were encrypted anew with the newest EVERLOOP_SECRET",
        "1 tool secrets were encrypted anew with the newest EVERLOOP_SECRET",
    ]
    stored = await ciphertexts(stack, org)
    key, tool_secret = [box(NEW).decrypt(each) for each in stored]
    assert (key["openai"], tool_secret) == (KEY, TOOL_SECRET)
    with generation(stack, tmp_path, NEW) as without_the_old:
        await until_ready(stack.bus, "generation")
        assert await key_used(stack, org) == KEY
    assert told(without_the_old) == []
    assert await ciphertexts(stack, org) == stored


async def test_gateway_and_generation_are_restarted_one_after_the_other(stack: GenerationStack, tmp_path: Path) -> None:
    """First each learns the new secret as a fallback, then each has it as its own, then each forgets the old one."""
    org = new_organisation()
    steps = [
        (box(OLD), (OLD, NEW)),
        (box(OLD, NEW), (OLD, NEW)),
        (box(NEW, OLD), (OLD, NEW)),
        (box(NEW, OLD), (NEW, OLD)),
        (box(NEW), (NEW, OLD)),
        (box(NEW), (NEW,)),
    ]
    for number, (gateway, secrets) in enumerate(steps):
        with generation(stack, tmp_path, *secrets) as process:
            await until_ready(stack.bus, "generation")
            if number == 0:
                await store_secrets(stack, org, gateway)
            assert await key_used(stack, org) == KEY
            mine = gateway.encrypt({"openai": f"sk-of-request-{number}"})
            assert await key_used(stack, org, sealed_keys=mine) == f"sk-of-request-{number}"
        assert not [line for line in told(process) if line["level"] == "ERROR"]


async def test_replicas_that_start_at_once_encrypt_everything_anew(stack: GenerationStack, tmp_path: Path) -> None:
    orgs = [new_organisation() for _ in range(300)]
    await stack.database["credentials"].insert_many(
        [{"_id": f"{org}/openai", "organisation": org, "name": "openai", "sealed": box(OLD).encrypt({"openai": org})}
         for org in orgs]
    )  # fmt: skip
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with generation(stack, tmp_path / "one", NEW, OLD) as one, generation(stack, tmp_path / "two", NEW, OLD) as two:
        for process in (one, two):
            await until_logged_ready(process)
    for org in orgs:
        assert [box(NEW).decrypt(each)["openai"] for each in await ciphertexts(stack, org)] == [org]
    assert sum(int(line["message"].split()[0]) for process in (one, two) for line in told(process)) == 300


async def test_what_no_secret_decrypts_is_named_and_the_rest_goes_on(stack: GenerationStack, tmp_path: Path) -> None:
    org, lost = new_organisation(), new_organisation()
    with generation(stack, tmp_path, LOST):
        await until_ready(stack.bus, "generation")
        await store_secrets(stack, lost, box(LOST))
    before = await ciphertexts(stack, lost)
    with generation(stack, tmp_path, NEW, OLD) as process:
        await until_ready(stack.bus, "generation")
        await store_secrets(stack, org, box(NEW))
        assert await key_used(stack, org) == KEY
        with pytest.raises(Internal):
            await key_used(stack, lost)
    tools = stack.database["tools"].find({"organisation": lost})
    assert [(line["level"], line["ids"]) for line in told(process)] == [
        ("ERROR", [f"{lost}/openai"]),
        ("ERROR", [document["_id"] async for document in tools]),
    ]
    assert KEY not in process.log.read_text()
    assert await ciphertexts(stack, lost) == before


async def until_logged_ready(process: Process) -> None:
    async with asyncio.timeout(20):
        while '"ready"' not in process.log.read_text():  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.05)
