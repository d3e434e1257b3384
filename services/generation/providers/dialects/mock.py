"""A provider inside this process: no network, no key, the same answer to the same request.

It speaks the wire language of OpenAI and repeats the last user message (or the prompt). The name of the model or the
config's `other` steers it:

    mock-error-429          fails with this status              other: {"fail": 429}
    mock-slow-2.5           answers after so many seconds       other: {"delay_seconds": 2.5}
    mock-tools-3            asks for three tool calls           other: {"tool_calls": 3}
    mock-broken             breaks off in the middle            other: {"break": true}
                            says this                           other: {"output": "text"}
                            streams in so many pieces           other: {"chunks": 10}
                            waits before each of them           other: {"chunk_delay_seconds": 0.1}
                            reports so many tokens              other: {"prompt_tokens": 9, "completion_tokens": 9}
"""

import hashlib
import json
import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.generation.models.request import Json
from services.generation.providers.base import StubResponse
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

BASE_URL = "http://mock.everloop"

_MODEL = re.compile(
    r"mock-(?:error-(?P<fail>\d+)|slow-(?P<delay_seconds>[\d.]+)|tools-(?P<tool_calls>\d+)|(?P<break>broken))"
)
_WORD = re.compile(r"\s*+\S++")
_WORD_OR_END = re.compile(r"\s*+\S++(?:\s++\Z)?|\s++")
"""The white space at the end of a text belongs to its last word."""
_JSON_NOT_MENTIONED = (
    "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
)
"""OpenAI's own message (https://platform.openai.com/docs/guides/structured-outputs#json-mode, 2023-11)."""


class MockOptions(BaseModel):
    """How the mock answers. Unknown fields of `other` are ignored, as a provider ignores them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    fail: int | None = Field(None, ge=400, le=599)
    delay_seconds: float = Field(0, ge=0, le=3600)
    tool_calls: int = Field(0, ge=0, le=128)
    truncated: bool = Field(False, alias="break")
    output: str | None = Field(None, max_length=1_000_000)
    chunks: int | None = Field(None, ge=1, le=10_000)
    chunk_delay_seconds: float = Field(0, ge=0, le=60)
    prompt_tokens: int | None = Field(None, ge=0)
    completion_tokens: int | None = Field(None, ge=0)


def _options(model: str, other: Json) -> MockOptions:
    match = _MODEL.fullmatch(model)
    named = {key: value for key, value in (match.groupdict() if match else {}).items() if value is not None}
    if "break" in named:
        named["break"] = True
    return MockOptions.model_validate(named | other)


def check(config: ModelConfig) -> None:
    """Raises Invalid if an option in the model's name or in `other` is out of range."""
    try:
        _options(config.model, config.other)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"The mock provider cannot do {field!r}: {first['msg']}.") from error


def answer(sent: Json) -> StubResponse:
    """Return the response to a request body; status 400 if `other` put something unreadable into it."""
    try:
        return _answer(sent)
    except (TypeError, LookupError, AttributeError, ValueError) as error:
        return StubResponse(
            status=400, payload={"error": {"message": f"The mock provider cannot read the request: {error}"}}
        )


