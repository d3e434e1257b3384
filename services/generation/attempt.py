"""One call to a model: what was asked, and what has come of it so far. It can be written down at any moment."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from services.generation import models, tokens
from services.generation.completion import Choice, Completion, CompletionRequest, Joined, Json
from services.generation.providers.base import Call
from shared import telemetry
from shared.contracts.chat import ChatMessage, ToolResult, Usage
from shared.contracts.generations import Chat, Chunk, Complete, Generation, Sample
from shared.contracts.logs import LogRecord
from shared.contracts.projects import ModelConfig, Resolved
from shared.errors import Problem, UpstreamFailed

_KEPT_BYTES = 2 * 1024 * 1024
_LEFT_OUT = "Left out because of its size: see the messages of the log."
_MOST_TOKENS = 2**53
"""A provider that claims more is mistaken, and more than 64 bits could not be stored."""
_STREAMED_BYTES = 16 * 1024
"""Results of tools stand on the events of a stream if they are no longer: clients limit the length of a line."""
ABANDONED = "The call ended before its answer was complete: its caller left, or Everloop was stopped."
DEFECT = "Something went wrong on our side; the service's log has the details."


@dataclass
class Outcome:
    """What came of one sample."""

    call: Call | None = None
    """The one it is from, or would have been: the last that was tried."""
    counts: bool = False
    """Whether the tokens of that call stand here: on the first of the samples it is for."""
    choice: Choice | None = None
    joined: Joined | None = None
    """Of a streamed sample, from its first event on."""
    usage: Usage | None = None
    """Of the request this sample was the first of: with several samples in one request the provider counts them
    together, so their sum stands on the first sample's log and the others have none."""
    response: Json | None = None
    own_response: Json | None = None
    """For its log: of a response that several samples share, its own choice alone."""
    latency: float | None = None
    """Seconds."""
    problem: Problem | None = None
    error: str | None = None

    @property
    def may_be_helped(self) -> bool:
        """Whether another model may be asked: this one failed, and nothing of its answer was passed on."""
        return self.problem is not None and self.problem.retryable and self.joined is None


