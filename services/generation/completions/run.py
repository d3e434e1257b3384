"""One call to a model: what was asked, and what has come of it so far. It can be written down at any moment."""

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from services.generation.completions.sample import ProviderCall, SampleResult, total
from services.generation.models.request import Choice, Json, ModelRequest, ModelResponse
from services.generation.providers import errors
from services.generation.providers.base import PreparedRequest
from shared import telemetry
from shared.contracts.chat import ChatMessage, ToolResult
from shared.contracts.generations import Chat, Chunk, Complete, Generation, Sample
from shared.contracts.logs import LogRecord
from shared.contracts.projects import ModelConfig, Resolved
from shared.errors import Problem

logger = logging.getLogger(__name__)

_STREAMED_BYTES = 16 * 1024
"""Results of tools stand on the events of a stream if they are no longer: clients limit the length of a line."""
CALLER_LEFT = "The call ended before its answer was complete: its caller left, or Everloop was stopped."
DEFECT = "Something went wrong on our side; the service's log has the details."


@dataclass
class GenerationRun:
    """A chat or completion from its config on; before that there is nothing a log could point to."""

    command: Chat | Complete
    resolved: Resolved
    config: ModelConfig
    environment: str | None
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.monotonic)
    tool_results: list[ToolResult] = field(default_factory=list)
    """Of the tools its template calls."""
    request: ModelRequest | None = None
    """Known once the template is populated."""
    results: list[SampleResult] = field(init=False)

    def __post_init__(self) -> None:
        self.results = [SampleResult() for _ in self.command.log_ids]

    # What happens to it

    def start_call(self, first: int, prepared: PreparedRequest) -> ProviderCall:
        """The samples from `first` on are asked for with this call; what came of others before is only paid for."""
        call = ProviderCall(prepared)
        for result in self._of(first, prepared):
            result.call = call
            result.choice = result.response = result.own_response = result.problem = result.latency = None
        self.results[first].paid.append(call)
        return call

    def record_response(self, first: int, call: ProviderCall, completion: ModelResponse) -> None:
        """A provider's answer holds the samples from `first` on, or as many of them as it has."""
        call.record_response(completion)
        latency = time.monotonic() - call.started
        answers = zip(self._of(first, call.prepared), completion.choices, strict=False)
        for index, (result, choice) in enumerate(answers):
            result.choice, result.response, result.latency = choice, completion.raw, latency
            result.own_response = _only(completion.raw, index)

    def record_failure(self, first: int, call: ProviderCall, problem: Problem) -> None:
        """The samples from `first` on do not come from this call, except those that came with the problem."""
        sent = errors.sent_with(problem) or ModelResponse([], {})
        self.record_response(first, call, sent)
        for result in self._of(first, call.prepared):
            result.latency = time.monotonic() - call.started
            if result.choice is None or result.choice.finish_reason is None:
                result.problem = problem

    def record_stream_end(self, index: int, call: ProviderCall, problem: Problem | None) -> None:
        """The stream of a sample is over, for whatever reason."""
        result, request = self.results[index], call.prepared.request
        result.problem, result.latency = problem, time.monotonic() - call.started
        call.record_stream_end(problem)
        if call.progress.begun:
            (result.choice,) = call.choices
            result.response = result.own_response = call.prepared.dialect.write_reply(request, call.accumulator)

    def _of(self, first: int, prepared: PreparedRequest) -> list[SampleResult]:
        return self.results[first : first + prepared.request.samples]

    def fail(self, problem: Problem) -> None:
        """Nothing more comes, for this reason."""
        for result in self.results:
            if result.choice is None:
                result.problem = result.problem or problem

    def abort(self, error: str) -> None:
        """Nothing more comes, and there is nobody to tell."""
        for result in self.results:
            if result.choice is None or result.choice.finish_reason is None:
                result.error = result.error or error

    async def count(self) -> None:
        """Fill in the tokens that no provider told."""
        for result in self.results:
            await result.count()

    @property
    def problem(self) -> Problem | None:
        """The first one, if any sample has one."""
        return next((result.problem for result in self.results if result.problem), None)

    @property
    def messages(self) -> list[ChatMessage] | None:
        """Everything sent to a chat model; what was to be sent if the template could not be populated."""
        if not isinstance(self.command, Chat):
            return None
        return self.request.messages if self.request else self.command.messages

    # How it is told

    @cached_property
    def _streamed_results(self) -> list[ToolResult]:
        """On every event, or on none: the log has them all."""
        size = sum(len(result.model_dump_json()) for result in self.tool_results)
        return self.tool_results if size <= _STREAMED_BYTES else []

    def chunk(self, index: int, text: str) -> Chunk:
        """An increment of a sample."""
        sample = Sample(id=self.command.log_ids[index], index=index, output=text, raw_output=text)
        return self._chunk(sample)

    def last_chunk(self, index: int) -> Chunk:
        """The end of a sample: no text, the reason it ended, its tool calls complete."""
        return self._chunk(self._sample(index).model_copy(update={"output": "", "raw_output": ""}))

    def _chunk(self, sample: Sample) -> Chunk:
        return Chunk(
            project_id=self.resolved.project.id,
            session_id=self.command.session_id,
            config_id=self.resolved.version.id,
            sample=sample,
            tool_results=self._streamed_results,
        )

    def _sample(self, index: int) -> Sample:
        choice = self.results[index].choice or Choice()
        return Sample(
            id=self.command.log_ids[index],
            index=index,
            output=choice.text.strip(),
            raw_output=choice.text,
            finish_reason=choice.finish_reason,
            tool_calls=choice.tool_calls,
        )

    def generation(self) -> Generation:
        """The whole answer."""
        used, first = [result.usage for result in self.results if result.usage], self.results[0].call
        # Samples of one request share its response; it is told once.
        responses = {id(result.response): result.response for result in self.results if result.response}
        return Generation(
            project_id=self.resolved.project.id,
            session_id=self.command.session_id,
            config_id=self.resolved.version.id,
            samples=[self._sample(index) for index in range(len(self.results))],
            messages=self.messages,
            tool_results=self.tool_results,
            usage=total(used),
            provider_responses=list(responses.values()),
            provider_request=first.body() if first else {},
        )

    async def records(self) -> list[LogRecord]:
        """One log a sample, with the tokens it took; without what came of it if that cannot be written down."""
        duration = time.monotonic() - self.started
        records = []
        for index, result in enumerate(self.results):
            try:
                await result.count()
                records.append(self._record(index, result, duration))
            except Exception:
                logger.exception("what came of a call cannot be written down: log %s", self.command.log_ids[index])
                records.append(self._record(index, SampleResult(error=DEFECT), duration))
        return records

    def _record(self, index: int, result: SampleResult, duration: float) -> LogRecord:
        command = self.command
        choice, usage, costs = result.choice, result.usage, result.costs
        chat = isinstance(command, Chat)
        served = result.call.prepared.request.config if result.call else None
        record = LogRecord(
            id=command.log_ids[index],
            organisation=command.organisation,
            project_id=self.resolved.project.id,
            config_id=self.resolved.version.id,
            model=self.config.model,
            served_provider=served and served.provider,
            served_model=served and served.model,
            created_at=self.received_at,
            session_id=command.session_id,
            session_reference_id=command.reference_ids.get("session"),
            parent_id=command.parent_id,
            parent_reference_id=command.reference_ids.get("parent"),
            inputs=command.inputs,
            messages=self.messages,
            output=choice and choice.text.strip(),
            raw_output=choice and choice.text,
            output_message=_message(choice) if chat and choice else None,
            error=_told(result.problem, save=command.save) if result.problem else result.error,
            source=command.source,
            metadata=command.metadata,
            source_datapoint_id=command.source_datapoint_id,
            environment=self.environment,
            user=command.user,
            duration=duration,
            provider_latency=result.latency,
            prompt_tokens=usage and usage.prompt_tokens,
            output_tokens=usage and usage.generation_tokens,
            tokens=usage and usage.total_tokens,
            prompt_cost=costs and costs.prompt,
            output_cost=costs and costs.output,
            provider_request=result.call and result.call.body(),
            provider_response=result.own_response,
            finish_reason=choice and choice.finish_reason,
            tools=self.tool_results or None,
            tool_choice=command.tool_choice if isinstance(command, Chat) else None,
            trace=telemetry.outgoing().get("traceparent"),
        )
        return record if command.save else record.without_content()


def _only(response: Json, index: int) -> Json:
    """With the choice of one sample; they may stand in any order."""
    choices = response.get("choices")
    if not isinstance(choices, list) or len(choices) < 2:
        return response
    if not all(isinstance(choice, dict) and isinstance(choice.get("index") or 0, int) for choice in choices):
        return response
    ordered = sorted(choices, key=lambda choice: choice.get("index") or 0)
    return response | {"choices": ordered[index : index + 1]}


def _told(problem: Problem, *, save: bool) -> str:
    """Its words may quote what was sent."""
    if save:
        return problem.message
    return f"{problem.origin}: {problem.code} ({problem.status}). What it said is not kept: save is false."


def _message(choice: Choice) -> ChatMessage:
    return ChatMessage(role="assistant", content=choice.text.strip(), tool_calls=choice.tool_calls)
