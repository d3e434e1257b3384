"""Requests of a run: the served model first, fallbacks when asked for; images and budgets as each provider needs."""

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from services.generation.completions.planner import Planner
from services.generation.completions.remote_images import RemoteImages
from services.generation.models.request import ModelRequest
from services.generation.providers.base import PreparedRequest
from services.generation.providers.requests import Providers
from shared.blobs import TOKEN, Blobs, InlinedText
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, Problem, Unauthenticated, UpstreamFailed
from tests.unit.generation.completions.builders import PIXEL, ScriptedWeb, StoredContents

LARGE = base64.b64encode(b"z" * 60_000)
DIGEST = hashlib.sha256(LARGE).hexdigest()
PIXEL_DATA = base64.b64encode(PIXEL).decode()


class StoredBlobs(Blobs):
    """Has the blobs of one organisation, and looks up tokens of whole JSON strings."""

    def __init__(self, organisation: str, contents: dict[str, bytes]) -> None:
        self.organisation = organisation
        self.contents = contents

    async def inline(self, organisation: str, text: bytes) -> InlinedText:
        known = self.contents if organisation == self.organisation else {}
        return Replaced(text, known)


class Replaced(InlinedText):
    """A text with its tokens replaced."""

    def __init__(self, text: bytes, contents: dict[str, bytes]) -> None:
        self.text = text
        for digest, content in contents.items():
            self.text = self.text.replace(TOKEN.encode() + digest.encode(), content)
        self.size = len(self.text)
        self.missing_tokens = [TOKEN] if TOKEN.encode() in self.text else []

    async def read(self) -> bytes:
        return self.text


def config(provider: str, model: str, **fields: Any) -> ModelConfig:
    return ModelConfig.model_validate({"provider": provider, "model": model, "endpoint": "chat"} | fields)


OPENAI = config("openai", "gpt-4o", max_tokens=5)
GOOGLE = config("google", "gemini-2.5-flash", max_tokens=5)
OLLAMA = config("ollama", "llava", max_tokens=5)
ANTHROPIC = config("anthropic", "claude-3-haiku-20240307", max_tokens=5)


def request(*urls: str, samples: int = 1, **fields: Any) -> ModelRequest:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content = [{"type": "text", "text": "Look"}, *images]
    message = ChatMessage.model_validate({"role": "user", "content": content})
    return ModelRequest(OPENAI, messages=[message], samples=samples, **fields)


class Setting:
    """A planner with its surroundings: keys of every provider but Cohere, one stored blob."""

    def __init__(self, web: ScriptedWeb | None = None, **keys: str) -> None:
        self.web = web or ScriptedWeb()
        self.stored = StoredContents()
        environment = {
            "OPENAI_API_KEY": "sk-1",
            "GEMINI_API_KEY": "AIza-1",
            "ANTHROPIC_API_KEY": "sk-ant",
            "OLLAMA_BASE_URL": "http://127.0.0.1:11434/v1",
        }
        self.planner = Planner(
            "tm_1",
            keys,
            Providers(environment, None),
            StoredBlobs("tm_1", {DIGEST: LARGE}),
            RemoteImages(self.web, "tm_1", self.stored.store),
            self._acquire,
        )
        self.acquired: list[tuple[str, int]] = []

    async def _acquire(self, title: str, size: int) -> None:
        self.acquired.append((title, size))

    async def plan(
        self, request: ModelRequest, *configs: ModelConfig
    ) -> tuple[list[PreparedRequest], list[PreparedRequest]]:
        """The requests, and those to the fallback models."""
        plan = await self.planner.plan(request, configs)
        return plan.requests, [prepared async for prepared in plan.fallback_requests()]


def models(requests: list[PreparedRequest]) -> list[str]:
    return [prepared.request.config.model for prepared in requests]


async def test_the_first_config_is_served_and_the_others_are_fallbacks_in_order() -> None:
    requests, fallbacks = await Setting().plan(request(samples=3), OPENAI, ANTHROPIC, config("openai", "gpt-4"))
    assert (models(requests), requests[0].request.samples) == (["gpt-4o"], 3)
    assert models(fallbacks) == ["claude-3-haiku-20240307", "gpt-4"]
    assert [prepared.request.samples for prepared in fallbacks] == [1, 1]


async def test_a_provider_that_counts_no_samples_gets_a_request_for_each() -> None:
    requests, _ = await Setting().plan(request(samples=3), ANTHROPIC)
    assert (models(requests), requests[0].request.samples) == (["claude-3-haiku-20240307"] * 3, 1)


async def test_a_key_of_the_call_wins() -> None:
    requests, _ = await Setting(openai="sk-theirs").plan(request(), OPENAI)
    assert requests[0].headers["Authorization"] == "Bearer sk-theirs"