def _answer(sent: Json) -> StubResponse:
    options = _options(sent["model"], sent)
    if options.fail is not None:
        return _refusal(options.fail, f"The mock provider fails with status {options.fail}, as asked.", options)
    if "prompt" not in sent and _is_json_unmentioned(sent):
        return _refusal(400, _JSON_NOT_MENTIONED, options)
    if "prompt" in sent:
        input_text = sent["prompt"]
        head = {"object": "text_completion"}
    else:
        input_text = _last_user_text(sent["messages"])
        head = {"object": "chat.completion"}
    head |= {"id": f"mock-{_digest(sent)}", "model": sent["model"]}
    text, reason = _text(input_text, sent, options)
    calls = _tool_calls(sent, options)
    usage = _usage(input_text, text, sent["n"], options)
    if sent["stream"]:
        stop = "tool_calls" if calls else reason
        events = _events(head, _split(text, options.chunks), calls, stop)
        if options.truncated:
            events = islice(events, sum(1 for _ in _events(head, _split(text, options.chunks), calls, stop)) // 2)
        else:
            events = chain(events, [head | {"choices": [], "usage": usage}])
        return StubResponse(
            events=events,
            delay_seconds=options.delay_seconds,
            event_delay_seconds=options.chunk_delay_seconds,
            truncated=options.truncated,
        )
    choice: Json = {"finish_reason": "tool_calls" if calls else reason, "logprobs": None}
    if head["object"] == "text_completion":
        choice["text"] = text
    else:
        choice["message"] = {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})
    payload = head | {"choices": [{"index": index} | choice for index in range(sent["n"])], "usage": usage}
    return StubResponse(payload=payload, delay_seconds=options.delay_seconds, truncated=options.truncated)


def _refusal(status: int, message: str, options: MockOptions) -> StubResponse:
    return StubResponse(status=status, payload={"error": {"message": message}}, delay_seconds=options.delay_seconds)


def _digest(sent: Json) -> str:
    return hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()[:24]


def _is_json_unmentioned(sent: Json) -> bool:
    is_json = (sent.get("response_format") or {}).get("type") == "json_object"
    return is_json and not any("json" in _content(message).lower() for message in sent["messages"])


def _content(message: Json) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def _last_user_text(messages: list[Json]) -> str:
    return next((_content(message) for message in reversed(messages) if message["role"] == "user"), "")


def _text(input_text: str, sent: Json, options: MockOptions) -> tuple[str, str]:
    """Return the text and its finish reason; `max_tokens` counts words."""
    if options.output is None and (options.tool_calls or not input_text):
        return "", "stop"
    text = input_text if options.output is None else options.output
    if options.output is None and (sent.get("response_format") or {}).get("type") == "json_object":
        text = json.dumps({"echo": input_text}, ensure_ascii=False)
    limit = sent.get("max_tokens")
    too_many = None if limit is None else next(islice(_WORD.finditer(text), min(limit, len(text)), None), None)
    return (text, "stop") if too_many is None else (text[: too_many.start()], "length")


def _tool_calls(sent: Json, options: MockOptions) -> list[Json]:
    names = [tool["function"]["name"] for tool in sent.get("tools") or ()] or ["mock_tool"]
    return [
        {"id": f"call_{index}", "type": "function", "function": {"name": names[index % len(names)], "arguments": "{}"}}
        for index in range(options.tool_calls)
    ]


def _usage(input_text: str, text: str, samples: int, options: MockOptions) -> Json:
    prompt = _count_words(input_text) if options.prompt_tokens is None else options.prompt_tokens
    generated = _count_words(text) * samples if options.completion_tokens is None else options.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def _count_words(text: str) -> int:
    return sum(1 for _ in _WORD.finditer(text))


def _split(text: str, count: int | None) -> Iterator[str]:
    """Yield its words, with the white space before each, or `count` pieces of about the same length."""
    if count is None:
        return (match[0] for match in _WORD_OR_END.finditer(text))
    size = max(1, -(-len(text) // count))
    return (text[start : start + size] for start in range(0, len(text), size))


def _events(head: Json, pieces: Iterator[str], calls: list[Json], reason: str) -> Iterator[Json]:
    """Yield the events of a stream; each is made when it is sent, for a text may have millions of words."""

    def event(reason: str | None, **delta: Any) -> Json:  # noqa: ANN401
        fields = {"text": delta.get("content", "")} if head["object"] == "text_completion" else {"delta": delta}
        return head | {"choices": [{"index": 0, "finish_reason": reason} | fields]}

    yield from (event(None, content=piece) for piece in pieces)
    yield from (event(None, tool_calls=[{"index": index} | call]) for index, call in enumerate(calls))
    yield event(reason)
