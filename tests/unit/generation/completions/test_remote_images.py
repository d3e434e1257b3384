"""Images named by address: what is refused before anything is fetched, how many at a time, how much, how often."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.generation.completions import remote_images
from services.generation.completions.remote_images import RemoteImages
from services.generation.http.guarded_client import Fetched, GuardedClient
from services.generation.models.request import ModelRequest
from services.generation.providers.requests import Providers
from shared.contracts.chat import ChatMessage
from shared.contracts.projects import ModelConfig
from shared.errors import Invalid, Problem, TooLarge, Unauthenticated, UpstreamFailed

MIB = 1024 * 1024
SMALL = b"\x89PNG"
PROVIDERS = Providers({"GEMINI_API_KEY": "AIza-own", "AWS_BEARER_TOKEN_BEDROCK": "own"}, None)


class Web(GuardedClient):
    """Gives what it has of each address, in pieces, and notes how many are under way."""

    def __init__(self, **contents: bytes | Problem | None) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.ended: list[str] = []
        self.bytes = 0
        self.most_at_once = 0
        self.go_on = asyncio.Event()
        """What is None waits for this."""
        self._contents = contents

    async def get(self, url: str, *, arrived: Callable[[int], None] | None = None, **_: Any) -> Fetched:
        self.asked.append(url)
        self.most_at_once = max(self.most_at_once, len(self.asked) - len(self.ended))
        try:
            await asyncio.sleep(0)
            content = self._contents.get(url.rpartition("/")[2], SMALL)
            if content is None:
                await self.go_on.wait()
            if isinstance(content, Problem):
                raise content
            for start in range(0, len(content or b""), MIB):
                assert arrived
                self.bytes += len((content or b"")[start : start + MIB])
                arrived(len((content or b"")[start : start + MIB]))
                await asyncio.sleep(0)
            return Fetched(200, "image/png", content or SMALL)
        finally:
            self.ended.append(url)


class Shelf(dict[str, bytes]):
    """Contents that were kept."""

    async def keep(self, contents: dict[str, bytes]) -> None:
        self.update(contents)


def looking(
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
    (message,) = request.messages or ()
    return [part.image_url.url for part in message.content[1:]]  # type: ignore[union-attr, index]


async def agree(_: ModelRequest) -> None:
    """Nothing is to be said against it."""


def callable_at(providers: Providers) -> Callable[[ModelRequest], Awaitable[None]]:
    async def refuse(request: ModelRequest) -> None:
        providers.prepare(request, {})

    return refuse


async def test_small_images_become_data_and_large_ones_tokens_of_what_was_kept() -> None:
    shelf, large = Shelf(), b"x" * 60_000
    request = await RemoteImages(Web(large=large), shelf.keep).inline(looking("small", "large", "small"), agree)
    data = base64.b64encode(large)
    digest = hashlib.sha256(data).hexdigest()
    small = f"data:image/png;base64,{base64.b64encode(SMALL).decode()}"
    assert urls(request) == [small, f"data:image/png;base64,everloop-blob:{digest}", small]
    assert shelf == {digest: data}


@pytest.mark.parametrize(
    ("request_", "environment", "problem"),
    [
        (looking("a"), {}, Unauthenticated),
        (looking("a", provider="bedrock", model="anthropic.claude-3-sonnet-20240229-v1:0"), {}, Unauthenticated),
        (looking("a", provider="bedrock", model="meta.llama3-8b-instruct-v1:0"), None, Invalid),
        (looking("a", tool_choice="required"), None, Invalid),
        (looking("a", provider="ollama", model="llava", tool_choice="required"), None, Invalid),
    ],
    ids=["no key", "no key for bedrock", "a model that cannot see", "contradicts itself", "nothing to choose from"],
)
async def test_what_is_refused_anyway_fetches_nothing(
    request_: ModelRequest, environment: dict[str, str] | None, problem: type[Problem]
) -> None:
    web, providers = Web(), PROVIDERS if environment is None else Providers(environment, None)
    with pytest.raises(problem):
        await RemoteImages(web, Shelf().keep).inline(request_, callable_at(providers))
    assert web.asked == []


async def test_what_would_not_be_refused_is_not_refused_for_its_stand_ins() -> None:
    for provider, model in (("google", "gemini-2.5-flash"), ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0")):
        request = looking("a", provider=provider, model=model)
        inlined = await RemoteImages(Web(), Shelf().keep).inline(request, callable_at(PROVIDERS))
        assert base64.b64encode(SMALL).decode() in str(PROVIDERS.prepare(inlined, {})[0].body)


async def test_one_address_that_is_none_fetches_nothing_of_the_others() -> None:
    web = Web()
    with pytest.raises(Invalid, match="https://"):
        await RemoteImages(web, Shelf().keep).inline(looking("a", "b", base="ftp://e.org/"), agree)
    with pytest.raises(Invalid, match="a user or password"):
        await RemoteImages(web, Shelf().keep).inline(looking("a", "b@e.org", base="https://"), agree)
    assert web.asked == []


async def test_too_many_addresses_are_refused_and_one_address_often_is_one() -> None:
    web = Web()
    with pytest.raises(Invalid, match="501 images by address; at most 100"):
        await RemoteImages(web, Shelf().keep).inline(looking(*(f"{number}" for number in range(501))), agree)
    assert web.asked == []
    await RemoteImages(web, Shelf().keep).inline(looking(*["a"] * 501), agree)
    assert web.asked == ["https://e.org/a"]


async def test_four_are_fetched_at_a_time() -> None:
    web = Web()
    await RemoteImages(web, Shelf().keep).inline(looking(*(f"{number}" for number in range(50))), agree)
    assert len(web.asked) == 50
    assert web.most_at_once == 4


async def test_a_failure_is_told_itself_ends_the_others_and_keeps_nothing() -> None:
    shelf = Shelf()
    web = Web(large=b"x" * MIB, broken=UpstreamFailed("gone"), slow=None)
    with pytest.raises(UpstreamFailed, match="gone"):
        await RemoteImages(web, shelf.keep).inline(looking("slow", "large", "slow2", "broken", *"abcdefgh"), agree)
    assert "https://e.org/slow" in web.ended
    assert len(web.asked) < 12
    assert len(web.ended) == len(web.asked)
    assert shelf == {}


async def test_all_images_together_have_a_bound_that_is_seen_while_they_arrive() -> None:
    shelf, large = Shelf(), b"x" * 15 * MIB
    web = Web(**{f"i{number}": large for number in range(20)})
    with pytest.raises(TooLarge, match="more than 37,748,736 bytes together: name fewer, or smaller ones"):
        await RemoteImages(web, shelf.keep).inline(looking(*(f"i{number}" for number in range(20))), agree)
    assert web.bytes <= (36 + 4) * MIB, "at most a piece too much of each that is under way"
    assert shelf == {}
    fits = Web(a=b"x" * 18 * MIB, b=b"y" * 18 * MIB)
    await RemoteImages(fits, shelf.keep).inline(looking("a", "b"), agree)
    assert sum(map(len, shelf.values())) == 48 * MIB, "as much as a body of images sent as data"


async def test_all_images_together_have_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_images, "_TOTAL_SECONDS", 0.02)
    web = Web(slow=None)
    with pytest.raises(UpstreamFailed, match=r"did not all arrive within 0\.02 seconds"):
        await RemoteImages(web, Shelf().keep).inline(looking("slow", "fast"), agree)
    assert len(web.ended) == 2


async def test_models_asked_instead_use_what_was_fetched() -> None:
    web, refused = Web(slow=None), list[ModelRequest]()

    async def note(request: ModelRequest) -> None:
        refused.append(request)

    by_address = RemoteImages(web, Shelf().keep)
    several = [
        asyncio.create_task(by_address.inline(looking("slow", model=model), note))
        for model in ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.0-flash")
    ]
    await asyncio.sleep(0.01)
    several[0].cancel()  # the sample that asked first is not wanted any more
    await asyncio.sleep(0.01)
    web.go_on.set()
    one, other = await asyncio.gather(*several[1:])
    assert (one.config.model, other.config.model) == ("gemini-2.5-pro", "gemini-2.0-flash")
    assert urls(one) == urls(other)
    assert web.asked == ["https://e.org/slow"] * 2, "once more, since the first was given up"
    assert len(refused) == 3, "but each is judged for itself"


async def test_what_could_not_be_fetched_is_not_tried_again_by_the_next_model() -> None:
    web = Web(broken=UpstreamFailed("gone"))
    by_address = RemoteImages(web, Shelf().keep)
    for _ in range(3):
        with pytest.raises(UpstreamFailed, match="gone"):
            await by_address.inline(looking("broken"), agree)
    assert web.asked == ["https://e.org/broken"]
