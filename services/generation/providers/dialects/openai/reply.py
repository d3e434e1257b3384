"""Reads responses, events, usage and errors in the wire language of OpenAI, and writes responses from streams."""

from typing import Any

from services.generation.models.request import (
    Choice,
    Json,
    ModelRequest,
    ModelResponse,
    ResponseDelta,
    StreamAccumulator,
    ToolCallPart,
)
from services.generation.models.usage import usage_from_counts
from services.generation.providers.base import ReportedError
from services.generation.providers.dialects.reply_fields import (
    as_error,
    as_finish_reason,
    as_index,
    as_json_text,
    as_name,
    as_object,
    as_objects,
    as_text,
    as_told_error,
    first_set,
    without_none,
)
from shared.contracts.chat import FinishReason, FunctionCall, ToolCall, Usage

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "insufficient_system_resource": "length",
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "content_filter": "stop",
}
"""The v4 contract has three reasons; any other means `stop`. Mistral's word for a full context window is
`model_length`, DeepSeek's for an answer it broke off `insufficient_system_resource` (their API references, 2026-11);
gateways pass Anthropic's and Google's `max_tokens` on."""
_REFUSAL = "refusal"
_CONTENT_FILTER = "content_filter"
"""Finish reason of an answer that a filter cut off or withheld."""
_ERROR_STATUSES = {
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "context_length_exceeded": 400,
    "content_policy_violation": 400,
    "unsupported_value": 400,
    "authentication_error": 401,
    "authenticationerror": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "permissiondeniederror": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "model_not_found": 404,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "ratelimiterror": 429,
    "resource_exhausted": 429,
    "too_many_requests": 429,
    "api_error": 500,
    "internal_server_error": 500,
    "internalservererror": 500,
    "server_error": 500,
    "engine_overloaded": 503,
    "overloaded": 503,
    "overloaded_error": 503,
    "service_unavailable": 503,
    "service_unavailable_error": 503,
    "unavailable": 503,
    "timeout": 504,
    "timeout_error": 504,
}
"""By code or type, in lower case. OpenAI: https://developers.openai.com/api/docs/guides/error-codes · vLLM has names
of Python's classes, OpenRouter the status as a number (https://openrouter.ai/docs/api-reference/errors), 2026-11"""


def read_response(request: ModelRequest, reply: Any) -> ModelResponse:  # noqa: ANN401, ARG001
    """Parse a response that is not streamed; choices are put in the order of their `index`."""
    choices = _choices(as_object(reply))
    ordered = sorted(choices, key=lambda choice: as_index(choice.get("index"), 0))
    read = [_choice(choice) for choice in ordered if _is_choice(choice)]
    if not read:
        raise ValueError("no choices")
    return ModelResponse(read, reply, read_usage(reply))


def _choices(reply: Json) -> list[Json]:
    """Return the choices; a reply of Ollama's own API is one itself: https://docs.ollama.com/api/chat, 2026-11"""
    message = reply.get("message")
    is_choice = isinstance(message, dict) and "role" in message
    return as_objects(reply.get("choices")) or ([reply] if is_choice else [])


def _is_choice(choice: Json) -> bool:
    return _said(choice, "message", "delta") is not None or "text" in choice


def _choice(choice: Json) -> Choice:
    """Read a sample of a chat or a completion; a server may answer one in the form of the other."""
    reason = _finish_reason(choice) or "stop"
    message = _said(choice, "message", "delta")
    if message is None:
        return Choice(as_text(choice.get("text")), None, reason, _refusal(choice, ""))
    if not isinstance(message, dict):
        return Choice(as_text(message), None, reason, _refusal(choice, ""))
    content, refusal = _content(message), _refusal_text(message)
    text = content if content == refusal else content + refusal
    return Choice(text, _tool_calls(message) or None, reason, _refusal(choice, refusal))


def _finish_reason(choice: Json) -> FinishReason | None:
    return as_finish_reason(choice.get("finish_reason", choice.get("done_reason")), _FINISH_REASONS)


def _said(choice: Json, name: str, other: str) -> Any:  # noqa: ANN401
    """Return the message or its next piece; some servers send one under the name of the other, some send both."""
    return choice.get(other) if choice.get(name) is None else choice[name]


def _content(message: Json) -> str:
    return as_text(message.get("content", message.get("text")))


def _tool_calls(message: Json) -> list[ToolCall]:
    calls = []
    for call in _call_objects(message):
        function = _function(call)
        calls.append(
            ToolCall(
                id=as_name(call.get("id")) or "",
                function=FunctionCall(
                    name=as_name(function.get("name")) or "", arguments=as_json_text(function.get("arguments"))
                ),
            )
        )
    return calls


def _function(call: Json) -> Json:
    """Return name and arguments, which some servers send without the object around them."""
    function = call.get("function")
    return {"name": function} | call if isinstance(function, str) else as_object(function) or call


def _call_objects(message: Json) -> list[Json]:
    """Return `tool_calls`, or the deprecated `function_call` in their form."""
    function = message.get("function_call")
    return as_objects(message.get("tool_calls")) or ([] if function is None else [{"function": function}])


