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
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.generation.models.request import Json
from services.generation.providers.base import StubResponse
from shared.contracts.projects import ModelConfig
from shared.errors import Invalid

BASE_URL = "http://mock.everloop"

_MODEL = re.compile(
    r"mock-(?:error-(?P<fail>\d+)|slow-(?P<delay_seconds>[\d.]+)|tools-(?P<tool_calls>\d+)|(?P<break>broken))"
)
_WANTS_JSON = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
"""As OpenAI says it (https://platform.openai.com/docs/guides/structured-outputs#json-mode, 2023-11)."""


class Steering(BaseModel):
    """What the caller wants to happen. Unknown fields of `other` are ignored, as a provider ignores them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    fail: int | None = Field(None, ge=400, le=599)
    delay_seconds: float = Field(0, ge=0, le=3600)
    tool_calls: int = Field(0, ge=0, le=128)
    breaks: bool = Field(False, alias="break")
    output: str | None = Field(None, max_length=1_000_000)
    chunks: int | None = Field(None, ge=1, le=10_000)
    chunk_delay_seconds: float = Field(0, ge=0, le=60)
    prompt_tokens: int | None = Field(None, ge=0)
    completion_tokens: int | None = Field(None, ge=0)


def _steering(model: str, other: Json) -> Steering:
    match = _MODEL.fullmatch(model)
    named = {key: value for key, value in (match.groupdict() if match else {}).items() if value is not None}
    if "break" in named:
        named["break"] = True
    return Steering.model_validate(named | other)


def check(config: ModelConfig) -> None:
    """Errors: Invalid (the name of the model or `other` asks for what cannot be)."""
    try:
        _steering(config.model, config.other)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"The mock provider cannot do {field!r}: {first['msg']}.") from error


def answer(sent: Json) -> StubResponse:
    """What the provider says to this body. Fields of the wire that `other` spoiled are refused, as a provider would."""
    try:
        return _answer(sent)
    except (TypeError, LookupError, AttributeError, ValueError) as error:
        return StubResponse(
            status=400, payload={"error": {"message": f"The mock provider cannot read the request: {error}"}}
        )


def _answer(sent: Json) -> StubResponse:
    steering = _steering(sent["model"], sent)
    if steering.fail is not None:
        return _refusal(steering.fail, f"The mock provider fails with status {steering.fail}, as asked.", steering)
    if "prompt" not in sent and _lacks_json(sent):
        return _refusal(400, _WANTS_JSON, steering)
    if "prompt" in sent:
        said = sent["prompt"]
        head = {"object": "text_completion"}
    else:
        said = _last_user_text(sent["messages"])
        head = {"object": "chat.completion"}
    head |= {"id": f"mock-{_digest(sent)}", "model": sent["model"]}
    text, reason = _text(said, sent, steering)
    calls = _tool_calls(sent, steering)
    usage = _usage(said, text, sent["n"], steering)
    if sent["stream"]:
        events = _events(head, _pieces(text, steering.chunks), calls, "tool_calls" if calls else reason)
        return StubResponse(
            events=events[: len(events) // 2] if steering.breaks else [*events, head | {"choices": [], "usage": usage}],
            delay_seconds=steering.delay_seconds,
            event_delay_seconds=steering.chunk_delay_seconds,
            breaks=steering.breaks,
        )
    given: Json = {"finish_reason": "tool_calls" if calls else reason, "logprobs": None}
    if head["object"] == "text_completion":
        given["text"] = text
    else:
        given["message"] = {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})
    payload = head | {"choices": [{"index": index} | given for index in range(sent["n"])], "usage": usage}
    return StubResponse(payload=payload, delay_seconds=steering.delay_seconds, breaks=steering.breaks)


def _refusal(status: int, message: str, steering: Steering) -> StubResponse:
    return StubResponse(status=status, payload={"error": {"message": message}}, delay_seconds=steering.delay_seconds)


def _digest(sent: Json) -> str:
    return hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()[:24]


def _lacks_json(sent: Json) -> bool:
    wanted = (sent.get("response_format") or {}).get("type") == "json_object"
    return wanted and not any("json" in _content(message).lower() for message in sent["messages"])


def _content(message: Json) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def _last_user_text(messages: list[Json]) -> str:
    return next((_content(message) for message in reversed(messages) if message["role"] == "user"), "")


def _text(said: str, sent: Json, steering: Steering) -> tuple[str, str]:
    """The text and why it ends there; `max_tokens` counts words."""
    if steering.output is None and (steering.tool_calls or not said):
        return "", "stop"
    text = said if steering.output is None else steering.output
    if steering.output is None and (sent.get("response_format") or {}).get("type") == "json_object":
        text = json.dumps({"echo": said}, ensure_ascii=False)
    words = re.findall(r"\s*\S+", text)
    most = sent.get("max_tokens")
    return ("".join(words[:most]), "length") if most is not None and len(words) > most else (text, "stop")


def _tool_calls(sent: Json, steering: Steering) -> list[Json]:
    names = [tool["function"]["name"] for tool in sent.get("tools") or ()] or ["mock_tool"]
    return [
        {"id": f"call_{index}", "type": "function", "function": {"name": names[index % len(names)], "arguments": "{}"}}
        for index in range(steering.tool_calls)
    ]


def _usage(said: str, text: str, samples: int, steering: Steering) -> Json:
    prompt = len(said.split()) if steering.prompt_tokens is None else steering.prompt_tokens
    generated = len(text.split()) * samples if steering.completion_tokens is None else steering.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def _pieces(text: str, wanted: int | None) -> list[str]:
    """Words, or so many pieces of about the same length."""
    if wanted is None:
        return re.findall(r"\s*\S+\s*$|\s*\S+|\s+", text)
    size = max(1, -(-len(text) // wanted))
    return [text[start : start + size] for start in range(0, len(text), size)]


def _events(head: Json, pieces: list[str], calls: list[Json], reason: str) -> list[Json]:
    def event(reason: str | None, **delta: Any) -> Json:  # noqa: ANN401
        fields = {"text": delta.get("content", "")} if head["object"] == "text_completion" else {"delta": delta}
        return head | {"choices": [{"index": 0, "finish_reason": reason} | fields]}

    return [
        *(event(None, content=piece) for piece in pieces),
        *(event(None, tool_calls=[{"index": index} | call]) for index, call in enumerate(calls)),
        event(reason),
    ]
