"""The wire language of Replicate: a prediction is created, and its output polled or streamed.

Predictions: https://replicate.com/docs/reference/http · streams: https://replicate.com/docs/topics/predictions/streaming,
2026-11. Every model has its own inputs; these are the language models', see for instance
https://replicate.com/meta/meta-llama-3-70b-instruct/api/schema
"""

import re
from collections.abc import AsyncIterator
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
    usage_from_counts,
)
from services.generation.providers import errors
from services.generation.providers.base import FollowUp, PreparedRequest
from services.generation.providers.transport.stream_framing import lines
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
    status, urls = reply["status"], reply.get("urls") or {}
    if status in _FAILED_STATUSES:
        detail = errors.mask_key(error_detail(reply) or status, prepared.key)
        raise errors.invalid_response(prepared.title, f"could not answer: {detail}")
    cancel = urls.get("cancel")
    if prepared.request.stream and urls.get("stream"):
        return FollowUp(_check_host(prepared, urls["stream"]), cancel_url=cancel and _check_host(prepared, cancel))
    if status in _PENDING_STATUSES:
        return FollowUp(_check_host(prepared, urls["get"]), _POLL_SECONDS, cancel and _check_host(prepared, cancel))
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
    usage = _usage(reply)
    cut = (
        usage is not None
        and request.max_output_tokens is not None
        and usage.generation_tokens >= request.max_output_tokens
    )
    return ModelResponse([Choice(_output(reply["output"]), None, "length" if cut else "stop")], reply, usage)


def _output(output: Any) -> str:  # noqa: ANN401
    """Join the output: most language models give a list of strings, some one string."""
    return "".join(output) if isinstance(output, list) else "" if output is None else str(output)


def write_response(request: ModelRequest, accumulator: StreamAccumulator) -> Json:  # noqa: ARG001
    """Return the accumulated events in the form of a finished prediction."""
    reply = accumulator.response_fields | {"status": "succeeded", "output": [accumulator.choice().text]}
    if accumulator.usage:
        prompt, generation = accumulator.usage.prompt_tokens, accumulator.usage.generation_tokens
        reply["metrics"] = {"input_token_count": prompt, "output_token_count": generation}
    return reply


# Stream


async def sse_events(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield server-sent events as JSON, `{"event": …, "data": …}`: their data is plain text. The body of a model that
    cannot stream is a prediction, which is yielded unchanged."""
    body, name, data = list[bytes](), "", list[str]()
    async for raw in lines(received):
        if body or raw[:1] == b"{":
            body.append(raw)
            continue
        line = raw.rstrip(b"\r").decode()
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif not line and name:
            yield to_json({"event": name, "data": "\n".join(data)})
            if name == "done":
                yield b"[DONE]"
            name, data = "", []
    if body:
        yield b"\n".join(body)


def read_event(request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401
    """Parse one event, or the prediction of a model that cannot stream."""
    if "event" not in event:
        completion = read_response(request, event)
        (choice,) = completion.choices
        about = {field: event[field] for field in ("id", "model", "version") if field in event}
        return ResponseDelta(choice.text, (), choice.finish_reason, completion.usage, about)
    if event["event"] == "output":
        return ResponseDelta(text=event["data"])
    return ResponseDelta(finish_reason="stop" if event["event"] == "done" else None)


# Usage and errors


def _usage(reply: Json) -> Usage | None:
    metrics = reply.get("metrics")
    if not isinstance(metrics, dict) or "output_token_count" not in metrics:
        return None
    return usage_from_counts([metrics.get("input_token_count")], [metrics["output_token_count"]])


def error_detail(payload: Any) -> str | None:  # noqa: ANN401
    """Read `{"title": …, "detail": …, "status": 422}`, a failed prediction, or an error event."""
    if not isinstance(payload, dict):
        return None
    if "event" in payload:
        return _event_error(payload["event"], payload["data"])
    if payload.get("status") in _FAILED_STATUSES:
        return str(payload.get("error") or f"the prediction was {payload['status']}")
    if "output" in payload:
        return None
    detail = payload.get("detail") or payload.get("title")
    return str(detail) if detail else None


def _event_error(event: str, data: str) -> str | None:
    """Read the data of an `error` event, or of a `done` event with a reason: `{"reason": "canceled"}`."""
    if event == "error":
        return data or "the prediction failed"
    return f"the prediction ended with {data}" if event == "done" and "reason" in data else None
