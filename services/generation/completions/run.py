"""One call to a model: what was asked, and what has come of it so far. It can be written down at any moment."""

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from services.generation.completions.sample import Asked, Outcome, total
from services.generation.models.request import Choice, Completion, CompletionRequest, Json
from services.generation.providers import errors
from services.generation.providers.base import Call
from shared import telemetry
from shared.contracts.chat import ChatMessage, ToolResult
from shared.contracts.generations import Chat, Chunk, Complete, Generation, Sample
from shared.contracts.logs import LogRecord
from shared.contracts.projects import ModelConfig, Resolved
from shared.errors import Problem

logger = logging.getLogger(__name__)

_STREAMED_BYTES = 16 * 1024
"""Results of tools stand on the events of a stream if they are no longer: clients limit the length of a line."""
ABANDONED = "The call ended before its answer was complete: its caller left, or Everloop was stopped."
DEFECT = "Something went wrong on our side; the service's log has the details."


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

    def asking(self, first: int, call: Call) -> Asked:
        """The samples from `first` on are asked for with this call; what came of others before is only paid for."""
        asked = Asked(call)
        for outcome in self._of(first, call):
            outcome.asked = asked
            outcome.choice = outcome.response = outcome.own_response = outcome.problem = outcome.latency = None
        self.outcomes[first].paid.append(asked)
        return asked

    def answered(self, first: int, asked: Asked, completion: Completion) -> None:
        """A provider's answer holds the samples from `first` on, or as many of them as it has."""
        asked.answered(completion)
        latency = time.monotonic() - asked.started
        answers = zip(self._of(first, asked.call), completion.choices, strict=False)
        for index, (outcome, choice) in enumerate(answers):
            outcome.choice, outcome.response, outcome.latency = choice, completion.raw, latency
            outcome.own_response = _only(completion.raw, index)

    def failed_call(self, first: int, asked: Asked, problem: Problem) -> None:
        """The samples from `first` on do not come from this call, except those that came with the problem."""
        sent = errors.sent_with(problem) or Completion([], {})
        self.answered(first, asked, sent)
        for outcome in self._of(first, asked.call):
            outcome.latency = time.monotonic() - asked.started
            if outcome.choice is None or outcome.choice.finish_reason is None:
                outcome.problem = problem

    def ended(self, index: int, asked: Asked, problem: Problem | None) -> None:
        """The stream of a sample is over, for whatever reason."""
        outcome, request = self.outcomes[index], asked.call.request
        outcome.problem, outcome.latency = problem, time.monotonic() - asked.started
        asked.ended(problem)
        if asked.progress.begun:
            (outcome.choice,) = asked.choices
            outcome.response = outcome.own_response = asked.call.dialect.write_reply(request, asked.joined)

    def _of(self, first: int, call: Call) -> list[Outcome]:
        return self.outcomes[first : first + call.request.samples]

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
        """Fill in the tokens that no provider told."""
        for outcome in self.outcomes:
            await outcome.count()

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
        used, first = [outcome.usage for outcome in self.outcomes if outcome.usage], self.outcomes[0].asked
        # Samples of one request share its response; it is told once.
        responses = {id(outcome.response): outcome.response for outcome in self.outcomes if outcome.response}
        return Generation(
            project_id=self.resolved.project.id,
            session_id=self.command.session_id,
            config_id=self.resolved.version.id,
            samples=[self._sample(index) for index in range(len(self.outcomes))],
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
        for index, outcome in enumerate(self.outcomes):
            try:
                await outcome.count()
                records.append(self._record(index, outcome, duration))
            except Exception:
                logger.exception("what came of a call cannot be written down: log %s", self.command.log_ids[index])
                records.append(self._record(index, Outcome(error=DEFECT), duration))
        return records

    def _record(self, index: int, outcome: Outcome, duration: float) -> LogRecord:
        command = self.command
        choice, usage, costs = outcome.choice, outcome.usage, outcome.costs
        chat = isinstance(command, Chat)
        served = outcome.asked.call.request.config if outcome.asked else None
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
            error=_told(outcome.problem, save=command.save) if outcome.problem else outcome.error,
            source=command.source,
            metadata=command.metadata,
            source_datapoint_id=command.source_datapoint_id,
            environment=self.environment,
            user=command.user,
            duration=duration,
            provider_latency=outcome.latency,
            prompt_tokens=usage and usage.prompt_tokens,
            output_tokens=usage and usage.generation_tokens,
            tokens=usage and usage.total_tokens,
            prompt_cost=costs and costs.prompt,
            output_cost=costs and costs.output,
            provider_request=outcome.asked and outcome.asked.body(),
            provider_response=outcome.own_response,
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
