"""A CLIENT span for each call, with the attributes of OpenTelemetry's GenAI conventions.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/, 2025-10. Message text only if it is asked for, and
never of a call that shall not be saved.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue
from pydantic_core import to_json

from services.generation.models.request import (
    Choice,
    Json,
    ModelRequest,
    ModelResponse,
    ResponseDelta,
    StreamAccumulator,
)
from services.generation.providers.base import PreparedRequest
from shared import telemetry
from shared.contracts.chat import Usage
from shared.errors import Problem


class CallSpan:
    """What is known of the answer goes on the span at its end."""

    def __init__(self, span: Span, *, with_content: bool) -> None:
        self._span = span
        self._with_content = with_content
        self._joined: StreamAccumulator | None = None

    def add(self, chunk: ResponseDelta) -> None:
        """An event of a streamed answer."""
        if self._span.is_recording():
            self._joined = self._joined or StreamAccumulator()
            self._joined.add(chunk)

    def completed(self, completion: ModelResponse) -> None:
        """A whole answer."""
        if self._span.is_recording():
            self._answered(completion.choices, completion.usage, completion.raw.get("model"), completion.raw.get("id"))

    def end(self) -> None:
        """Whatever came of a stream."""
        if (accumulator := self._joined) is not None:
            self._answered(
                [accumulator.choice()],
                accumulator.usage,
                accumulator.response_fields.get("model"),
                accumulator.response_fields.get("id"),
            )
        self._span.end()

    def _answered(self, choices: list[Choice], usage: Usage | None, model: str | None, answer: str | None) -> None:
        attributes: dict[str, AttributeValue] = {
            "gen_ai.response.finish_reasons": [choice.finish_reason or "" for choice in choices]
        }
        if model:
            attributes["gen_ai.response.model"] = model
        if answer:
            attributes["gen_ai.response.id"] = answer
        if usage:
            attributes["gen_ai.usage.input_tokens"] = usage.prompt_tokens
            attributes["gen_ai.usage.output_tokens"] = usage.generation_tokens
        if self._with_content:
            attributes["gen_ai.output.messages"] = to_json([choice.text for choice in choices]).decode()
        self._span.set_attributes(attributes)


@contextmanager
def of(prepared: PreparedRequest) -> Iterator[CallSpan]:
    """The span of a call. It is not made current: a stream's consumer runs between its events."""
    operation = "chat" if prepared.request.messages is not None else "text_completion"
    span = telemetry.tracer.start_span(f"{operation} {prepared.request.config.model}", kind=SpanKind.CLIENT)
    with_content = prepared.request.save and telemetry.content_wanted()
    if span.is_recording():
        span.set_attributes(_asked(prepared, operation, with_content=with_content))
    recorded = CallSpan(span, with_content=with_content)
    try:
        yield recorded
    except BaseException as error:
        kind = str(error.status) if isinstance(error, Problem) else type(error).__name__
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR, kind))
        raise
    finally:
        recorded.end()


def _asked(prepared: PreparedRequest, operation: str, *, with_content: bool) -> dict[str, AttributeValue]:
    config, address = prepared.request.config, urlsplit(prepared.url)
    attributes: dict[str, AttributeValue] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": prepared.provider,
        "gen_ai.request.model": config.model,
        "gen_ai.request.temperature": config.temperature,
        "gen_ai.request.top_p": config.top_p,
        "gen_ai.request.choice.count": prepared.request.samples,
        "server.address": address.hostname or "",
    }
    if address.port:
        attributes["server.port"] = address.port
    if config.max_tokens != -1:
        attributes["gen_ai.request.max_tokens"] = config.max_tokens
    if with_content:
        attributes["gen_ai.input.messages"] = to_json(_given(prepared.request)).decode()
    return attributes


def _given(request: ModelRequest) -> str | list[Json] | None:
    """The same for every wire language."""
    if request.messages is None:
        return request.prompt
    return [message.model_dump(exclude_none=True) for message in request.messages]
