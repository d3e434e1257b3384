"""Builders for runs and provider requests, and fakes at the seams of `completions`: dispatch, outbound HTTP."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from services.generation.completions.run import GenerationRun
from services.generation.completions.sample import ProviderCall
from services.generation.http.guarded_client import GuardedClient, GuardedSession
from services.generation.http.response import HttpResponse
from services.generation.http.response_bytes import Reservation
from services.generation.models.request import Choice, ModelRequest, ModelResponse, ResponseDelta
from services.generation.providers.base import PreparedRequest
from services.generation.providers.requests import Providers
from services.generation.providers.resilience.dispatch import CallProgress, Dispatch
from shared.contracts.chat import ChatMessage, Usage
from shared.contracts.generation.generations import Chat
from shared.contracts.generation.projects import ConfigVersion, ModelConfig, Project, ProjectRef, ResolvedConfig
from shared.errors import Problem
from tests.principals import member

MESSAGES = [ChatMessage(role="user", content="tiktoken is great!")]
MIB = 1024 * 1024
PIXEL = b"\x89PNG"

Step = ResponseDelta | Problem | Exception | asyncio.Event
"""Of a streamed answer: an event, its failure, or something to wait for."""


def generation_run(samples: int = 1, model: str = "gpt-4-1106-preview", **fields: Any) -> GenerationRun:
    """A chat with its request; `fields` are those of the command."""
    now = datetime.now(UTC)
    config = ModelConfig(model=model, endpoint="chat")
    log_ids = [f"data_{index}" for index in range(samples)]
    command = Chat(principal=member("tm_1"), project=ProjectRef(name="p"), log_ids=log_ids, messages=MESSAGES, **fields)
    project = Project(id="pr_1", name="p", created_at=now, updated_at=now)
    version = ConfigVersion(id="config_1", project_id="pr_1", config=config, created_at=now)
    run = GenerationRun(command, ResolvedConfig(project=project, version=version), config, None)
    run.request = ModelRequest(config=config, messages=MESSAGES, samples=samples)
    return run


def prepared_request(model: str = "gpt-4-1106-preview", samples: int = 1, *, stream: bool = False) -> PreparedRequest:
    """A request to OpenAI; of a stream one sample's."""
    config = ModelConfig(model=model, endpoint="chat")
    request = ModelRequest(config=config, messages=MESSAGES, samples=samples, stream=stream)
    return Providers({"OPENAI_API_KEY": "sk-1"}, None).prepare(request, {})[0]


def sent_call(
    run: GenerationRun, first: int = 0, *, model: str | None = None, samples: int | None = None
) -> ProviderCall:
    """A call that was sent and has no answer yet; of all samples of the run by default."""
    prepared = prepared_request(model or run.config.model, samples or len(run.results))
    call = run.start_call(first, prepared)
    call.progress.mark_sent()
    return call


def with_body(prepared: PreparedRequest, body: dict[str, Any], text_bytes: int) -> PreparedRequest:
    """The request with another body, said to have so many bytes."""
    return replace(prepared, body=body, text_bytes=text_bytes)


def response(*texts: str, usage: Usage | None = None) -> ModelResponse:
    """An answer with a sample of each text."""
    return ModelResponse([Choice(text, finish_reason="stop") for text in texts], {"id": "r"}, usage)


def tokens(prompt: int, generated: int) -> Usage:
    """Usage with its total."""
    return Usage(prompt_tokens=prompt, generation_tokens=generated, total_tokens=prompt + generated)


class ScriptedDispatch(Dispatch):
    """Answers the calls to each model from a script, in order, and records them."""

    def __init__(
        self,
        answers: dict[str, list[ModelResponse | Exception]] | None = None,
        streams: dict[str, list[list[Step]]] | None = None,
        *,
        rendezvous: int = 0,
    ) -> None:
        """`rendezvous`: calls that wait for one another before any is answered."""
        self.models: list[str] = []
        self.organisations: set[str] = set()
        self.closed = 0
        """Streams that have ended, however."""
        self._answers = answers or {}
        self._streams = streams or {}
        self._barrier = asyncio.Barrier(rendezvous) if rendezvous else None

    async def complete(self, organisation: str, prepared: PreparedRequest, progress: CallProgress) -> ModelResponse:
        self._record(organisation, prepared, progress)
        answer = self._answers[prepared.request.config.model].pop(0)
        if self._barrier:
            async with asyncio.timeout(2):
                await self._barrier.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def stream(
        self, organisation: str, prepared: PreparedRequest, progress: CallProgress
    ) -> AsyncGenerator[ResponseDelta, None]:
        self._record(organisation, prepared, progress)
        try:
            for step in self._streams[prepared.request.config.model].pop(0):
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    progress.add(step)
                    yield step
        finally:
            self.closed += 1

    def _record(self, organisation: str, prepared: PreparedRequest, progress: CallProgress) -> None:
        progress.mark_sent()
        self.organisations.add(organisation)
        self.models.append(prepared.request.config.model)


class ScriptedWeb(GuardedClient):
    """Serves images by the last part of their URL, in pieces of a MiB, and records what is under way."""

    def __init__(self, **contents: bytes | Problem | None) -> None:
        """A problem is raised; None waits for `proceed`. Any other image is `PIXEL`."""
        super().__init__()
        self.requested: list[str] = []
        self.ended: list[str] = []
        self.bytes = 0
        self.max_concurrency = 0
        self.proceed = asyncio.Event()
        self._contents = contents

    @contextmanager
    def session(self, organisation: str, max_bytes: int, what: str) -> Iterator[GuardedSession]:
        with self._response_bytes.reservation(organisation, max_bytes, what) as reservation:
            yield _ScriptedSession(self, organisation, reservation)

    async def fetch(self, url: str, grow: Callable[[int], None]) -> HttpResponse:
        """Return the image."""
        self.requested.append(url)
        self.max_concurrency = max(self.max_concurrency, len(self.requested) - len(self.ended))
        try:
            await asyncio.sleep(0)
            content = self._contents.get(url.rpartition("/")[2], PIXEL)
            if content is None:
                await self.proceed.wait()
            if isinstance(content, Problem):
                raise content
            for start in range(0, len(content or b""), MIB):
                self.bytes += len((content or b"")[start : start + MIB])
                grow(len((content or b"")[start : start + MIB]))
                await asyncio.sleep(0)
            return HttpResponse(200, "image/png", content or PIXEL)
        finally:
            self.ended.append(url)


class _ScriptedSession(GuardedSession):
    def __init__(self, web: ScriptedWeb, organisation: str, reservation: Reservation) -> None:
        super().__init__(web, organisation, reservation)
        self._web = web

    async def get(self, url: str, **_: Any) -> HttpResponse:
        return await self._web.fetch(url, self._reservation.grow)


class StoredContents(dict[str, bytes]):
    """Blobs that were stored, by digest."""

    async def store(self, contents: dict[str, bytes]) -> None:
        """Keep them."""
        self.update(contents)
