"""The wire language of Google's Gemini API.

https://ai.google.dev/api/generate-content · tools: https://ai.google.dev/gemini-api/docs/function-calling ·
signatures: https://ai.google.dev/gemini-api/docs/thought-signatures, 2026-11
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any
from urllib.parse import quote

from services.generation.models.request import (
    Choice,
    Json,
    ModelRequest,
    ModelResponse,
    ResponseDelta,
    StreamAccumulator,
    ToolCallPart,
    get_inline_tools,
    get_tool_calls,
    usage_from_counts,
)
from services.generation.providers import errors
from services.generation.providers.dialects.alternating_messages import response_schema
from services.generation.providers.transport.bounded_json import read_json
from shared.contracts.chat import ChatMessage, FinishReason, FunctionCall, Image, Part, ToolCall, Usage
from shared.errors import Invalid

_TITLE = "Google"
_FINISH_REASONS: dict[str, FinishReason] = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
"""Reasons in none of these three tables mean `stop`."""
_WITHHELD = frozenset(
    {
        "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION",
        "PUP_LIMITED_DISABLED", "MODEL_ARMOR", "MISSING_THOUGHT_SIGNATURE",
    }
)  # fmt: skip
"""The content of such an answer is empty: the provider withholds it."""
_MALFORMED = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"})
"""The model's output was unreadable to Google; another attempt may succeed."""
_RESERVED_FIELDS = frozenset({"contents", "systemInstruction", "generationConfig"})
"""Fields that `other` cannot replace as a whole: the log would not show what was sent."""

_SIGNATURE_MARK = "~"
"""Separates id and signature in the ids of our tool calls; occurs neither in ids nor in base64."""
_SKIP_SIGNATURE = "skip_thought_signature_validator"
"""Signature of calls that no Gemini 3 made: https://ai.google.dev/gemini-api/docs/thought-signatures#faqs, 2026-11"""
_MODELS_WITHOUT_SIGNATURES = re.compile(r"(models/)?(gemini-[12]\b|gemma|learnlm)")
_DATA_URL = re.compile(r"data:(?P<type>[^;,]+)(?:;[^;,]+)*;base64,", re.IGNORECASE)
_MODES = {"none": "NONE", "auto": "AUTO", "required": "ANY"}


# Request


def url(base_url: str, request: ModelRequest) -> str:
    """Return the URL of the model, which is in the path; tuned ones have their own folder (`tunedModels/…`)."""
    model = quote(request.config.model, safe="/")
    path = model if "/" in model else f"models/{model}"
    return f"{base_url}/{path}:" + ("streamGenerateContent?alt=sse" if request.stream else "generateContent")


def headers(key: str | None) -> dict[str, str]:
    """Return the key in Google's own header."""
    return {"x-goog-api-key": key} if key else {}


def body(request: ModelRequest) -> Json:
    """Return the body; `other` is merged at its top, and `other.generationConfig` into ours."""
    config = request.config
    messages = request.messages or []
    sent: Json = {"contents": _contents(messages, config.model)}
    system = [part for message in messages if message.role == "system" for part in _parts(message)]
    tools = [
        _without_none(name=tool.name, description=tool.description, parametersJsonSchema=tool.parameters)
        for tool in get_inline_tools(config)
    ]
    sent |= _without_none(
        systemInstruction={"parts": system} if system else None,
        tools=[{"functionDeclarations": tools}] if tools else None,
        toolConfig=_tool_config(request) if tools else None,
    )
    other = {key: value for key, value in config.other.items() if key not in _RESERVED_FIELDS}
    return sent | {"generationConfig": _generation_config(request)} | other


def _generation_config(request: ModelRequest) -> Json:
    """Return the sampling settings; penalties only if not 0, as most models refuse the fields.

    `candidateCount` is never sent: Gemini 3 refuses it (https://github.com/googleapis/js-genai/issues/1609).
    Without `maxOutputTokens` a model writes as much as it can.
    """
    config = request.config
    json_format = request.response_format
    sent = _without_none(
        temperature=config.temperature,
        topP=config.top_p,
        maxOutputTokens=None if config.max_tokens == -1 else config.max_tokens,
        stopSequences=[config.stop] if isinstance(config.stop, str) else config.stop,
        seed=request.seed,
        presencePenalty=config.presence_penalty or None,
        frequencyPenalty=config.frequency_penalty or None,
        responseMimeType="application/json" if json_format else None,
        responseJsonSchema=response_schema(json_format.json_schema)["schema"]
        if json_format and json_format.json_schema
        else None,
        responseLogprobs=None if request.logprobs is None else True,
        logprobs=request.logprobs,
    )
    other = config.other.get("generationConfig")
    if other is None:
        return sent
    if not isinstance(other, dict):
        raise Invalid("other.generationConfig must be an object: Google's generation settings by name.")
    return sent | {key: value for key, value in other.items() if key != "candidateCount"}


