"""The wire language of Replicate: a prediction is created, and its output polled or streamed.

Predictions: https://replicate.com/docs/reference/http · streams: https://replicate.com/docs/topics/predictions/streaming,
2026-11. Every model has its own inputs; these are the language models', see for instance
https://replicate.com/meta/meta-llama-3-70b-instruct/api/schema
"""

import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import to_json

from services.generation.models.request import (
    Choice,
    Json,
    ModelRequest,
    ModelResponse,
    ResponseDelta,
    StreamAccumulator,
)
from services.generation.models.usage import usage_from_counts
from services.generation.providers import errors
from services.generation.providers.base import FollowUp, PreparedRequest, ReportedError
from services.generation.providers.dialects.reply_fields import as_error, as_object, as_status, as_text
from services.generation.providers.transport.bounded_json import read_json
from services.generation.providers.transport.reading import without_answer
from services.generation.providers.transport.stream_framing import DONE, server_sent_events
from shared.contracts.chat import ChatMessage, Text, Usage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

_ALIASES = {"llama70b-v2": "meta/llama-2-70b-chat"}
"""Model names of Humanloop's own (behaviour.md §16)."""
_MODEL = re.compile(r"(?P<owner>\w[\w.-]*)/(?P<name>\w[\w.-]*)(?::(?P<version>\w+))?")
_LLAMA_2 = re.compile(r"[^/]+/llama-2-")
"""Models whose `max_tokens` is called `max_new_tokens`: https://replicate.com/meta/llama-2-70b-chat/api/schema"""
_RESERVED_FIELDS = frozenset({"prompt"})
_POLL_SECONDS = 0.5
_PENDING_STATUSES = frozenset({"starting", "processing"})
_FAILED_STATUSES = frozenset({"failed", "canceled", "aborted"})
_ROLE_NAMES = {"user": "User", "assistant": "Assistant"}


def check(config: ModelConfig) -> None:
    """Raises Invalid if the model is not `owner/name` or `owner/name:version`."""
    _parse_model(config.model)


def _parse_model(model: str) -> re.Match[str]:
    match = _MODEL.fullmatch(_ALIASES.get(model, model))
    if match is None:
        raise Invalid(f"{model!r} is not a model of Replicate: model must be 'owner/name' or 'owner/name:version'.")
    return match


# Request


def url(base_url: str, request: ModelRequest) -> str:
    """Return the URL: of predictions for a version (sent in the body), else of the model's predictions."""
    parts = _parse_model(request.config.model)
    return f"{base_url}/predictions" if parts["version"] else f"{base_url}/models/{parts[1]}/{parts[2]}/predictions"


