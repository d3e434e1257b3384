"""Where a server's OpenAI language differs from OpenAI's own: functions from a request body to the one that is sent.

Looked up 2026-11 in the vendors' references and in the request types of their own client libraries.
"""

import re

from services.generation.models.request import Json

_DEFAULTS: Json = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
_PENALTIES = ("presence_penalty", "frequency_penalty")
_REASONING_MODELS = re.compile(r"(?:^|[-_.:/])(?:o\d|gpt-?[5-9])")
"""Also at the end of a longer name: fine-tuned models, and deployments named after their model."""


def _without(sent: Json, *fields: str) -> Json:
    return {field: value for field, value in sent.items() if field not in fields}


def _without_defaults(sent: Json, *fields: str) -> Json:
    return {field: value for field, value in sent.items() if field not in fields or value != _DEFAULTS[field]}


def reasoning_models(sent: Json) -> Json:
    """OpenAI's reasoning models refuse sampling parameters, and know `max_completion_tokens` only. Defaults are left
    out; other values are sent: some models accept them when told not to reason, the others answer with an error.

    They read a system message as a developer message by themselves.
    https://developers.openai.com/api/docs/guides/reasoning · …/api-reference/chat/create
    """
    if "messages" not in sent or not _REASONING_MODELS.search(sent["model"]):
        return sent
    rest = _without_defaults(sent, *_DEFAULTS)
    return rest if "max_tokens" not in rest else {"max_completion_tokens": rest.pop("max_tokens")} | rest


def without_zero_penalties(sent: Json) -> Json:
    """Leave out penalties of 0: some servers, or some of their models, refuse the fields whatever their value."""
    return _without_defaults(sent, *_PENALTIES)


def mistral(sent: Json) -> Json:
    """Mistral refuses unknown fields, and sends the usage of every stream. https://docs.mistral.ai/api/endpoint/chat"""
    rest = _without(sent, "user", "stream_options", "seed")
    if "seed" in sent:
        rest["random_seed"] = sent["seed"]
    if sent.get("tool_choice") == "required":
        rest["tool_choice"] = "any"
    return rest


def together(sent: Json) -> Json:
    """Together's `logprobs` is the number of them. https://docs.together.ai/reference/chat-completions-1"""
    if "top_logprobs" not in sent:
        return sent
    return _without(sent, "top_logprobs") | {"logprobs": sent["top_logprobs"]}


def perplexity(sent: Json) -> Json:
    """Perplexity has no field for the user, and sends the usage of every stream. https://docs.perplexity.ai/api-reference/sonar-post"""
    return _without(without_zero_penalties(sent), "user", "stream_options")