def _without_none(**fields: Any) -> Json:  # noqa: ANN401
    return {key: value for key, value in fields.items() if value is not None}


def _tool_config(request: ModelRequest) -> Json | None:
    choice = request.tool_choice
    if choice is None:
        return None
    if isinstance(choice, str):
        calling: Json = {"mode": _MODES[choice]}
    else:
        calling = {"mode": "ANY", "allowedFunctionNames": [choice.function.name]}
    return {"functionCallingConfig": calling}


def _contents(messages: Iterable[ChatMessage], model: str) -> list[Json]:
    """Return all but the system messages; consecutive tool results become one message, with as many parts as calls."""
    function_names: dict[str, str] = {}
    contents: list[Json] = []
    for role, group in groupby((message for message in messages if message.role != "system"), _role):
        if role == "tool":
            contents.append(
                {"role": "user", "parts": [_function_response(message, function_names) for message in group]}
            )
            continue
        for message in group:
            calls = get_tool_calls(message)
            function_names |= {call.id: call.function.name for call in calls}
            parts = [*_parts(message, empty=not calls), *_function_call_parts(calls, model)]
            contents.append({"role": role, "parts": parts})
    if not contents:
        raise Invalid("Google answers no conversation of system messages alone: add a message with role 'user'.")
    return contents


def _role(message: ChatMessage) -> str:
    return "model" if message.role == "assistant" else message.role


def _parts(message: ChatMessage, *, empty: bool = True) -> list[Json]:
    """Return text and images; `empty`: whether a message without content gets a part with empty text."""
    content = message.content or ("" if empty else [])
    return [{"text": content}] if isinstance(content, str) else [_part(part) for part in content]


def _part(part: Part) -> Json:
    if not isinstance(part, Image):
        return {"text": part.text}
    address = part.image_url.url
    match = _DATA_URL.match(address)
    if not match:
        raise Invalid("Google takes images as data: send image_url.url as data:image/…;base64,…")
    return {"inlineData": {"mimeType": match["type"], "data": address[match.end() :]}}


def _function_call_parts(calls: list[ToolCall], model: str) -> Iterator[Json]:
    """Yield the calls with their signatures; Gemini 3 refuses a message whose first call has none."""
    for index, call in enumerate(calls):
        call_id, _, signature = call.id.partition(_SIGNATURE_MARK)
        if not signature and index == 0 and not _MODELS_WITHOUT_SIGNATURES.match(model):
            signature = _SKIP_SIGNATURE
        function = {"id": call_id, "name": call.function.name, "args": _arguments(call)}
        yield {"functionCall": function} | ({"thoughtSignature": signature} if signature else {})


def _arguments(call: ToolCall) -> Json:
    arguments = _read_object(call.function.arguments or "{}")
    if arguments is None:
        raise Invalid(
            f"Google takes a JSON object as arguments; those of the call to {call.function.name!r} are not one."
        )
    return arguments


def _function_response(message: ChatMessage, function_names: dict[str, str]) -> Json:
    signed_id = message.tool_call_id or ""
    call_id = signed_id.partition(_SIGNATURE_MARK)[0]
    if signed_id not in function_names:
        raise Invalid(
            f"tool_call_id {call_id!r} is the id of no call in the messages before: Google needs the function."
        )
    parts = _parts(message)
    images = [part for part in parts if "inlineData" in part]
    response = _without_none(
        id=call_id, name=function_names[signed_id], response=_function_output(_text(parts)), parts=images or None
    )
    return {"functionResponse": response}


def _function_output(text: str) -> Json:
    """Return the text parsed if it is a JSON object; else under `output`, where Google looks for other results."""
    read = _read_object(text)
    return {"output": text} if read is None else read


def _read_object(text: str) -> Json | None:
    try:
        read = read_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    return read if isinstance(read, dict) else None


# Reply


def read_response(request: ModelRequest, reply: Any) -> ModelResponse:  # noqa: ANN401, ARG001
    """Parse a response that is not streamed. Raises Invalid (blocked, withheld) or UpstreamFailed (malformed)."""
    _refuse_blocked(reply)
    usage = _usage(reply)
    with errors.attach_usage(reply, usage):
        return ModelResponse([_choice(candidate) for candidate in reply["candidates"]], reply, usage)


def _refuse_blocked(reply: Json) -> None:
    """Raise Invalid if the prompt was blocked; such a response has no candidates."""
    feedback = reply.get("promptFeedback") or {}
    if feedback.get("blockReason"):
        message = feedback.get("blockReasonMessage")
        raise errors.prompt_blocked(
            _TITLE, f"blocked the prompt ({feedback['blockReason']})" + (f": {message}" if message else ".")
        )


