"""The features a request uses: what a model does not support is refused before anything is sent, never dropped."""

from typing import Literal

from services.generation.models.request import ModelRequest
from shared.contracts.chat import ChatMessage, FunctionChoice, Image
from shared.errors import Invalid

Feature = Literal[
    "tools", "forced tools", "images", "images in the system message", "JSON mode", "JSON schemas", "seed", "logprobs",
    "suffix", "penalties", "stop sequences",
]  # fmt: skip

_REMEDIES: dict[Feature, str] = {  # ends the sentence of the error
    "tools": "remove tools from the config, and what was called from the messages",
    "forced tools": "set tool_choice to 'auto' or 'none', or leave it out",
    "images": "send text only",
    "images in the system message": "put the image into a user message",
    "JSON mode": "remove response_format",
    "JSON schemas": "remove response_format or use {'type': 'json_object'}",
    "seed": "remove seed",
    "logprobs": "remove logprobs",
    "suffix": "remove suffix",
    "penalties": "leave presence_penalty and frequency_penalty at 0",
    "stop sequences": "remove stop",
}
_CHAT_ONLY: frozenset[Feature] = frozenset({"tools", "JSON mode", "JSON schemas"})
"""Features of chats alone: the APIs for completions have no such fields."""
_IMAGE_SCHEMES = ("https://", "http://", "data:")
"""How an image's address begins, in upper or lower case."""


def required_features(request: ModelRequest) -> list[Feature]:
    """Return the features this request uses, in the order of `Feature`."""
    config = request.config
    response_format = request.response_format.type if request.response_format else None
    forced = request.tool_choice == "required" or isinstance(request.tool_choice, FunctionChoice)
    messages = request.messages or []
    uses: dict[Feature, bool] = {
        "tools": bool(config.tools) or any(map(_has_calls, messages)),
        "forced tools": bool(config.tools) and forced,
        "images": any(map(_has_image, messages)),
        "images in the system message": any(_has_image(message) for message in messages if message.role == "system"),
        "JSON mode": response_format == "json_object",
        "JSON schemas": response_format == "json_schema",
        "seed": request.seed is not None,
        "logprobs": request.logprobs is not None,
        "suffix": request.suffix is not None,
        "penalties": config.presence_penalty != 0 or config.frequency_penalty != 0,
        "stop sequences": bool(config.stop),
    }
    return [feature for feature, used in uses.items() if used]


def _has_calls(message: ChatMessage) -> bool:
    return message.role == "tool" or bool(message.tool_calls) or message.tool_call is not None


def _has_image(message: ChatMessage) -> bool:
    return isinstance(message.content, list) and any(isinstance(part, Image) for part in message.content)


def validate_request(request: ModelRequest) -> None:
    """Raise Invalid, naming the field, for what no provider could answer.

    That is an image without a usable address, a tool_choice that the config's tools do not have, a response_format
    without its schema, a completion with features of chats.
    """
    for message in request.messages or ():
        for part in message.content if isinstance(message.content, list) else ():
            if isinstance(part, Image) and not part.image_url.url[:8].lower().startswith(_IMAGE_SCHEMES):
                raise Invalid(
                    "messages: image_url.url must be an address (https://… or http://…) or data "
                    f"(data:image/…;base64,…); {part.image_url.url[:80]!r} is neither."
                )
    names = [tool.name for tool in request.config.tools or ()]
    choice = request.tool_choice
    if choice == "required" and not names:
        raise Invalid("tool_choice is 'required', but the config has no tools: add tools, or leave tool_choice out.")
    if isinstance(choice, FunctionChoice) and choice.function.name not in names:
        raise Invalid(
            f"tool_choice names {choice.function.name!r}, which is none of the config's tools: "
            f"{', '.join(map(str, names)) or 'it has none'}."
        )
    if (
        request.response_format
        and request.response_format.type == "json_schema"
        and not request.response_format.json_schema
    ):
        raise Invalid("response_format: type 'json_schema' needs json_schema, as {'name': …, 'schema': {…}}.")
    if request.prompt is not None:
        check_features(request, _CHAT_ONLY, "A completion")


def check_features(request: ModelRequest, lacking: frozenset[Feature], subject: str) -> None:
    """Raise Invalid if the request uses a feature that `subject` (a model or a provider, named in the error) lacks."""
    for feature in required_features(request):
        if feature in lacking:
            raise Invalid(f"{subject} cannot do {feature}: {_REMEDIES[feature]}, or choose another model.")
