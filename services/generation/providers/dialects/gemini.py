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
    asked_calls,
    functions,
    told_usage,
)
from services.generation.providers import errors
from services.generation.providers.dialects.alternating_messages import response_schema
from services.generation.providers.transport.bounded_json import read_json
from shared.contracts.chat import ChatMessage, FinishReason, FunctionCall, Image, Part, ToolCall, Usage
from shared.errors import Invalid

_TITLE = "Google"
_FINISH_REASONS: dict[str, FinishReason] = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
"""What is not function_names in these three tables is an ordinary end."""
_WITHHELD = frozenset(
    {
        "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION",
        "PUP_LIMITED_DISABLED", "MODEL_ARMOR", "MISSING_THOUGHT_SIGNATURE",
    }
)  # fmt: skip
"""The content of such an answer is empty: it is refused, not short."""
_MALFORMED = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"})
"""The model wrote what nobody can read; another attempt may succeed."""
_RESERVED_FIELDS = frozenset({"contents", "systemInstruction", "generationConfig"})
"""Fields that `other` cannot change as a whole: what is logged would not be what was sent."""

_SIGNATURE_MARK = "~"
"""Neither ids nor base64 have it."""
_SKIP_SIGNATURE = "skip_thought_signature_validator"
"""For calls no Gemini 3 made: https://ai.google.dev/gemini-api/docs/thought-signatures#faqs, 2026-11"""
_MODELS_WITHOUT_SIGNATURES = re.compile(r"(models/)?(gemini-[12]\b|gemma|learnlm)")
_DATA_URL = re.compile(r"data:(?P<type>[^;,]+)(?:;[^;,]+)*;base64,", re.IGNORECASE)
_MODES = {"none": "NONE", "auto": "AUTO", "required": "ANY"}


# Request


def url(base_url: str, request: ModelRequest) -> str:
    """The model stands in the address; tuned ones have a folder of their call_id (`tunedModels/…`)."""
    model = quote(request.config.model, safe="/")
    path = model if "/" in model else f"models/{model}"
    return f"{base_url}/{path}:" + ("streamGenerateContent?alt=sse" if request.stream else "generateContent")


def headers(key: str | None) -> dict[str, str]:
    """A header of their call_id."""
    return {"x-goog-api-key": key} if key else {}


def body(request: ModelRequest) -> Json:
    """`other` is merged at the top, and its `generationConfig` into ours."""
    config = request.config
    messages = request.messages or []
    sent: Json = {"contents": _contents(messages, config.model)}
    system = [part for message in messages if message.role == "system" for part in _parts(message)]
    tools = [
        _without_none(name=tool.name, description=tool.description, parametersJsonSchema=tool.parameters)
        for tool in functions(config)
    ]
    sent |= _without_none(
        systemInstruction={"parts": system} if system else None,
        tools=[{"functionDeclarations": tools}] if tools else None,
        toolConfig=_tool_config(request) if tools else None,
    )
    other = {key: value for key, value in config.other.items() if key not in _RESERVED_FIELDS}
    return sent | {"generationConfig": _generation_config(request)} | other