@dataclass
class Attempt:
    """A chat or completion from its config on; before that there is nothing a log could point to."""

    command: Chat | Complete
    resolved: Resolved
    config: ModelConfig
    environment: str | None
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.monotonic)
    tool_results: list[ToolResult] = field(default_factory=list)
    """Of the tools its template calls."""
    request: CompletionRequest | None = None
    """Known once the template is populated."""
    outcomes: list[Outcome] = field(init=False)

    def __post_init__(self) -> None:
        self.outcomes = [Outcome() for _ in self.command.log_ids]

    # What happens to it

    def sending(self, first: int, call: Call) -> None:
        """The samples from `first` on are asked for with this call."""
        for outcome in self.outcomes[first : first + call.request.samples]:
            outcome.call, outcome.problem, outcome.counts = call, None, False
        self.outcomes[first].counts = True

    def completed(self, first: int, completion: Completion, started: float) -> None:
        """A provider's answer holds the samples from `first` on."""
        latency = time.monotonic() - started
        for index, (outcome, choice) in enumerate(zip(self.outcomes[first:], completion.choices, strict=False)):
            outcome.choice, outcome.response, outcome.latency = choice, completion.raw, latency
            outcome.own_response = _only(completion.raw, index)
        self.outcomes[first].usage = completion.usage

    def refused(self, first: int, call: Call, problem: Problem, started: float) -> None:
        """The samples from `first` on do not come from this call."""
        for outcome in self.outcomes[first : first + call.request.samples]:
            outcome.problem, outcome.latency = problem, time.monotonic() - started

    def ended(self, index: int, call: Call, started: float) -> None:
        """The stream of a sample is over, for whatever reason."""
        outcome = self.outcomes[index]
        outcome.latency = time.monotonic() - started
        if (joined := outcome.joined) is not None:
            outcome.choice, outcome.response = joined.choice(), call.dialect.write_reply(call.request, joined)
            outcome.own_response, outcome.usage = outcome.response, joined.whole_usage

    def failed(self, problem: Problem) -> None:
        """Nothing more comes, for this reason."""
        for outcome in self.outcomes:
            if outcome.choice is None:
                outcome.problem = outcome.problem or problem

    def stopped(self, error: str) -> None:
        """Nothing more comes, and there is nobody to tell."""
        for outcome in self.outcomes:
            if outcome.choice is None or outcome.choice.finish_reason is None:
                outcome.error = outcome.error or error

    async def count(self) -> None:
        """Fill in the tokens that no provider told. A call that failed counts if it may have cost something."""
        for first, outcome in enumerate(self.outcomes):
            refused = outcome.problem is not None and not isinstance(outcome.problem, UpstreamFailed)
            if outcome.usage is None and outcome.call and outcome.counts and (outcome.choice or not refused):
                request = outcome.call.request
                answers = self.outcomes[first : first + request.samples]
                choices = [answer.choice for answer in answers if answer.choice]
                told = outcome.joined.usage if outcome.joined else None
                outcome.usage = await asyncio.to_thread(tokens.used, request, choices, told)

    @property
    def problem(self) -> Problem | None:
        """The first one, if any sample has one."""
        return next((outcome.problem for outcome in self.outcomes if outcome.problem), None)

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
        choice = self.outcomes[index].choice or Choice()
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
        used = [outcome.usage for outcome in self.outcomes if outcome.usage]
        # Samples of one request share its response; it is told once.
        responses = {id(outcome.response): outcome.response for outcome in self.outcomes if outcome.response}
        return Generation(
            project_id=self.resolved.project.id,
            session_id=self.command.session_id,
            config_id=self.resolved.version.id,
            samples=[self._sample(index) for index in range(len(self.outcomes))],
            messages=self.messages,
            tool_results=self.tool_results,
            usage=Usage(
                prompt_tokens=sum(usage.prompt_tokens for usage in used),
                generation_tokens=sum(usage.generation_tokens for usage in used),
                total_tokens=sum(usage.total_tokens for usage in used),
            ),
            provider_responses=list(responses.values()),
            provider_request=_body(self.outcomes[0]) or {},
        )

    async def records(self) -> list[LogRecord]:
        """One log a sample, with the tokens it took."""
        duration = time.monotonic() - self.started
        await self.count()
        trace = telemetry.outgoing().get("traceparent")
        return [self._record(index, duration, trace) for index in range(len(self.outcomes))]

    def _record(self, index: int, duration: float, trace: str | None) -> LogRecord:
        command, outcome = self.command, self.outcomes[index]
        choice, usage = outcome.choice, outcome.usage
        chat = isinstance(command, Chat)
        served = outcome.call.request.config if outcome.call else None
        costs = served and usage and models.costs(served.provider, served.model, usage)
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
            error=outcome.problem.message if outcome.problem else outcome.error,
            source=command.source,
            metadata=command.metadata,
            source_datapoint_id=command.source_datapoint_id,
            environment=self.environment,
            user=command.user,
            duration=duration,
            provider_latency=outcome.latency,
            prompt_tokens=usage and min(usage.prompt_tokens, _MOST_TOKENS),
            output_tokens=usage and min(usage.generation_tokens, _MOST_TOKENS),
            tokens=usage and min(usage.total_tokens, 2 * _MOST_TOKENS),
            prompt_cost=costs and costs.prompt,
            output_cost=costs and costs.output,
            provider_request=_body(outcome),
            provider_response=outcome.own_response,
            finish_reason=choice and choice.finish_reason,
            tools=self.tool_results or None,
            tool_choice=command.tool_choice if isinstance(command, Chat) else None,
            trace=trace,
        )
        return record if command.save else record.without_content()


def _body(outcome: Outcome) -> Json | None:
    """The request as it went out, its large images as tokens, but not a second copy of very long text."""
    if (call := outcome.call) is None:
        return None
    if call.text_bytes > _KEPT_BYTES and "messages" in call.body:
        return call.body | {"messages": _LEFT_OUT}
    return call.body


def _only(response: Json, index: int) -> Json:
    choices = response.get("choices")
    if not isinstance(choices, list) or len(choices) < 2:
        return response
    return response | {"choices": choices[index : index + 1]}


def _message(choice: Choice) -> ChatMessage:
    return ChatMessage(role="assistant", content=choice.text.strip(), tool_calls=choice.tool_calls)
