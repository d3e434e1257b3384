"""Reads responses, events, usage and errors in the wire language of Gemini, and writes responses from streams."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from services.generation.models.request import (
    SIGNATURE_MARK,
    Choice,
    Json,
    ModelRequest,
    ModelResponse,
    ResponseDelta,
    StreamAccumulator,
    ToolCallPart,
)
from services.generation.models.usage import usage_from_counts
from services.generation.providers import errors
from services.generation.providers.base import ReportedError
from services.generation.providers.dialects.gemini.request import read_object
from services.generation.providers.dialects.reply_fields import (
    as_finish_reason,
    as_json_text,
    as_name,
    as_object,
    as_objects,
    as_text,
    as_told_error,
    without_none,
)
from shared.contracts.chat import FinishReason, FunctionCall, ToolCall, Usage

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
_ERROR_STATUSES = {
    "invalid_argument": 400,
    "failed_precondition": 400,
    "out_of_range": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "resource_exhausted": 429,
    "internal": 500,
    "unknown": 500,
    "unavailable": 503,
    "deadline_exceeded": 504,
}
"""By status of Google's APIs, in lower case: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto"""


def read_response(request: ModelRequest, reply: Any) -> ModelResponse:  # noqa: ANN401, ARG001
    """Parse a response that is not streamed. Raises Invalid (blocked, withheld) or UpstreamFailed (malformed)."""
    fields = as_object(reply)
    _refuse_blocked(fields)
    candidates = [_choice(candidate) for candidate in as_objects(fields.get("candidates"))]
    if not candidates:
        raise ValueError("no candidates")
    return ModelResponse(candidates, reply, read_usage(reply))


def _field(fields: Json, name: str) -> Any:  # noqa: ANN401
    """Return a field by Google's name; gateways in Python write `finish_reason` for `finishReason`."""
    return fields[name] if name in fields else fields.get(_snake_case(name))


@cache
def _snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def _refuse_blocked(reply: Json) -> None:
    """Raise Invalid if the prompt was blocked; such a response has no candidates."""
    feedback = as_object(_field(reply, "promptFeedback"))
    if _field(feedback, "blockReason") and not reply.get("candidates"):
        message = _field(feedback, "blockReasonMessage")
        raise errors.prompt_blocked(
            _TITLE, f"blocked the prompt ({_field(feedback, 'blockReason')})" + (f": {message}" if message else ".")
        )


def _answer_parts(candidate: Json) -> list[Any]:
    """Return the content parts without thoughts."""
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else content
    every = parts if isinstance(parts, list) else [] if parts is None else [parts]
    return [part for part in every if not (isinstance(part, dict) and part.get("thought") is True)]


def _text(parts: list[Any]) -> str:
    return "".join(as_text(part.get("text") if isinstance(part, dict) else part) for part in parts)


def _choice(candidate: Json) -> Choice:
    """Raises Invalid if all of the answer is withheld, UpstreamFailed if the model's output is malformed."""
    parts = _answer_parts(candidate)
    calls = [
        ToolCall(id=part.id or "", function=FunctionCall(name=part.name or "", arguments=part.arguments))
        for part in _tool_call_parts(parts)
    ]
    text, refusal = _text(parts), _refusal(candidate)
    if refusal and not text and not calls:
        raise errors.response_withheld(_TITLE, _withheld(candidate))
    return Choice(text, calls or None, _finish_reason(candidate) or "stop", refusal)


def _tool_call_parts(parts: list[Any]) -> Iterator[ToolCallPart]:
    """Yield the function calls, which are never split; without an id where Google gives none."""
    for part in as_objects(parts):
        if _field(part, "functionCall") is not None:
            function = as_object(_field(part, "functionCall"))
            arguments = function.get("args")
            yield ToolCallPart(
                None,
                _call_id(part),
                as_name(function.get("name")),
                as_json_text({} if arguments is None else arguments) or "",
            )


def _call_id(part: Json) -> str | None:
    """Return the call's id with its signature, which must come back later; of our fields only the id does."""
    call_id, signature = (
        as_name(as_object(_field(part, "functionCall")).get("id")),
        as_name(_field(part, "thoughtSignature")),
    )
    return f"{call_id or ''}{SIGNATURE_MARK}{signature}" if signature else call_id