@pytest.mark.parametrize(
    ("served", "fields", "problem"),
    [
        (config("cohere", "command-a"), {}, Unauthenticated),
        (config("nobody", "m"), {}, Invalid),
        (ANTHROPIC, {"seed": 1}, Invalid),
    ],
    ids=["no key", "no such provider", "a feature it lacks"],
)
async def test_what_cannot_be_served_is_refused_and_as_a_fallback_skipped(
    served: ModelConfig, fields: dict[str, Any], problem: type[Problem]
) -> None:
    with pytest.raises(problem):
        await Setting().plan(request(**fields), served)
    _, fallbacks = await Setting().plan(request(**fields), OPENAI, served, config("openai", "gpt-4"))
    assert models(fallbacks) == ["gpt-4"]


class TestImages:
    async def test_a_url_becomes_data_where_the_provider_takes_nothing_else(self) -> None:
        setting = Setting()
        requests, _ = await setting.plan(request("https://e.org/a"), GOOGLE)
        assert json.loads(requests[0].content)["contents"][0]["parts"][1]["inlineData"]["data"] == PIXEL_DATA
        assert setting.web.requested == ["https://e.org/a"]

    async def test_a_url_stays_where_the_provider_takes_it(self) -> None:
        setting = Setting()
        requests, _ = await setting.plan(request("https://e.org/a"), OPENAI)
        assert b"https://e.org/a" in requests[0].content
        assert setting.web.requested == []

    async def test_fallbacks_fetch_when_they_are_asked_for_and_once_together(self) -> None:
        setting = Setting()
        plan = await setting.planner.plan(request("https://e.org/a"), [OPENAI, GOOGLE, OLLAMA])
        assert setting.web.requested == []
        fallbacks = [prepared async for prepared in plan.fallback_requests()]
        assert models(fallbacks) == ["gemini-2.5-flash", "llava"]
        assert all(PIXEL_DATA.encode() in prepared.content for prepared in fallbacks)
        assert setting.web.requested == ["https://e.org/a"]

    async def test_a_fallback_whose_image_is_not_there_is_skipped(self) -> None:
        setting = Setting(ScriptedWeb(a=UpstreamFailed("gone")))
        _, fallbacks = await setting.plan(request("https://e.org/a"), OPENAI, GOOGLE, ANTHROPIC)
        assert models(fallbacks) == ["claude-3-haiku-20240307"]

    async def test_for_a_request_that_is_refused_nothing_is_fetched(self) -> None:
        setting, lost = Setting(), f"data:image/png;base64,{TOKEN}{'0' * 64}"
        with pytest.raises(Invalid, match="There is no data for"):
            await setting.plan(request("https://e.org/a", lost), GOOGLE)
        image = request("https://e.org/a")
        system = [message.model_copy(update={"role": "system"}) for message in image.messages or ()]
        with pytest.raises(Invalid, match="system message"):
            await setting.plan(replace(image, messages=[*system, *(image.messages or ())]), GOOGLE)
        assert setting.web.requested == []

    async def test_a_token_becomes_data_in_what_is_sent_and_stays_in_the_body(self) -> None:
        token = f"data:image/png;base64,{TOKEN}{DIGEST}"
        (prepared,), (fallback,) = await Setting().plan(request(token), OPENAI, ANTHROPIC)
        assert LARGE in prepared.content
        assert LARGE in fallback.content
        assert token in json.dumps(prepared.body)
        assert prepared.text_bytes < len(LARGE)

    async def test_samples_share_one_content(self) -> None:
        token = f"data:image/png;base64,{TOKEN}{DIGEST}"
        requests, _ = await Setting().plan(request(token, samples=2), ANTHROPIC)
        assert requests[0].content is requests[1].content


class TestTokenBudget:
    async def test_a_provider_that_needs_a_number_gets_what_is_left_of_the_context(self) -> None:
        unlimited = ANTHROPIC.model_copy(update={"max_tokens": -1})
        (prepared,), _ = await Setting().plan(request(), unlimited)
        assert prepared.body["max_tokens"] == 4096  # all that Claude 3 Haiku can write

    async def test_openai_chat_gets_none(self) -> None:
        (prepared,), _ = await Setting().plan(request(), OPENAI.model_copy(update={"max_tokens": -1}))
        assert "max_tokens" not in prepared.body
        assert prepared.request.remaining_output_tokens is None, "and nothing is counted for it"

    async def test_the_budget_of_a_fallback_is_its_own(self) -> None:
        unlimited = [
            OPENAI.model_copy(update={"max_tokens": -1}),
            config("anthropic", "claude-sonnet-4-5", max_tokens=-1),
        ]
        _, (fallback,) = await Setting().plan(request(), *unlimited)
        assert fallback.body["max_tokens"] == 64_000

    async def test_a_limit_of_the_config_is_sent_as_it_is(self) -> None:
        (prepared,), _ = await Setting().plan(request(), ANTHROPIC)
        assert prepared.body["max_tokens"] == 5