def _generation_config(request: ModelRequest) -> Json:
    """Penalties only if they say something: most models refuse even to hear of them.

    Several candidates are never asked for: Gemini 3 refuses them (https://github.com/googleapis/js-genai/issues/1609).
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
    """The results of one step belong into one message, as many as there were calls; system messages are elsewhere."""
    function_names: dict[str, str] = {}
    contents: list[Json] = []
    for role, group in groupby((message for message in messages if message.role != "system"), _role):
        if role == "tool":
            contents.append(
                {"role": "user", "parts": [_function_response(message, function_names) for message in group]}
            )
            continue
        for message in group:
            calls = asked_calls(message)
            function_names |= {call.id: call.function.name for call in calls}
            parts = [*_parts(message, empty=not calls), *_function_call_parts(calls, model)]
            contents.append({"role": role, "parts": parts})
    if not contents:
        raise Invalid("Google answers no conversation of system messages alone: add a message with role 'user'.")
    return contents


def _role(message: ChatMessage) -> str:
    return "model" if message.role == "assistant" else message.role


def _parts(message: ChatMessage, *, empty: bool = True) -> list[Json]:
    """Text and images. `empty`: whether a message that says nothing needs a part that says so."""
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
    """Gemini 3 refuses a step whose first call shows no signature."""
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
    call_id = message.tool_call_id or ""
    call_id = call_id.partition(_SIGNATURE_MARK)[0]
    if call_id not in function_names:
        raise Invalid(
            f"tool_call_id {call_id!r} is the id of no call in the messages before: Google needs the function."
        )
    parts = _parts(message)
    images = [part for part in parts if "inlineData" in part]
    response = _without_none(
        id=call_id, name=function_names[call_id], response=_function_output(_text(parts)), parts=images or None
    )
    return {"functionResponse": response}


def _function_output(text: str) -> Json:
    """`output` is where Google looks for what is no object itself."""
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
    """A whole answer."""
    _refuse_blocked(reply)
    usage = _usage(reply)
    with errors.attach_usage(reply, usage):
        return ModelResponse([_choice(candidate) for candidate in reply["candidates"]], reply, usage)


def _refuse_blocked(reply: Json) -> None:
    """A blocked prompt has no candidates. Errors: Invalid."""
    feedback = reply.get("promptFeedback") or {}
    if feedback.get("blockReason"):
        said = feedback.get("blockReasonMessage")
        raise errors.prompt_blocked(
            _TITLE, f"blocked the prompt ({feedback['blockReason']})" + (f": {said}" if said else ".")
        )


def _answer_parts(candidate: Json) -> list[Json]:
    """Thoughts are not part of the answer."""
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
    """The signature must come back with the call, and the id is all of ours that does."""
    call_id, signature = part["functionCall"].get("id"), part.get("thoughtSignature")
    return f"{call_id or 'call'}{_SIGNATURE_MARK}{signature}" if signature else call_id


def _arguments_json(part: Json) -> str:
    arguments = part["functionCall"].get("args") or {}
    if not isinstance(arguments, dict):
        raise TypeError("the arguments of a function call are an object")
    return json.dumps(arguments, ensure_ascii=False)


def _finish_reason(candidate: Json) -> FinishReason | None:
    """Errors: Invalid (the answer is withheld), UpstreamFailed (the model wrote nothing readable)."""
    reason = candidate.get("finishReason")
    if reason is None:
        return None
    said = candidate.get("finishMessage")
    why = f"({reason})" + (f": {said}" if said else ".")
    if reason in _WITHHELD or reason.startswith("IMAGE_"):
        raise errors.response_withheld(_TITLE, f"withheld the answer {why}")
    if reason in _MALFORMED:
        raise errors.invalid_response(_TITLE, f"stopped because of what the model wrote {why}")
    return _FINISH_REASONS.get(reason, "stop")


def write_response(request: ModelRequest, accumulator: StreamAccumulator) -> Json:  # noqa: ARG001
    """The joined events in the form of a whole answer."""
    choice = accumulator.choice()
    parts: list[Json] = [{"text": choice.text}] if choice.text else []
    parts += [_function_call_part(index, call) for index, call in enumerate(choice.tool_calls or ())]
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    if choice.finish_reason:
        candidate["finishReason"] = "MAX_TOKENS" if choice.finish_reason == "length" else "STOP"
    reply: Json = {"candidates": [candidate]} | accumulator.about
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
    """One event: a whole answer's form with the next pieces in it. A function call is never cut."""
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
        about={key: event[key] for key in ("modelVersion", "responseId") if key in event},
    )


# Usage and errors


def _usage(reply: Json) -> Usage | None:
    """Each event tells the totals so far. Thoughts are paid for like what is said, results of Google's tools like the
    prompt."""
    told = reply.get("usageMetadata")
    if not isinstance(told, dict) or not told:
        return None
    return told_usage(
        [told.get("promptTokenCount"), told.get("toolUsePromptTokenCount")],
        [told.get("candidatesTokenCount"), told.get("thoughtsTokenCount")],
    )


def error_detail(payload: Any) -> str | None:  # noqa: ANN401
    """`{"error": {"code", "message", "status"}}`, in a list of one where a stream was asked for."""
    if isinstance(payload, list) and payload:
        payload = payload[0]
    error = payload.get("error") if isinstance(payload, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message) if message else None