def _refusal(candidate: Json) -> str | None:
    """Return the word for `Choice.refusal`, if the content is withheld or was cut off."""
    reason = as_name(_field(candidate, "finishReason"))
    return reason if reason and (reason in _WITHHELD or reason.startswith("IMAGE_")) else None


def _withheld(candidate: Json) -> str:
    return f"withheld the answer {_why(candidate)}"


def _why(candidate: Json) -> str:
    message = _field(candidate, "finishMessage")
    return f"({_field(candidate, 'finishReason')})" + (f": {message}" if message else ".")


def _finish_reason(candidate: Json) -> FinishReason | None:
    """Raises UpstreamFailed if the model's output is malformed."""
    reason = _field(candidate, "finishReason")
    if not reason:
        return None
    if isinstance(reason, str) and reason in _MALFORMED:
        raise errors.invalid_response(_TITLE, f"stopped because of what the model wrote {_why(candidate)}")
    return as_finish_reason(reason, _FINISH_REASONS)


def write_response(request: ModelRequest, accumulator: StreamAccumulator) -> Json:  # noqa: ARG001
    """Return the accumulated events in the form of a response that is not streamed."""
    choice = accumulator.choice()
    parts: list[Json] = [{"text": choice.text}] if choice.text else []
    parts += [_function_call_part(call) for call in choice.tool_calls or ()]
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    if choice.finish_reason:
        candidate["finishReason"] = choice.refusal or ("MAX_TOKENS" if choice.finish_reason == "length" else "STOP")
    reply: Json = {"candidates": [candidate]} | accumulator.response_fields
    return reply | ({"usageMetadata": accumulator.raw_usage} if accumulator.raw_usage else {})


def _function_call_part(call: ToolCall) -> Json:
    call_id, _, signature = call.id.partition(SIGNATURE_MARK)
    arguments = call.function.arguments or "{}"
    read = read_object(arguments)
    function = without_none(id=call_id or None, name=call.function.name, args=arguments if read is None else read)
    return {"functionCall": function} | ({"thoughtSignature": signature} if signature else {})


# Stream


def read_event(request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401, ARG001
    """Parse one event: it has the form of a response, with the next pieces in it."""
    fields = as_object(event)
    _refuse_blocked(fields)
    candidate = next(iter(as_objects(fields.get("candidates"))), {})
    parts, refusal = _answer_parts(candidate), _refusal(candidate)
    return ResponseDelta(
        text=_text(parts),
        tool_calls=tuple(_tool_call_parts(parts)),
        finish_reason=_finish_reason(candidate),
        refusal=refusal,
        withheld=_withheld(candidate) if refusal else None,
        usage=read_usage(event),
        raw_usage=as_object(_field(fields, "usageMetadata")) or None,
        response_fields=without_none(
            modelVersion=_field(fields, "modelVersion"), responseId=_field(fields, "responseId")
        ),
    )


# Usage and errors


def read_usage(reply: Any) -> Usage | None:  # noqa: ANN401
    """Return the totals so far; as billed, thoughts count as output, results of Google's own tools as prompt. The
    cached tokens are among those of the prompt: https://ai.google.dev/api/generate-content#UsageMetadata, 2026-11"""
    usage = as_object(_field(as_object(reply), "usageMetadata"))
    return usage_from_counts(
        [_field(usage, "promptTokenCount"), _field(usage, "toolUsePromptTokenCount")],
        [_field(usage, "candidatesTokenCount"), _field(usage, "thoughtsTokenCount")],
        total=_field(usage, "totalTokenCount"),
        cached=_field(usage, "cachedContentTokenCount"),
    )


def read_error(payload: Any) -> ReportedError | None:  # noqa: ANN401
    """Read `{"error": {"code", "message", "status"}}`, in a list of one if a stream was requested."""
    if isinstance(payload, list) and payload:
        payload = payload[0]
    return as_told_error(payload, _ERROR_STATUSES, is_answer=isinstance(payload, dict) and "candidates" in payload)
