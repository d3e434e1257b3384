"""generation redeems tokens just before it sends, and nowhere else."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.blobs import STREAM, SUBJECTS, Blobs
from shared.bus import StreamSpec, ensure_stream
from shared.contracts.generation.generations import Chat
from shared.errors import Invalid, TooLarge
from tests.integration.generation.stack import (
    GenerationStack,
    chat,
    collect_answer,
    config,
    new_organisation,
    run_generation_stack,
)

SEES: dict[str, Any] = {"provider": "openai", "model": "gpt-4-vision-preview"}


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GenerationStack]:
    folder: Path = tmp_path_factory.mktemp("images")
    async with run_generation_stack(folder) as started:
        await ensure_stream(started.bus, StreamSpec(STREAM, (SUBJECTS,), last_per_subject_only=True))
        yield started


async def kept(stack: GenerationStack, owner: str, size: int = 2_000_000) -> tuple[str, str]:
    """The token of an image that `owner` has, and its data."""
    content = hashlib.shake_256(owner.encode()).hexdigest(size // 2).encode()
    digest = hashlib.sha256(content).hexdigest()
    await Blobs(stack.bus).store(owner, {digest: content})
    return f"everloop-blob:{digest}", content.decode()


def looking(owner: str, *urls: str, text: str = "Look", **fields: Any) -> Chat:
    """A chat about images."""
    parts: list[Any] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    messages = [{"role": "user", "content": [{"type": "text", "text": text}, *parts]}]
    return chat(organisation=owner, config=config(**SEES), messages=messages, **fields)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_every_sample_is_sent_the_data_and_logged_with_the_token(stack: GenerationStack, *, stream: bool) -> None:
    stack.upstream.clear()
    owner = new_organisation()
    token, data = await kept(stack, owner)
    command = looking(owner, f"data:image/png;base64,{token}", num_samples=2, stream=stream)
    _, generation = await collect_answer(stack.bus, command)
    sent = [request.body["messages"][0]["content"][1]["image_url"]["url"] for request in stack.upstream.requests]
    assert sent == [f"data:image/png;base64,{data}"] * (2 if stream else 1)
    for record in await stack.logs(*command.log_ids):
        said = record.model_dump_json()
        assert data not in said
        assert said.count(f"data:image/png;base64,{token}") == 2  # in messages, and in provider_request
    assert f"data:image/png;base64,{token}" in generation.model_dump_json()


async def test_a_token_of_nothing_is_refused_before_anything_is_sent(stack: GenerationStack) -> None:
    stack.upstream.clear()
    token, _ = await kept(stack, new_organisation())
    command = looking(new_organisation(), f"data:image/png;base64,{token}")
    with pytest.raises(Invalid, match=token):
        await collect_answer(stack.bus, command)
    assert stack.upstream.requests == []
    (record,) = await stack.logs(*command.log_ids)
    assert token in (record.error or "")


async def test_one_image_named_very_often_is_refused(stack: GenerationStack) -> None:
    stack.upstream.clear()
    owner = new_organisation()
    token, _ = await kept(stack, owner)
    with pytest.raises(TooLarge, match="With its images the request to OpenAI takes 140,0"):
        await collect_answer(stack.bus, looking(owner, text=f"{token} " * 70))
    assert stack.upstream.requests == []
