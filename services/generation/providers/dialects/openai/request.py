"""Writes requests in the wire language of OpenAI."""

from services.generation.models.request import Json, ModelRequest
from services.generation.providers.dialects.reply_fields import without_none
from shared.contracts.chat import ChatMessage, InlineTool

_RESERVED_FIELDS = frozenset({"model", "messages", "prompt", "n", "stream", "stream_options"})
"""Fields that `other` cannot override: the response could not be read any more."""


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
        sent |= without_none(prompt=request.prompt, logprobs=request.logprobs, suffix=request.suffix)
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
    sent |= without_none(
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


def _chat_fields(request: ModelRequest) -> Json:
    response_format = request.response_format
    choice = request.tool_choice
    # A link to the organisation's tool was replaced by the tool before the request came here.
    tools = [_tool(tool) for tool in request.config.tools or () if isinstance(tool, InlineTool)]
    chosen = choice if choice is None or isinstance(choice, str) else choice.model_dump()
    sent = without_none(
        response_format=response_format and response_format.model_dump(exclude_none=True),
        tools=tools or None,
        tool_choice=(chosen or "auto") if tools else None,  # refused without tools, even if it is `none`
    )
    if request.logprobs is not None:
        sent |= {"logprobs": True, "top_logprobs": request.logprobs}
    return sent


def _message(message: ChatMessage) -> Json:
    """Return the message without unset fields: OpenAI refuses an empty list; `tool_call` repeats `tool_calls[0]`.

    Calls always have arguments: a call without them is refused, also one that a model made so. So is a message without
    content, unless it has calls.
    """
    sent = message.model_dump(exclude_none=True)
    if not (message.content or message.tool_calls or message.tool_call):
        sent["content"] = ""
    for call in sent.get("tool_calls") or ():
        call["function"]["arguments"] = call["function"].get("arguments") or "{}"
    if message.tool_calls is not None:
        sent.pop("tool_call" if message.tool_calls else "tool_calls", None)
    if "tool_call" in sent:  # OpenAI's own deprecated form has another name
        sent["function_call"] = {"arguments": ""} | sent.pop("tool_call")
    return sent


def _tool(tool: InlineTool) -> Json:
    function = without_none(
        name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
    )
    return {"type": "function", "function": function}
