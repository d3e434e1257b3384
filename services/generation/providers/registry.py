"""Every provider is a row. A row on a known wire language is all that a new provider needs."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.generation.completion import CompletionRequest, Json
from services.generation.features import Feature
from services.generation.providers import anthropic, aws, bedrock, cohere, frames, gemini, mock, openai
from services.generation.providers.base import Call, Dialect, Frames, Next
from shared.contracts.projects import ModelConfig

Check = Callable[[ModelConfig], None]
Quirk = Callable[[Json], Json]
Settings = Mapping[str, str]
"""Environment variables, and the keys of a call by the names of `provider_api_keys`."""


@dataclass(frozen=True)
class Row:
    """What we know of one provider."""

    name: str
    title: str
    dialect: Dialect
    base_url: str
    base_url_variable: str | None = None
    """Environment variable that replaces `base_url`: a proxy, or another server of the same language."""
    key_variable: str | None = None
    """Environment variable of the installation's own key. None: this provider knows no keys."""
    key_optional: bool = False
    """Whether it may be called without a key (a server of one's own)."""
    find_key: Callable[[Settings], str | None] | None = None
    """Instead of reading `key_variable` alone, when the installation's own key has several parts."""
    find_address: Callable[[Settings, Settings], str | None] | None = None
    """Base address from the environment and the keys, when it is not one for all; None: it is not known."""
    url: Callable[[str, CompletionRequest], str] | None = None
    """Instead of the dialect's, when the same language is spoken at other paths."""
    headers: Callable[[str | None], dict[str, str]] | None = None
    """Instead of the dialect's, when the key is shown another way."""
    several: bool = False
    """Whether one request may ask for several samples; else each sample is a request."""
    chat_models: re.Pattern[str] | None = None
    """Models that only chat: a completion goes to them as one user message."""
    lacks: frozenset[Feature] = frozenset()
    """What none of its models can do through this language."""
    inline_images: bool = False
    """Whether it takes images as data only: those named by address are fetched first."""
    frames: Frames = frames.data
    sign: Callable[[Call], dict[str, str]] | None = None
    follow: Callable[[Call, Json], Next | None] | None = None
    quirk: Quirk | None = None
    """Last change to what is sent."""
    check: Check | None = None
    """Refuses configs that could not work, before anything is sent."""


_OPENAI_CHAT = re.compile(r"(ft:)?(gpt-(?!3\.5-turbo-instruct)[345]|chatgpt-|o\d)")
_OPENAI_REASONING = re.compile(r"(ft:)?(o\d|gpt-5)")


def _output_budget(sent: Json) -> Json:
    """Reasoning models know `max_completion_tokens` only.

    https://platform.openai.com/docs/api-reference/chat/create#chat-create-max_tokens, 2025-10
    """
    if "max_tokens" not in sent or not _OPENAI_REASONING.match(sent["model"]):
        return sent
    rest = {key: value for key, value in sent.items() if key != "max_tokens"}
    return {"max_completion_tokens": sent["max_tokens"]} | rest


ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row(
            name="openai",
            title="OpenAI",
            dialect=openai,
            base_url="https://api.openai.com/v1",
            base_url_variable="OPENAI_BASE_URL",
            key_variable="OPENAI_API_KEY",
            several=True,
            chat_models=_OPENAI_CHAT,
            quirk=_output_budget,
        ),
        # `n` must be 1: https://console.groq.com/docs/api-reference#chat-create, 2025-10
        Row(
            name="groq",
            title="Groq",
            dialect=openai,
            base_url="https://api.groq.com/openai/v1",
            base_url_variable="GROQ_BASE_URL",
            key_variable="GROQ_API_KEY",
            chat_models=re.compile(""),
        ),
        Row(
            name="anthropic",
            title="Anthropic",
            dialect=anthropic,
            base_url="https://api.anthropic.com/v1",
            base_url_variable="ANTHROPIC_BASE_URL",
            key_variable="ANTHROPIC_API_KEY",
            chat_models=re.compile(""),
            lacks=frozenset({"images in the system message", "JSON mode", "seed", "logprobs", "suffix", "penalties"}),
        ),
        Row(
            name="bedrock",
            title="AWS Bedrock",
            dialect=bedrock,
            base_url="https://bedrock-runtime.us-east-1.amazonaws.com",
            base_url_variable="BEDROCK_BASE_URL",
            key_variable="AWS_BEARER_TOKEN_BEDROCK",
            find_key=aws.find_key,
            find_address=aws.find_address,
            chat_models=re.compile(""),
            lacks=frozenset({"images in the system message", "JSON mode", "seed", "logprobs", "suffix", "penalties"}),
            inline_images=True,
            frames=aws.frames,
            sign=aws.sign,
        ),
        # Images by address need their MIME type, which no address tells, and not every model takes them:
        # https://ai.google.dev/gemini-api/docs/file-input-methods, 2026-11
        Row(
            name="google",
            title="Google",
            dialect=gemini,
            base_url="https://generativelanguage.googleapis.com/v1beta",
            base_url_variable="GEMINI_BASE_URL",
            key_variable="GEMINI_API_KEY",
            find_key=lambda environment: environment.get("GEMINI_API_KEY") or environment.get("GOOGLE_API_KEY"),
            chat_models=re.compile(""),
            lacks=frozenset({"images in the system message"}),
            inline_images=True,
        ),
        # It tells log probabilities of what was written only, never of the likeliest n.
        Row(
            name="cohere",
            title="Cohere",
            dialect=cohere,
            base_url="https://api.cohere.com/v2",
            base_url_variable="COHERE_BASE_URL",
            key_variable="COHERE_API_KEY",
            find_key=lambda environment: environment.get("COHERE_API_KEY") or environment.get("CO_API_KEY"),
            chat_models=re.compile(""),
            lacks=frozenset({"images in the system message", "logprobs"}),
        ),
        Row(name="mock", title="Mock", dialect=openai, base_url=mock.BASE_URL, several=True, check=mock.check),
    )
}
IN_PROCESS = {mock.BASE_URL: mock.answer}
"""Providers that need no network, by address."""