def _answer_parts(candidate: Json) -> list[Json]:
    """Return the content parts without thoughts."""
    return [part for part in (candidate.get("content") or {}).get("parts") or () if not part.get("thought")]


def _text(parts: list[Json]) -> str:
    return "".join(part.get("text") or "" for part in parts)


def _choice(candidate: Json) -> Choice:
    parts = _answer_parts(candidate)
    calls = [
        ToolCall(
            id=_call_id(part) or f"call_{index}",
            function=FunctionCall(name=part["functionCall"]["name"], arguments=_arguments_json(part)),
        )
        for index, part in enumerate(part for part in parts if "functionCall" in part)
    ]
    return Choice(_text(parts), calls or None, _finish_reason(candidate) or "stop")


def _call_id(part: Json) -> str | None:
    """Return the call's id with its signature, which must come back later; of our fields only the id does."""
    call_id, signature = part["functionCall"].get("id"), part.get("thoughtSignature")
    return f"{call_id or 'call'}{_SIGNATURE_MARK}{signature}" if signature else call_id


def _arguments_json(part: Json) -> str:
    arguments = part["functionCall"].get("args") or {}
    if not isinstance(arguments, dict):
        raise TypeError("the arguments of a function call are an object")
    return json.dumps(arguments, ensure_ascii=False)


def _finish_reason(candidate: Json) -> FinishReason | None:
    """Raises Invalid (the answer is withheld) or UpstreamFailed (the model's output is malformed)."""
    reason = candidate.get("finishReason")
    if reason is None:
        return None
    message = candidate.get("finishMessage")
    why = f"({reason})" + (f": {message}" if message else ".")
    if reason in _WITHHELD or reason.startswith("IMAGE_"):
        raise errors.response_withheld(_TITLE, f"withheld the answer {why}")
    if reason in _MALFORMED:
        raise errors.invalid_response(_TITLE, f"stopped because of what the model wrote {why}")
    return _FINISH_REASONS.get(reason, "stop")


def write_response(request: ModelRequest, accumulator: StreamAccumulator) -> Json:  # noqa: ARG001
    """Return the accumulated events in the form of a response that is not streamed."""
    choice = accumulator.choice()
    parts: list[Json] = [{"text": choice.text}] if choice.text else []
    parts += [_function_call_part(index, call) for index, call in enumerate(choice.tool_calls or ())]
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    if choice.finish_reason:
        candidate["finishReason"] = "MAX_TOKENS" if choice.finish_reason == "length" else "STOP"
    reply: Json = {"candidates": [candidate]} | accumulator.response_fields
    if (usage := accumulator.usage) is not None:
        reply["usageMetadata"] = {
            "promptTokenCount": usage.prompt_tokens,
            "candidatesTokenCount": usage.generation_tokens,
            "totalTokenCount": usage.total_tokens,
        }
    return reply


def _function_call_part(index: int, call: ToolCall) -> Json:
    call_id, _, signature = call.id.partition(_SIGNATURE_MARK)
    invented = call_id == ("call" if signature else f"call_{index}")
    function = _without_none(id=None if invented else call_id, name=call.function.name, args=_arguments(call))
    return {"functionCall": function} | ({"thoughtSignature": signature} if signature else {})


# Stream


def read_event(request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401, ARG001
    """Parse one event: it has the form of a response, with the next pieces in it; function calls are never split."""
    _refuse_blocked(event)
    candidate = (event.get("candidates") or [{}])[0]
    parts, usage = _answer_parts(candidate), _usage(event)
    with errors.attach_usage(event, usage):
        finish_reason = _finish_reason(candidate)
    return ResponseDelta(
        text=_text(parts),
        tool_calls=tuple(
            ToolCallPart(None, _call_id(part), part["functionCall"]["name"], _arguments_json(part))
            for part in parts
            if "functionCall" in part
        ),
        finish_reason=finish_reason,
        usage=usage,
        response_fields={key: event[key] for key in ("modelVersion", "responseId") if key in event},
    )


# Usage and errors


def _usage(reply: Json) -> Usage | None:
    """Return the totals so far; as billed, thoughts count as output, results of Google's own tools as prompt."""
    usage = reply.get("usageMetadata")
    if not isinstance(usage, dict) or not usage:
        return None
    return usage_from_counts(
        [usage.get("promptTokenCount"), usage.get("toolUsePromptTokenCount")],
        [usage.get("candidatesTokenCount"), usage.get("thoughtsTokenCount")],
    )


def error_detail(payload: Any) -> str | None:  # noqa: ANN401
    """Read `{"error": {"code", "message", "status"}}`, in a list of one if a stream was requested."""
    if isinstance(payload, list) and payload:
        payload = payload[0]
    error = payload.get("error") if isinstance(payload, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message) if message else None
