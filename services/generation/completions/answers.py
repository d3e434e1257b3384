"""Maps a run to what its caller gets: chunks while a sample is streamed, and the whole generation at the end."""

from functools import cached_property

from services.generation.completions.run import GenerationRun
from services.generation.models.request import Choice
from services.generation.models.usage import sum_usage
from shared.contracts.chat import ToolResult
from shared.contracts.generation.generations import Chunk, Generation, Sample

_MAX_STREAMED_TOOL_RESULTS = 16 * 1024
"""Characters of JSON; longer tool results are not repeated on chunks, because clients limit the length of a line."""


class StreamChunks:
    """Builds the chunks of a streamed run; what they have in common is worked out once."""

    def __init__(self, run: GenerationRun) -> None:
        self._run = run

    @cached_property
    def _tool_results(self) -> list[ToolResult]:
        """The same on every chunk: all, or none if they are too long (the log has them)."""
        results = self._run.tool_results
        size = sum(len(result.model_dump_json()) for result in results)
        return results if size <= _MAX_STREAMED_TOOL_RESULTS else []

    def text(self, index: int, text: str) -> Chunk:
        """Return a chunk that adds `text` to the sample at `index`."""
        return self._chunk(Sample(id=self._run.command.log_ids[index], index=index, output=text, raw_output=text))

    def end(self, index: int) -> Chunk:
        """Return the last chunk of a sample: no text, its finish reason and its complete tool calls."""
        return self._chunk(_sample(self._run, index).model_copy(update={"output": "", "raw_output": ""}))

    def _chunk(self, sample: Sample) -> Chunk:
        return Chunk(
            project_id=self._run.resolved.project.id,
            session_id=self._run.command.session_id,
            config_id=self._run.resolved.version.id,
            sample=sample,
            tool_results=self._tool_results,
        )


def generation(run: GenerationRun) -> Generation:
    """Return the whole answer; a provider response that several samples share is in it once."""
    usages, first = [result.usage for result in run.results if result.usage], run.results[0].call
    responses = {id(result.response): result.response for result in run.results if result.response}
    return Generation(
        project_id=run.resolved.project.id,
        session_id=run.command.session_id,
        config_id=run.resolved.version.id,
        samples=[_sample(run, index) for index in range(len(run.results))],
        messages=run.messages,
        tool_results=run.tool_results,
        usage=sum_usage(usages),
        provider_responses=list(responses.values()),
        provider_request=first.logged_body() if first else {},
    )


def _sample(run: GenerationRun, index: int) -> Sample:
    choice = run.results[index].choice or Choice()
    return Sample(
        id=run.command.log_ids[index],
        index=index,
        output=choice.text.strip(),
        raw_output=choice.text,
        finish_reason=choice.finish_reason,
        tool_calls=choice.tool_calls,
    )
