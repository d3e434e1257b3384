"""The wire language of OpenAI and of everything that speaks it.

Chat: https://platform.openai.com/docs/api-reference/chat · completions: …/completions · streams: …/chat-streaming
"""

from typing import Any

from services.generation.models.request import (
    Choice,
    Json,
    ModelRequest,
    ModelResponse,
    ResponseDelta,
    StreamAccumulator,
    ToolCallPart,
    usage_from_counts,
)
from shared.contracts.chat import ChatMessage, FinishReason, FunctionCall, InlineTool, ToolCall, Usage

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "content_filter": "stop",
}
"""The v4 contract has three reasons; any other means `stop`."""
_RESERVED_FIELDS = frozenset({"model", "messages", "prompt", "n", "stream", "stream_options"})
"""Fields that `other` cannot override: the response could not be read any more."""


def _finish_reason(reason: str | None) -> FinishReason | None:
    return _FINISH_REASONS.get(reason, "stop") if reason else None


# Request


def url(base_url: str, request: ModelRequest) -> str:
    """Return the URL of the chat or of the completions endpoint."""
    return f"{base_url}/chat/completions" if request.messages is not None else f"{base_url}/completions"


def headers(key: str | None) -> dict[str, str]:
    """Return the bearer token, if there is a key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def body(request: ModelRequest) -> Json:
    """Return the body: sampling parameters always, other fields only if they are set."""
    config = request.config
    sent: Json = {"model": config.model}
    if request.messages is not None:
        sent["messages"] = [_message(message) for message in request.messages]
        sent |= _chat_fields(request)
    else:
        sent |= _without_none(prompt=request.prompt, logprobs=request.logprobs, suffix=request.suffix)
    sent |= {
        "n": request.samples,
        "stream": request.stream,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "presence_penalty": config.presence_penalty,
        "frequency_penalty": config.frequency_penalty,
    }
    if request.stream:
        sent["stream_options"] = {"include_usage": True}
    sent |= _without_none(
        max_tokens=_budget(request),
        stop=config.stop,
        seed=request.seed,
        user=request.user,
    )
    return sent | {key: value for key, value in config.other.items() if key not in _RESERVED_FIELDS}


def _budget(request: ModelRequest) -> int | None:
    """Return `max_tokens`: chat goes on to the end of the context window by default, completions stop after 16 tokens.

    https://platform.openai.com/docs/api-reference/completions/create#completions-create-max_tokens, 2025-10
    """
    if request.messages is not None and request.config.max_tokens == -1:
        return None
    return request.max_output_tokens


def _without_none(**fields: Any) -> Json:  # noqa: ANN401
    return {key: value for key, value in fields.items() if value is not None}


def _chat_fields(request: ModelRequest) -> Json:
    response_format = request.response_format
    choice = request.tool_choice
    # A link to the organisation's tool was replaced by the tool before the request came here.
    tools = [_tool(tool) for tool in request.config.tools or () if isinstance(tool, InlineTool)]
    chosen = choice if choice is None or isinstance(choice, str) else choice.model_dump()
    sent = _without_none(
        response_format=response_format and response_format.model_dump(exclude_none=True),
        tools=tools or None,
        tool_choice=(chosen or "auto") if tools else None,  # refused without tools, even if it is `none`
    )
    if request.logprobs is not None:
        sent |= {"logprobs": True, "top_logprobs": request.logprobs}
    return sent


def _message(message: ChatMessage) -> Json:
    """Return the message without unset fields: OpenAI refuses an empty list; `tool_call` repeats `tool_calls[0]`."""
    sent = message.model_dump(exclude_none=True)
    if message.tool_calls is not None:
        sent.pop("tool_call" if message.tool_calls else "tool_calls", None)
    if "tool_call" in sent:  # OpenAI's own deprecated form has another name
        sent["function_call"] = {"arguments": ""} | sent.pop("tool_call")
    return sent


def _tool(tool: InlineTool) -> Json:
    function = _without_none(
        name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
    )
    return {"type": "function", "function": function}


# Reply


def read_response(request: ModelRequest, reply: Any) -> ModelResponse:  # noqa: ANN401
    """Parse a response that is not streamed; choices are put in the order of their `index`."""
    choices = sorted(reply["choices"], key=lambda choice: choice.get("index") or 0)
    return ModelResponse(
        [_choice(choice, chat=request.messages is not None) for choice in choices], reply, _usage(reply)
    )


def _choice(choice: Json, *, chat: bool) -> Choice:
    reason = _finish_reason(choice.get("finish_reason")) or "stop"
    if not chat:
        return Choice(choice["text"] or "", None, reason)
    message = choice["message"]
    calls = [
        ToolCall(
            id=call.get("id") or f"call_{index}",
            function=FunctionCall(name=call["function"]["name"], arguments=call["function"].get("arguments")),
        )
        for index, call in enumerate(message.get("tool_calls") or ())
    ]
    return Choice(_text(message.get("content")), calls or None, reason)


def _text(content: str | list[Json] | None) -> str:
    """Return the text; reasoning models of compatible servers answer in parts, of which thoughts are left out.

    https://docs.mistral.ai/capabilities/reasoning, 2026-11
    """
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    return content or ""


def write_response(request: ModelRequest, accumulator: StreamAccumulator) -> Json:
    """Return the accumulated events in the form of a response that is not streamed."""
    choice = accumulator.choice()
    reasons = {"tool_call": "tool_calls"}
    written: Json = {
        "index": 0,
        "finish_reason": choice.finish_reason and reasons.get(choice.finish_reason, choice.finish_reason),
    }
    if request.messages is None:
        written["text"] = choice.text
    else:
        calls = [call.model_dump() for call in choice.tool_calls or ()]
        written["message"] = {"role": "assistant", "content": choice.text} | _without_none(tool_calls=calls or None)
    if accumulator.logprobs:
        written["logprobs"] = accumulator.logprobs
    reply: Json = accumulator.response_fields | {"choices": [written]}
    if accumulator.usage:
        reply["usage"] = {
            "prompt_tokens": accumulator.usage.prompt_tokens,
            "completion_tokens": accumulator.usage.generation_tokens,
            "total_tokens": accumulator.usage.total_tokens,
        }
    return reply


# Stream


def read_event(request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401
    """Parse one event; the last one has usage and no choices."""
    about = {key: value for key, value in event.items() if key not in {"choices", "usage", "object"}}
    choices = event.get("choices")
    if not choices:
        return ResponseDelta(usage=_usage(event), response_fields=about)
    choice = choices[0]
    delta = choice.get("delta") or {}
    text = delta.get("content") if request.messages is not None else choice.get("text")
    return ResponseDelta(
        text=_text(text),
        tool_calls=tuple(_tool_call_part(index, part) for index, part in enumerate(delta.get("tool_calls") or ())),
        finish_reason=_finish_reason(choice.get("finish_reason")),
        usage=_usage(event),
        response_fields=about,
        logprobs=choice.get("logprobs") if isinstance(choice.get("logprobs"), dict) else None,
    )


def _tool_call_part(position: int, part: Json) -> ToolCallPart:
    function = part.get("function") or {}
    return ToolCallPart(
        index=part.get("index", position),
        id=part.get("id"),
        name=function.get("name"),
        arguments=function.get("arguments") or "",
    )


# Usage and errors


def _usage(reply: Json) -> Usage | None:
    usage = reply.get("usage")
    if not isinstance(usage, dict) or not usage:
        return None
    return usage_from_counts([usage.get("prompt_tokens")], [usage.get("completion_tokens")])


def error_detail(payload: Any) -> str | None:  # noqa: ANN401
    """Read `{"error": {"message": …}}`; compatible servers also write `{"error": "…"}` and `{"message": "…"}`."""
    if not isinstance(payload, dict):
        return None
    if "choices" in payload:
        error = payload.get("error") or _choice_error(payload["choices"])
    else:
        error = payload.get("error") or payload.get("detail") or payload
    message = error.get("message") if isinstance(error, dict) else error
    return str(message) if message else None


def _choice_error(choices: Any) -> Any:  # noqa: ANN401
    """Return the error of a choice, which OpenRouter sends beside the text it had so far.

    https://openrouter.ai/docs/api-reference/errors, 2026-11
    """
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and (choice.get("error") or choice.get("finish_reason") == "error"):
            return choice.get("error") or "The answer ended in an error that was not explained."
    return None
