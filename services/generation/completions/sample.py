"""What has come of a sample, and what the calls made for it took."""

import asyncio
import time
from dataclasses import dataclass, field

from pydantic_core import to_json

from services.generation import models
from services.generation.models import tokens
from services.generation.models.request import Choice, Json, ModelResponse, StreamAccumulator
from services.generation.providers import errors
from services.generation.providers.base import PreparedRequest
from services.generation.providers.resilience.dispatch import CallProgress
from shared.contracts.chat import Usage
from shared.errors import Problem

_KEPT_BYTES = 2 * 1024 * 1024
_LONG_BYTES = 64 * 1024
_LEFT_OUT = "Left out because of its size: see the messages or inputs of the log, and its config."


@dataclass
class ProviderCall:
    """A call, made for one sample or for several, and what it took until now."""

    prepared: PreparedRequest
    started: float = field(default_factory=time.monotonic)
    progress: CallProgress = field(default_factory=CallProgress)
    choices: list[Choice] = field(default_factory=list)
    accumulator: StreamAccumulator = field(default_factory=StreamAccumulator)
    """The events of a stream."""
    usage: Usage | None = None
    """Told at the end, or counted by `count`; with several samples in one request, of all together."""

    def record_response(self, completion: ModelResponse) -> None:
        """A whole answer, or what came with a failure."""
        self.choices, self.usage = completion.choices, completion.usage

    def record_stream_end(self, problem: Problem | None) -> None:
        """The stream is over, for whatever reason."""
        self.choices, self.usage = [self.accumulator.choice()], self.accumulator.final_usage
        if problem and (sent := errors.sent_with(problem)):
            self.usage = sent.usage or self.usage

    async def count(self) -> None:
        """Fill in the tokens that the provider did not tell, if the call may have cost something."""
        if self.usage is None and self.progress.may_have_cost:
            self.usage = await asyncio.to_thread(
                tokens.count_usage, self.prepared.request, self.choices, self.accumulator.usage
            )

    @property
    def costs(self) -> models.Costs | None:
        """USD; None if nothing was used, or the price is not known."""
        config = self.prepared.request.config
        return models.calculate_costs(config.provider, config.model, self.usage) if self.usage else None

    def body(self) -> Json:
        """The request as it went out, its large images as tokens, but not a second copy of very long text."""
        body = self.prepared.body
        if self.prepared.text_bytes <= _KEPT_BYTES:
            return body
        return {name: _LEFT_OUT if _is_long(value) else value for name, value in body.items()}


@dataclass
class SampleResult:
    """What came of one sample."""

    call: ProviderCall | None = None
    """The call it is from, or would have been: the last that was tried."""
    paid: list[ProviderCall] = field(default_factory=list)
    """The calls whose tokens stand on its log: all it was the first sample of, since providers count the samples of a
    request together."""
    passed_on: bool = False
    """Whether any of its text was passed on."""
    choice: Choice | None = None
    response: Json | None = None
    own_response: Json | None = None
    """For its log: of a response that several samples share, its own choice alone."""
    latency: float | None = None
    """Seconds."""
    problem: Problem | None = None
    error: str | None = None

    @property
    def may_fall_back(self) -> bool:
        """Whether another model may be asked: this one failed, and nothing of its answer was passed on."""
        return self.problem is not None and self.problem.retryable and not self.passed_on

    async def count(self) -> None:
        """Fill in the tokens that no provider told."""
        for call in self.paid:
            await call.count()

    @property
    def usage(self) -> Usage | None:
        """Of all calls that were made for it; None if none used anything."""
        used = [call.usage for call in self.paid if call.usage]
        return total(used) if used else None

    @property
    def costs(self) -> models.Costs | None:
        """USD, of all calls whose price is known; None if there are none."""
        known = [costs for call in self.paid if (costs := call.costs)]
        return models.Costs(sum(cost.prompt for cost in known), sum(cost.output for cost in known)) if known else None


def total(used: list[Usage]) -> Usage:
    """The sum."""
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in used),
        generation_tokens=sum(usage.generation_tokens for usage in used),
        total_tokens=sum(usage.total_tokens for usage in used),
    )


def _is_long(value: object) -> bool:
    return len(to_json(value)) > _LONG_BYTES
