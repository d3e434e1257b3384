"""A CLIENT span for each provider call, with the attributes of OpenTelemetry's GenAI conventions.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/, 2025-10. Message text only if the setting asks for it,
and never of a call with `save: false`.
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
from services.generation.providers import errors
from services.generation.providers.base import PreparedRequest
from shared import telemetry
from shared.contracts.chat import Usage
from shared.errors import Problem

_MAX_ID_CHARACTERS = 200
"""Of a response; a longer one is left out."""


class CallSpan:
    """The span of one call; attributes of a streamed response are set when it ends."""

    def __init__(self, span: Span, key: str | None, *, with_content: bool) -> None:
        self._span = span
        self._key = key
        self._with_content = with_content
        self._accumulator: StreamAccumulator | None = None

    def add_delta(self, delta: ResponseDelta) -> None:
        """Take an event of a streamed response."""
        if self._span.is_recording():
            self._accumulator = self._accumulator or StreamAccumulator()
            self._accumulator.add(delta)

    def set_response(self, response: ModelResponse) -> None:
        """Set the attributes of a response that is not streamed."""
        if self._span.is_recording():
            self._set_response(response.choices, response.usage, response.raw.get("model"), response.raw.get("id"))

    def end(self) -> None:
        """Set the attributes of the stream as far as it came, and end the span."""
        if (accumulator := self._accumulator) is not None:
            self._set_response(
                [accumulator.choice()],
                accumulator.usage,
                accumulator.response_fields.get("model"),
                accumulator.response_fields.get("id"),
            )
        self._span.end()

    def _set_response(self, choices: list[Choice], usage: Usage | None, model: object, response_id: object) -> None:
        attributes: dict[str, AttributeValue] = {
            "gen_ai.response.finish_reasons": [choice.finish_reason or "" for choice in choices]
        }
        # Of any type and content: the provider sent it, and it knows the key.
        if isinstance(model, str) and model:
            attributes["gen_ai.response.model"] = telemetry.span_text(model)
        if isinstance(response_id, str) and 0 < len(response_id) <= _MAX_ID_CHARACTERS:
            attributes["gen_ai.response.id"] = errors.mask_key(response_id, self._key)
        if usage:
            attributes["gen_ai.usage.input_tokens"] = usage.prompt_tokens
            attributes["gen_ai.usage.output_tokens"] = usage.generation_tokens
        if self._with_content:
            attributes["gen_ai.output.messages"] = to_json([choice.text for choice in choices]).decode()
        self._span.set_attributes(attributes)


@contextmanager
def call_span(prepared: PreparedRequest) -> Iterator[CallSpan]:
    """Start and end the span of a call, with an error status if it raises.

    It is not made the current span: the consumer of a stream runs between its events.
    """
    operation = "chat" if prepared.request.messages is not None else "text_completion"
    model = telemetry.span_text(prepared.request.config.model)
    span = telemetry.tracer.start_span(f"{operation} {model}", kind=SpanKind.CLIENT)
    with_content = prepared.request.save and telemetry.captures_message_content()
    if span.is_recording():
        span.set_attributes(_request_attributes(prepared, operation, with_content=with_content))
    wrapped = CallSpan(span, prepared.key, with_content=with_content)
    try:
        yield wrapped
    except BaseException as error:
        error_type = str(error.status) if isinstance(error, Problem) else type(error).__name__
        span.set_attribute("error.type", error_type)
        span.set_status(Status(StatusCode.ERROR, error_type))
        raise
    finally:
        wrapped.end()


def _request_attributes(prepared: PreparedRequest, operation: str, *, with_content: bool) -> dict[str, AttributeValue]:
    config, url = prepared.request.config, urlsplit(prepared.url)
    attributes: dict[str, AttributeValue] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": prepared.provider,
        "gen_ai.request.model": telemetry.span_text(config.model),
        "gen_ai.request.temperature": config.temperature,
        "gen_ai.request.top_p": config.top_p,
        "gen_ai.request.choice.count": prepared.request.samples,
        "server.address": url.hostname or "",
    }
    if url.port:
        attributes["server.port"] = url.port
    if config.max_tokens != -1:
        attributes["gen_ai.request.max_tokens"] = config.max_tokens
    if with_content:
        attributes["gen_ai.input.messages"] = to_json(_input_messages(prepared.request)).decode()
    return attributes


def _input_messages(request: ModelRequest) -> str | list[Json] | None:
    """Return messages or prompt in our form, the same for every wire language."""
    if request.messages is None:
        return request.prompt
    return [message.model_dump(exclude_none=True) for message in request.messages]
