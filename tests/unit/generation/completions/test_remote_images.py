"""Images given by URL: what is refused before anything is fetched; limits of number, size, time and concurrency."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.generation.completions import remote_images
from services.generation.completions.remote_images import RemoteImages
from services.generation.models.request import ModelRequest
from services.generation.providers.requests import Providers
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, Problem, TooLarge, Unauthenticated, UpstreamFailed
from tests.unit.generation.completions.builders import MIB, PIXEL, ScriptedWeb, StoredContents

PROVIDERS = Providers({"GEMINI_API_KEY": "AIza-own", "AWS_BEARER_TOKEN_BEDROCK": "own"}, None)


def chat_with_images(
    *names: str,
    base: str = "https://e.org/",
    provider: str = "google",
    model: str = "gemini-2.5-flash",
    **fields: Any,
) -> ModelRequest:
    content = [{"type": "image_url", "image_url": {"url": base + name, "detail": "low"}} for name in names]
    config = ModelConfig.model_validate({"provider": provider, "model": model, "endpoint": "chat"})
    message = ChatMessage.model_validate({"role": "user", "content": [{"type": "text", "text": "Look"}, *content]})
    return ModelRequest(config, messages=[message], **fields)


def urls(request: ModelRequest) -> list[str]:
    (message,) = request.messages or []
    return [part.image_url.url for part in message.content[1:]]  # type: ignore[union-attr, index]


async def accept(_: ModelRequest) -> None:
    """Refuses nothing."""


def validator(providers: Providers) -> Callable[[ModelRequest], Awaitable[None]]:
    async def refuse(request: ModelRequest) -> None:
        providers.prepare(request, {})

    return refuse


async def test_small_images_become_data_and_large_ones_tokens_of_stored_blobs() -> None:
    stored, large = StoredContents(), b"x" * 60_000
    request = await RemoteImages(ScriptedWeb(large=large), "tm_1", stored.store).inline(
        chat_with_images("small", "large", "small"), accept
    )
    data = base64.b64encode(large)
    digest = hashlib.sha256(data).hexdigest()
    small = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
    assert urls(request) == [small, f"data:image/png;base64,everloop-blob:{digest}", small]
    assert stored == {digest: data}


@pytest.mark.parametrize(
    ("request_", "environment", "problem"),
    [
        (chat_with_images("a"), {}, Unauthenticated),
        (
            chat_with_images("a", provider="bedrock", model="anthropic.claude-3-sonnet-20240229-v1:0"),
            {},
            Unauthenticated,
        ),
        (chat_with_images("a", provider="bedrock", model="meta.llama3-8b-instruct-v1:0"), None, Invalid),
        (chat_with_images("a", tool_choice="required"), None, Invalid),
        (chat_with_images("a", provider="ollama", model="llava", tool_choice="required"), None, Invalid),
    ],
    ids=["no key", "no key for bedrock", "a model that cannot see", "contradicts itself", "nothing to choose from"],
)
async def test_a_request_that_is_refused_fetches_nothing(
    request_: ModelRequest, environment: dict[str, str] | None, problem: type[Problem]
) -> None:
    web, providers = ScriptedWeb(), PROVIDERS if environment is None else Providers(environment, None)
    with pytest.raises(problem):
        await RemoteImages(web, "tm_1", StoredContents().store).inline(request_, validator(providers))
    assert web.requested == []


async def test_placeholders_do_not_get_a_valid_request_refused() -> None:
    for provider, model in (("google", "gemini-2.5-flash"), ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0")):
        request = chat_with_images("a", provider=provider, model=model)
        inlined = await RemoteImages(ScriptedWeb(), "tm_1", StoredContents().store).inline(
            request, validator(PROVIDERS)
        )
        assert base64.b64encode(PIXEL).decode() in str(PROVIDERS.prepare(inlined, {})[0].body)


async def test_one_invalid_url_fetches_none_of_the_others() -> None:
    web = ScriptedWeb()
    with pytest.raises(Invalid, match="https://"):
        await RemoteImages(web, "tm_1", StoredContents().store).inline(
            chat_with_images("a", "b", base="ftp://e.org/"), accept
        )
    with pytest.raises(Invalid, match="a user or password"):
        await RemoteImages(web, "tm_1", StoredContents().store).inline(
            chat_with_images("a", "b@e.org", base="https://"), accept
        )
    assert web.requested == []


async def test_too_many_urls_are_refused_and_a_repeated_url_counts_once() -> None:
    web = ScriptedWeb()
    with pytest.raises(Invalid, match="501 images by address; at most 100"):
        await RemoteImages(web, "tm_1", StoredContents().store).inline(
            chat_with_images(*(f"{number}" for number in range(501))), accept
        )
    assert web.requested == []
    await RemoteImages(web, "tm_1", StoredContents().store).inline(chat_with_images(*["a"] * 501), accept)
    assert web.requested == ["https://e.org/a"]


async def test_four_are_fetched_at_a_time() -> None:
    web = ScriptedWeb()
    await RemoteImages(web, "tm_1", StoredContents().store).inline(
        chat_with_images(*(f"{number}" for number in range(50))), accept
    )
    assert len(web.requested) == 50
    assert web.max_concurrency == 4


async def test_a_failure_is_raised_as_it_is_ends_the_other_fetches_and_stores_nothing() -> None:
    stored = StoredContents()
    web = ScriptedWeb(large=b"x" * MIB, broken=UpstreamFailed("gone"), slow=None)
    with pytest.raises(UpstreamFailed, match="gone"):
        await RemoteImages(web, "tm_1", stored.store).inline(
            chat_with_images("slow", "large", "slow2", "broken", *"abcdefgh"), accept
        )
    assert "https://e.org/slow" in web.ended
    assert len(web.requested) < 12
    assert len(web.ended) == len(web.requested)
    assert stored == {}


async def test_the_limit_of_all_images_together_is_checked_while_they_arrive() -> None:
    stored, large = StoredContents(), b"x" * 15 * MIB
    web = ScriptedWeb(**{f"i{number}": large for number in range(20)})
    with pytest.raises(TooLarge, match="more than 37,748,736 bytes together: name fewer, or smaller ones"):
        await RemoteImages(web, "tm_1", stored.store).inline(
            chat_with_images(*(f"i{number}" for number in range(20))), accept
        )
    assert web.bytes <= (36 + 4) * MIB, "at most a piece too much of each that is under way"
    assert stored == {}
    fits = ScriptedWeb(a=b"x" * 18 * MIB, b=b"y" * 18 * MIB)
    await RemoteImages(fits, "tm_1", stored.store).inline(chat_with_images("a", "b"), accept)
    assert sum(map(len, stored.values())) == 48 * MIB, "as much as a body of images sent as data"


async def test_all_images_together_have_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_images, "_TOTAL_SECONDS", 0.02)
    web = ScriptedWeb(slow=None)
    with pytest.raises(UpstreamFailed, match=r"did not all arrive within 0\.02 seconds"):
        await RemoteImages(web, "tm_1", StoredContents().store).inline(chat_with_images("slow", "fast"), accept)
    assert len(web.ended) == 2


async def test_fallback_models_use_the_images_fetched_before() -> None:
    web, refused = ScriptedWeb(slow=None), list[ModelRequest]()

    async def note(request: ModelRequest) -> None:
        refused.append(request)

    images = RemoteImages(web, "tm_1", StoredContents().store)
    tasks = [
        asyncio.create_task(images.inline(chat_with_images("slow", model=model), note))
        for model in ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.0-flash")
    ]
    await asyncio.sleep(0.01)
    tasks[0].cancel()  # the sample that asked first is not wanted any more
    await asyncio.sleep(0.01)
    web.proceed.set()
    one, other = await asyncio.gather(*tasks[1:])
    assert (one.config.model, other.config.model) == ("gemini-2.5-pro", "gemini-2.0-flash")
    assert urls(one) == urls(other)
    assert web.requested == ["https://e.org/slow"] * 2, "once more, since the first was given up"
    assert len(refused) == 3, "but each is judged for itself"


async def test_a_failed_fetch_is_not_tried_again_for_the_next_model() -> None:
    web = ScriptedWeb(broken=UpstreamFailed("gone"))
    images = RemoteImages(web, "tm_1", StoredContents().store)
    for _ in range(3):
        with pytest.raises(UpstreamFailed, match="gone"):
            await images.inline(chat_with_images("broken"), accept)
    assert web.requested == ["https://e.org/broken"]
