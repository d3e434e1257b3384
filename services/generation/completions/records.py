"""Maps a run to its log records, one a sample, and to the event that announces its failure."""

import logging
import time

from services.generation.completions.run import INTERNAL_ERROR, GenerationRun
from services.generation.completions.sample import SampleResult
from services.generation.models.request import Choice
from shared import telemetry
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.generations import Chat, GenerationFailed
from shared.contracts.logs import LogRecord
from shared.errors import Problem

logger = logging.getLogger(__name__)


async def log_records(run: GenerationRun) -> list[LogRecord]:
    """Return one record a sample, with tokens counted; a result that fails validation leaves a record with an error."""
    duration = time.monotonic() - run.started
    records = []
    for index, result in enumerate(run.results):
        try:
            await result.count_tokens()
            records.append(_log_record(run, index, result, duration))
        except Exception:
            logger.exception("the result of a call cannot be recorded: log %s", run.command.log_ids[index])
            records.append(_log_record(run, index, SampleResult(error=INTERNAL_ERROR), duration))
    return records


def failed_event(run: GenerationRun, problem: Problem) -> GenerationFailed:
    """Return the event that names the logs of the samples that failed; `problem` is the first one's."""
    return GenerationFailed(
        organisation=run.command.organisation,
        actor=run.command.actor,
        project_id=run.resolved.project.id,
        log_ids=[log_id for log_id, result in zip(run.command.log_ids, run.results, strict=True) if result.problem],
        status=problem.status,
        origin=problem.origin,
        kind="chat" if isinstance(run.command, Chat) else "complete",
    )


def _log_record(run: GenerationRun, index: int, result: SampleResult, duration: float) -> LogRecord:
    command = run.command
    choice, usage, costs = result.choice, result.usage, result.costs
    chat = isinstance(command, Chat)
    served = result.call.prepared.request.config if result.call else None
    record = LogRecord(
        id=command.log_ids[index],
        organisation=command.organisation,
        project_id=run.resolved.project.id,
        config_id=run.resolved.version.id,
        model=run.config.model,
        served_provider=served and served.provider,
        served_model=served and served.model,
        created_at=run.received_at,
        session_id=command.session_id,
        session_reference_id=command.reference_ids.get("session"),
        parent_id=command.parent_id,
        parent_reference_id=command.reference_ids.get("parent"),
        inputs=command.inputs,
        messages=run.messages,
        output=choice and choice.text.strip(),
        raw_output=choice and choice.text,
        output_message=_output_message(choice) if chat and choice else None,
        error=_error(result.problem, save=command.save) if result.problem else result.error,
        source=command.source,
        metadata=command.metadata,
        source_datapoint_id=command.source_datapoint_id,
        environment=run.environment,
        user=command.user,
        duration=duration,
        provider_latency=result.latency,
        prompt_tokens=usage and usage.prompt_tokens,
        output_tokens=usage and usage.generation_tokens,
        tokens=usage and usage.total_tokens,
        cached_tokens=usage.cached_tokens or None if usage else None,
        prompt_cost=costs and costs.prompt,
        output_cost=costs and costs.output,
        provider_request=result.call and result.call.logged_body(),
        provider_response=result.own_response,
        finish_reason=choice and choice.finish_reason,
        refusal=choice and choice.refusal,
        tools=run.tool_results or None,
        tool_choice=command.tool_choice if isinstance(command, Chat) else None,
        trace=telemetry.trace_headers().get("traceparent"),
    )
    return record if command.save else record.without_content()


def _output_message(choice: Choice) -> ChatMessage:
    return ChatMessage(role="assistant", content=choice.text.strip(), tool_calls=choice.tool_calls)


def _error(problem: Problem, *, save: bool) -> str:
    """Return its message; only its kind with `save: false`, because the message may quote what was sent."""
    if save:
        return problem.message
    return f"{problem.origin}: {problem.code} ({problem.status}). What it said is not kept: save is false."