def headers(key: str | None) -> dict[str, str]:
    """Return the bearer token, if there is a key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def prefer_wait(prepared: PreparedRequest) -> dict[str, str]:
    """Return a header that makes Replicate wait up to a minute for the output, unless it is streamed."""
    return {} if prepared.request.stream else {"Prefer": "wait"}


def body(request: ModelRequest) -> Json:
    """Return the inputs of a language model. Raises Invalid if a stop sequence has a comma."""
    config = request.config
    parts = _parse_model(config.model)
    prompt, system = (request.prompt or "", None) if request.messages is None else _prompts(request.messages)
    budget = "max_new_tokens" if _LLAMA_2.match(parts[0]) else "max_tokens"
    inputs = {
        "prompt": prompt,
        "system_prompt": system,
        budget: request.max_output_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "stop_sequences": _stop_sequences(config.stop),
        "seed": request.seed,
    }
    inputs = {name: value for name, value in inputs.items() if value is not None}
    inputs |= {name: value for name, value in config.other.items() if name not in _RESERVED_FIELDS}
    sent: Json = {"version": parts["version"]} if parts["version"] else {}
    return sent | {"input": inputs} | ({"stream": True} if request.stream else {})


def _stop_sequences(stop: str | list[str] | None) -> str | None:
    stops = [stop] if isinstance(stop, str) else stop or []
    if any("," in each for each in stops):
        raise Invalid("Replicate separates stop sequences by commas: none of them can have a comma in it.")
    return ",".join(stops) or None


def _prompts(messages: list[ChatMessage]) -> tuple[str, str | None]:
    """Return prompt and system prompt. A single user message is the prompt; a conversation becomes paragraphs that
    begin with the role, because the model wraps its prompt into its own chat format, which we do not know."""
    system = "\n\n".join(_text(message) for message in messages if message.role == "system")
    spoken = [message for message in messages if message.role != "system"]
    if len(spoken) <= 1 and all(message.role == "user" for message in spoken):
        return "".join(map(_text, spoken)), system or None
    lines = [f"{_ROLE_NAMES[message.role]}: {_text(message)}" for message in spoken]
    if spoken[-1].role == "user":
        lines.append("Assistant:")
    return "\n\n".join(lines), system or None


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, list):
        return "\n".join(part.text for part in message.content if isinstance(part, Text))
    return message.content or ""


# Following up


def follow_up(prepared: PreparedRequest, reply: Any) -> FollowUp | None:  # noqa: ANN401
    """Return where to fetch or stream the output, or None if it is in the reply.

    Raises UpstreamFailed if the prediction failed, or its URLs are of another host.
    """
    fields = as_object(reply)
    status, urls = fields.get("status"), as_object(fields.get("urls"))
    if str(status) in _FAILED_STATUSES:
        error = read_error(reply)
        detail = errors.mask_key(error.detail if error else str(status), prepared.key)
        raise errors.invalid_response(prepared.title, f"could not answer: {detail}", without_answer(prepared, reply))
    cancel = as_text(urls.get("cancel"))
    if prepared.request.stream and urls.get("stream"):
        stream = _check_host(prepared, as_text(urls["stream"]))
        return FollowUp(stream, cancel_url=_check_host(prepared, cancel) if cancel else None)
    if str(status) in _PENDING_STATUSES:
        result = _check_host(prepared, as_text(urls.get("get")))
        return FollowUp(result, _POLL_SECONDS, _check_host(prepared, cancel) if cancel else None)
    return None


def _check_host(prepared: PreparedRequest, url: str) -> str:
    """Return `url`. Raises UpstreamFailed if it is of another host: the key is sent there, too."""
    target, origin = urlsplit(url), urlsplit(prepared.url)
    host = target.hostname or ""
    is_replicate = target.scheme == "https" and (host == "replicate.com" or host.endswith(".replicate.com"))
    if not is_replicate and (target.scheme, target.netloc) != (origin.scheme, origin.netloc):
        raise errors.invalid_response(prepared.title, "sent its answer to an address that is not its own.")
    return url


# Reply


def read_response(request: ModelRequest, reply: Any) -> ModelResponse:  # noqa: ANN401
    """Parse a finished prediction. Replicate gives no finish reason: if the token budget is used up it is `length`."""
    fields = as_object(reply)
    if "output" not in fields:
        raise ValueError("no output")
    usage = read_usage(reply)
    cut = (
        usage is not None
        and request.max_output_tokens is not None
        and usage.generation_tokens >= request.max_output_tokens
    )
    # Most language models give a list of strings, some one string.
    return ModelResponse([Choice(as_text(fields["output"]), None, "length" if cut else "stop")], reply, usage)


def write_response(request: ModelRequest, accumulator: StreamAccumulator) -> Json:  # noqa: ARG001
    """Return the accumulated events in the form of a finished prediction."""
    reply = accumulator.response_fields | {"status": "succeeded", "output": [accumulator.choice().text]}
    return reply | ({"metrics": accumulator.raw_usage} if accumulator.raw_usage else {})


# Stream


async def sse_events(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield server-sent events as JSON, `{"event": …, "data": …}`: their data is plain text."""
    async for event in server_sent_events(received):
        name = event.name.decode(errors="replace")
        if name:
            yield to_json({"event": name, "data": event.data.decode(errors="replace")})
        if name == "done":
            yield DONE


def read_event(request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401, ARG001
    """Parse one event in the form of `sse_events`."""
    fields = as_object(event)
    if fields.get("event") == "output":
        return ResponseDelta(text=as_text(fields.get("data")))
    return ResponseDelta(finish_reason="stop" if fields.get("event") == "done" else None)


# Usage and errors


def read_usage(reply: Any) -> Usage | None:  # noqa: ANN401
    """Return the token counts among the metrics of a prediction."""
    metrics = as_object(as_object(reply).get("metrics"))
    return usage_from_counts([metrics.get("input_token_count")], [metrics.get("output_token_count")])


def read_error(payload: Any) -> ReportedError | None:  # noqa: ANN401
    """Read `{"title": …, "detail": …, "status": 422}`, a failed prediction, or an error event."""
    if not isinstance(payload, dict):
        return None
    if "event" in payload:
        return _event_error(payload["event"], str(payload.get("data") or ""))
    status = payload.get("status")
    if str(status) in _FAILED_STATUSES:
        return ReportedError(str(payload.get("error") or f"the prediction was {status}"))
    if "output" in payload:
        return None
    detail = payload.get("detail") or payload.get("title")
    if not detail:
        return as_error(payload.get("error"), {}, payload)
    return ReportedError(str(detail), as_status([status], {}))


def _event_error(event: Any, data: str) -> ReportedError | None:  # noqa: ANN401
    """Read the data of an `error` event, or of a `done` event with a reason: `{"reason": "canceled"}`."""
    if event == "error":
        return ReportedError(data or "the prediction failed")
    if event != "done":
        return None
    with suppress(ValueError):
        reason = as_object(read_json(data)).get("reason")
        return ReportedError(f"the prediction ended with {data}") if reason else None
    return None
