"""Writes requests in the wire language of Gemini."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from urllib.parse import quote

from services.generation.models.request import SIGNATURE_MARK, Json, ModelRequest, get_inline_tools, get_tool_calls
from services.generation.providers.dialects.alternating_messages import response_schema, tool_arguments
from services.generation.providers.dialects.reply_fields import without_none
from services.generation.providers.transport.bounded_json import read_json
from shared.contracts.chat import ChatMessage, Image, Part, ToolCall
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

_RESERVED_FIELDS = frozenset({"contents", "systemInstruction", "generationConfig"})
"""Fields that `other` cannot replace as a whole: the log would not show what was sent."""

_SKIP_SIGNATURE = "skip_thought_signature_validator"
"""Signature of calls that no Gemini 3 made: https://ai.google.dev/gemini-api/docs/thought-signatures#faqs, 2026-11"""
_MODELS_WITHOUT_SIGNATURES = re.compile(r"(models/)?(gemini-[12]\b|gemma|learnlm)")
_DATA_URL = re.compile(r"data:(?P<type>[^;,]+)(?:;[^;,]+)*;base64,", re.IGNORECASE)
_MODES = {"none": "NONE", "auto": "AUTO", "required": "ANY"}


_MODEL = re.compile(r"((models|tunedModels)/)?(?!\.+$)[\w.-]+", re.ASCII)


def check(config: ModelConfig) -> None:
    """Raises Invalid if the model would lead elsewhere than to a model: its name is in the path of the request."""
    if not _MODEL.fullmatch(config.model):
        raise Invalid(
            f"{config.model!r} is not a model of Google: model must be its name, made of letters, digits, '-', '_' and "
            "'.', or 'models/' or 'tunedModels/' and its name."
        )


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
    said = (part for message in messages if message.role == "system" for part in _parts(message))
    system = [part for part in said if part != {"text": ""}]  # refused in an instruction
    tools = [
        without_none(name=tool.name, description=tool.description, parametersJsonSchema=tool.parameters)
        for tool in get_inline_tools(config)
    ]
    sent |= without_none(
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
    sent = without_none(
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
        call_id, _, signature = call.id.partition(SIGNATURE_MARK)
        if not signature and index == 0 and not _MODELS_WITHOUT_SIGNATURES.match(model):
            signature = _SKIP_SIGNATURE
        function = {"id": call_id, "name": call.function.name, "args": tool_arguments(call)}
        yield {"functionCall": function} | ({"thoughtSignature": signature} if signature else {})


def _function_response(message: ChatMessage, function_names: dict[str, str]) -> Json:
    signed_id = message.tool_call_id or ""
    call_id = signed_id.partition(SIGNATURE_MARK)[0]
    if signed_id not in function_names:
        raise Invalid(
            f"tool_call_id {call_id!r} is the id of no call in the messages before: Google needs the function."
        )
    parts = _parts(message)
    text = "".join(part.get("text", "") for part in parts)
    images = [part for part in parts if "inlineData" in part]
    response = without_none(
        id=call_id, name=function_names[signed_id], response=_function_output(text), parts=images or None
    )
    return {"functionResponse": response}


def _function_output(text: str) -> Json:
    """Return the text parsed if it is a JSON object; else under `output`, where Google looks for other results."""
    read = read_object(text)
    return {"output": text} if read is None else read


def read_object(text: str) -> Json | None:
    """Return a JSON object that is written as text; None if the text is something else."""
    try:
        read = read_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    return read if isinstance(read, dict) else None