def _refusal_text(message: Json) -> str:
    """Return what a model says instead of an answer; compatible servers send it as a part of the content, too.

    https://developers.openai.com/api/docs/guides/structured-outputs#refusals, 2026-11
    """
    content, refusal = message.get("content"), message.get("refusal")
    parts = content if isinstance(content, list) else []
    told = as_text(refusal) if isinstance(refusal, str | list) else as_text(as_object(refusal).get("text"))
    return told + "".join(as_text(part.get("refusal")) for part in as_objects(parts))


def _refusal(choice: Json, refusal_text: str) -> str | None:
    """Return the word for `Choice.refusal`."""
    if refusal_text:
        return _REFUSAL
    return _CONTENT_FILTER if choice.get("finish_reason") == _CONTENT_FILTER else None


def write_response(request: ModelRequest, accumulator: StreamAccumulator) -> Json:
    """Return the accumulated events in the form of a response that is not streamed."""
    choice = accumulator.choice()
    reason = "tool_calls" if choice.finish_reason == "tool_call" else choice.finish_reason
    written: Json = {"index": 0, "finish_reason": _CONTENT_FILTER if choice.refusal == _CONTENT_FILTER else reason}
    if request.messages is None:
        written["text"] = choice.text
    else:
        calls = [call.model_dump() for call in choice.tool_calls or ()]
        said: Json = {"content": choice.text}
        if choice.refusal == _REFUSAL:
            said = {"content": None, "refusal": choice.text}
        written["message"] = {"role": "assistant"} | said | without_none(tool_calls=calls or None)
    if accumulator.logprobs:
        written["logprobs"] = accumulator.logprobs
    usage = {"usage": accumulator.raw_usage} if accumulator.raw_usage else {}
    return accumulator.response_fields | {"choices": [written]} | usage


# Stream


def read_event(request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401, ARG001
    """Parse one event; the last one has usage and no choices."""
    fields = as_object(event)
    said_in = {"choices", "usage", "object"} if "choices" in fields else {"message", "usage", "object"}
    about = {key: value for key, value in fields.items() if key not in said_in}
    usage, raw_usage = read_usage(event), _usage_object(fields) or None
    choices = _choices(fields)
    if not choices:
        return ResponseDelta(usage=usage, raw_usage=raw_usage, response_fields=about)
    choice = choices[0]
    said = _said(choice, "delta", "message")
    message = said if isinstance(said, dict) else {"content": said}
    refusal = _refusal_text(message)
    logprobs = choice.get("logprobs")
    return ResponseDelta(
        text=(as_text(choice.get("text")) if said is None else _content(message)) + refusal,
        tool_calls=tuple(_tool_call_part(position, part) for position, part in enumerate(_call_objects(message))),
        finish_reason=_finish_reason(choice),
        is_last=fields.get("done") is True,
        refusal=_refusal(choice, refusal),
        usage=usage,
        raw_usage=raw_usage,
        response_fields=about,
        logprobs=logprobs if isinstance(logprobs, dict) else None,
    )


def _tool_call_part(position: int, part: Json) -> ToolCallPart:
    function = _function(part)
    arguments = function.get("arguments")
    text, whole = (arguments, "") if isinstance(arguments, str) else ("", as_json_text(arguments) or "")
    return ToolCallPart(
        index=as_index(part.get("index"), position),
        id=as_name(part.get("id")),
        name=as_name(function.get("name")),
        arguments=text,
        default_arguments=whole,
    )


# Usage and errors


def read_usage(reply: Any) -> Usage | None:  # noqa: ANN401
    """Read `usage`; the cached tokens are among those of the prompt. DeepSeek has a name of its own for them:
    https://api-docs.deepseek.com/guides/kv_cache, 2026-11. Some servers have the names of OpenAI's newer API, some
    both, of which one is null."""
    usage = _usage_object(as_object(reply))
    if not usage:  # as in most events
        return None
    details = as_object(first_set(usage, "prompt_tokens_details", "input_tokens_details"))
    return usage_from_counts(
        [first_set(usage, "prompt_tokens", "input_tokens", "prompt_eval_count")],
        [first_set(usage, "completion_tokens", "output_tokens", "eval_count")],
        total=usage.get("total_tokens"),
        cached=first_set(details | usage, "cached_tokens", "prompt_cache_hit_tokens"),
    )


def _usage_object(reply: Json) -> Json:
    """Return the usage; some servers have that of a stream inside its last choice, Ollama's own API beside the
    message."""
    inner = (as_object(choice.get("usage")) for choice in as_objects(reply.get("choices")))
    counts: Json = {name: reply[name] for name in ("prompt_eval_count", "eval_count") if name in reply}
    return as_object(reply.get("usage")) or next(inner, {}) or counts


def read_error(payload: Any) -> ReportedError | None:  # noqa: ANN401
    """Read `{"error": {"message", "type", "code"}}`, also in a choice; other servers have other forms."""
    fields = as_object(payload)
    told = as_told_error(payload, _ERROR_STATUSES, is_answer="choices" in fields)
    return told or as_error(_choice_error(fields.get("choices")), _ERROR_STATUSES)


def _choice_error(choices: Any) -> Any:  # noqa: ANN401
    """Return the error of a choice, which OpenRouter sends beside the text it had so far.

    https://openrouter.ai/docs/api-reference/errors, 2026-11
    """
    for choice in as_objects(choices):
        error = choice.get("error")
        if as_error(error, {}) or choice.get("finish_reason") == "error":
            return error or "The answer ended in an error that was not explained."
    return None
