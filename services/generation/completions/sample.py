"""The state of one sample, and of the provider calls made for it: answer, tokens, costs."""

import asyncio
import time
from dataclasses import dataclass, field

from pydantic_core import to_json

from services.generation import models
from services.generation.models import tokens
from services.generation.models.request import Choice, Json, ModelResponse
from services.generation.models.usage import merge_usage, sum_usage
from services.generation.providers import errors, tool_identifiers
from services.generation.providers.base import PreparedRequest
from services.generation.providers.resilience.dispatch import CallProgress
from shared.contracts.chat import Usage
from shared.errors import Problem

_MAX_LOGGED_BYTES = 2 * 1024 * 1024
"""Text of a provider request that is logged whole."""
_LONG_FIELD_BYTES = 64 * 1024
"""Fields of a larger request are omitted from the log if their JSON is longer than this."""
_OMITTED = "Left out because of its size: see the messages or inputs of the log, and its config."


@dataclass
class ProviderCall:
    """One call to a provider, for one sample or for several, as far as it came."""

    prepared: PreparedRequest
    started: float = field(default_factory=time.monotonic)
    progress: CallProgress = field(default_factory=CallProgress)
    choices: list[Choice] = field(default_factory=list)
    usage: Usage | None = None
    """From the provider, or estimated by `count_tokens`; of all samples of the call together."""
    answered: bool = False
    """Whether its whole answer came."""

    def record_response(self, response: ModelResponse) -> None:
        """Take choices and usage of a whole answer, or of what came with a failure."""
        self.choices, self.usage = [self._for_caller(choice) for choice in response.choices], response.usage

    def record_stream_end(self, problem: Problem | None) -> None:
        """Take choice and usage of a stream that ended, was broken off (`problem`), or was abandoned by the caller."""
        accumulator = self.progress.accumulator
        self.choices, self.usage = [self._for_caller(accumulator.choice())], accumulator.final_usage
        if problem and (partial := errors.partial_response(problem)):
            self.usage = merge_usage(accumulator.usage, partial.usage) if partial.usage else self.usage

    def _for_caller(self, choice: Choice) -> Choice:
        return tool_identifiers.restore(choice, self.prepared.tool_names, self.prepared.request.messages or ())

    async def count_tokens(self) -> None:
        """Estimate in a thread what the provider did not tell of `usage`, if the call may have cost something."""
        has_content = any(choice.text or choice.tool_calls for choice in self.choices)
        if self.usage is None and self.progress.may_have_cost:
            reported = self.progress.accumulator.usage
        elif self.usage and (not self.usage.prompt_tokens or (not self.usage.generation_tokens and has_content)):
            reported = self.usage
        else:
            return
        self.usage = await asyncio.to_thread(tokens.count_usage, self.prepared.request, self.choices, reported)

    @property
    def costs(self) -> models.Costs | None:
        """USD; None if no tokens are known, or no price."""
        config = self.prepared.request.config
        return models.calculate_costs(config.provider, config.model, self.usage) if self.usage else None

    def logged_body(self) -> Json:
        """Return the request body for logs and answers: large images as blob tokens, very long text left out."""
        body = self.prepared.body
        if self.prepared.text_bytes <= _MAX_LOGGED_BYTES:
            return body
        return {name: _OMITTED if _is_long(value) else value for name, value in body.items()}


@dataclass
class SampleResult:
    """The outcome of one sample so far."""

    call: ProviderCall | None = None
    """The last call made for it, whether it succeeded or not."""
    billed_calls: list[ProviderCall] = field(default_factory=list)
    """The calls whose tokens stand on its log: those it was the first sample of, since providers count the samples of a
    request together."""
    text_sent: bool = False
    """Whether any of its text was sent to the caller (streams)."""
    choice: Choice | None = None
    response: Json | None = None
    """What the provider sent, with all samples of the call."""
    own_response: Json | None = None
    """`response` for its log: if several samples share it, with its own choice alone."""
    latency: float | None = None
    """Seconds."""
    problem: Problem | None = None
    error: str | None = None
    """Why it ended if not with a problem: the caller disconnected, or an exception of ours."""

    @property
    def can_fall_back(self) -> bool:
        """Whether a fallback model may be called: it failed with a retryable problem, and no text was sent."""
        return self.problem is not None and self.problem.retryable and not self.text_sent

    async def count_tokens(self) -> None:
        """Estimate the usage of each billed call that has none."""
        for call in self.billed_calls:
            await call.count_tokens()

    @property
    def usage(self) -> Usage | None:
        """Sum over its billed calls; None if none has any."""
        known = [call.usage for call in self.billed_calls if call.usage]
        return sum_usage(known) if known else None

    @property
    def costs(self) -> models.Costs | None:
        """USD, sum over its billed calls with a known price; None if there are none."""
        known = [costs for call in self.billed_calls if (costs := call.costs)]
        return models.Costs(sum(cost.prompt for cost in known), sum(cost.output for cost in known)) if known else None


def _is_long(value: object) -> bool:
    return len(to_json(value)) > _LONG_FIELD_BYTES
