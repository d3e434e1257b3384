"""The state of one chat or completion: command, config, request, and the result of each sample so far."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.generation.completions.sample import ProviderCall, SampleResult
from services.generation.models.request import Json, ModelRequest, ModelResponse
from services.generation.providers import errors
from services.generation.providers.base import PreparedRequest
from shared.contracts.chat import ChatMessage, ToolResult
from shared.contracts.generation.generations import Chat, Complete
from shared.contracts.generation.projects import ModelConfig, ResolvedConfig
from shared.errors import Problem

CALLER_DISCONNECTED = "The call ended before its answer was complete: its caller left, or Everloop was stopped."
INTERNAL_ERROR = "Something went wrong on our side; the service's log has the details."


@dataclass
class GenerationRun:
    """One chat or completion, from the moment its config is known; its logs can be written at any time (records.py)."""

    command: Chat | Complete
    resolved: ResolvedConfig
    config: ModelConfig
    environment: str | None
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.monotonic)
    tool_results: list[ToolResult] = field(default_factory=list)
    """Of the tools called in the config's template."""
    request: ModelRequest | None = None
    """Known once the template is populated."""
    results: list[SampleResult] = field(init=False)

    def __post_init__(self) -> None:
        self.results = [SampleResult() for _ in self.command.log_ids]

    def start_call(self, first: int, prepared: PreparedRequest) -> ProviderCall:
        """Record a call for the samples from `first` on and return it; results of earlier calls are cleared, not their
        costs."""
        call = ProviderCall(prepared)
        for result in self._results_of(first, prepared):
            result.call = call
            result.choice = result.response = result.own_response = result.problem = result.latency = None
        self.results[first].billed_calls.append(call)
        return call

    def record_response(self, first: int, call: ProviderCall, response: ModelResponse) -> None:
        """Record the choices of a response as the samples from `first` on; there may be fewer than were requested."""
        call.record_response(response)
        latency = time.monotonic() - call.started
        samples = zip(self._results_of(first, call.prepared), call.choices, strict=False)
        for index, (result, choice) in enumerate(samples):
            result.choice, result.response, result.latency = choice, response.raw, latency
            result.own_response = _with_single_choice(response.raw, index, len(response.choices))

    def record_failure(self, first: int, call: ProviderCall, problem: Problem) -> None:
        """Record a failed call for the samples from `first` on; those that came complete with the problem are kept."""
        partial = errors.partial_response(problem) or ModelResponse([], {})
        self.record_response(first, call, partial)
        for result in self._results_of(first, call.prepared):
            result.latency = time.monotonic() - call.started
            if result.choice is None and partial.raw:
                result.response = result.own_response = partial.raw
            if result.choice is None or result.choice.finish_reason is None:
                result.problem = problem

    def record_stream_end(self, index: int, call: ProviderCall, problem: Problem | None) -> None:
        """Record what a sample's stream gave until it ended, failed (`problem`), or was abandoned."""
        result, request = self.results[index], call.prepared.request
        result.problem, result.latency = problem, time.monotonic() - call.started
        call.record_stream_end(problem)
        accumulator, partial = call.progress.accumulator, problem and errors.partial_response(problem)
        if call.progress.answer_started:
            (result.choice,) = call.choices
            result.response = result.own_response = call.prepared.dialect.write_response(request, accumulator)
        elif partial and partial.raw:
            result.response = result.own_response = partial.raw
        elif accumulator.response_fields or accumulator.raw_usage:
            result.response = result.own_response = call.prepared.dialect.write_response(request, accumulator)

    def _results_of(self, first: int, prepared: PreparedRequest) -> list[SampleResult]:
        return self.results[first : first + prepared.request.samples]

    def fail(self, problem: Problem) -> None:
        """End every sample that has no answer with `problem`, unless it has a problem already."""
        for result in self.results:
            if result.choice is None:
                result.problem = result.problem or problem

    def abort(self, error: str) -> None:
        """End every sample without a complete answer with `error`; there is no caller left to answer."""
        for result in self.results:
            if result.choice is None or result.choice.finish_reason is None:
                result.error = result.error or error

    async def count_tokens(self) -> None:
        """Estimate the tokens of calls whose provider gave no usage."""
        for result in self.results:
            await result.count_tokens()

    @property
    def problem(self) -> Problem | None:
        """Of the first sample that has one."""
        return next((result.problem for result in self.results if result.problem), None)

    @property
    def messages(self) -> list[ChatMessage] | None:
        """Chat: everything sent to the model, or the caller's messages if the template could not be populated."""
        if not isinstance(self.command, Chat):
            return None
        return self.request.messages if self.request else self.command.messages


def _with_single_choice(response: Json, index: int, count: int) -> Json:
    """Return a response of several choices (OpenAI's form, in any order) with the one of `index`; others unchanged, and
    one in which some of the choices could not be read (`count` could)."""
    choices = response.get("choices")
    if not isinstance(choices, list) or len(choices) < 2 or len(choices) != count:
        return response
    if not all(isinstance(choice, dict) and isinstance(choice.get("index") or 0, int) for choice in choices):
        return response
    ordered = sorted(choices, key=lambda choice: choice.get("index") or 0)
    return response | {"choices": ordered[index : index + 1]}
