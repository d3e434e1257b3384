"""Every provider is a row. A row on a known wire language is all that a new provider needs."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from services.generation.models.features import Feature
from services.generation.models.request import Json, ModelRequest
from services.generation.providers.base import Dialect, Framing, Next, PreparedRequest
from services.generation.providers.dialects import (
    anthropic,
    aws,
    azure,
    bedrock,
    cohere,
    gemini,
    mock,
    openai,
    quirks,
    replicate,
)
from services.generation.providers.transport import stream_framing
from services.generation.settings import CompatibleProvider
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
    more_variables: tuple[str, ...] = ()
    """Environment variables that `find_key` and `find_address` read beside the two above."""
    url: Callable[[str, ModelRequest], str] | None = None
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
    framing: Framing = stream_framing.data
    sign: Callable[[PreparedRequest], dict[str, str]] | None = None
    follow: Callable[[PreparedRequest, Json], Next | None] | None = None
    quirk: Quirk | None = None
    """Last change to what is sent."""
    check: Check | None = None
    """Refuses configs that could not work, before anything is sent."""


_ANY = re.compile("")
_OPENAI_CHAT = re.compile(r"(ft:)?(gpt-(?!3\.5-turbo-instruct)|chatgpt-|o\d)")
_AZURE_CHAT = re.compile(r"(?!.*(instruct|davinci|babbage))")
"""Deployments have any name; those of the few completion models are taken to tell."""
_SYSTEM_TEXT: frozenset[Feature] = frozenset({"images in the system message"})

ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        # https://developers.openai.com/api/docs/api-reference/chat/create, 2026-11
        Row(
            name="openai",
            title="OpenAI",
            dialect=openai,
            base_url="https://api.openai.com/v1",
            base_url_variable="OPENAI_BASE_URL",
            key_variable="OPENAI_API_KEY",
            several=True,
            chat_models=_OPENAI_CHAT,
            lacks=_SYSTEM_TEXT,
            quirk=quirks.reasoning,
        ),
        # https://learn.microsoft.com/azure/ai-foundry/openai/reference, 2026-11
        Row(
            name="openai_azure",
            title="Azure OpenAI",
            dialect=openai,
            base_url=azure.UNKNOWN,
            base_url_variable=azure.ENDPOINT_VARIABLE,
            key_variable="AZURE_OPENAI_API_KEY",
            find_address=azure.find_address,
            more_variables=(azure.VERSION_VARIABLE, azure.HOSTS_VARIABLE),
            url=azure.url,
            headers=azure.headers,
            several=True,
            chat_models=_AZURE_CHAT,
            lacks=_SYSTEM_TEXT,
            quirk=quirks.reasoning,
            check=azure.check,
        ),
        # https://console.groq.com/docs/openai (`n` must be 1), https://console.groq.com/docs/api-reference, 2026-11
        Row(
            name="groq",
            title="Groq",
            dialect=openai,
            base_url="https://api.groq.com/openai/v1",
            base_url_variable="GROQ_BASE_URL",
            key_variable="GROQ_API_KEY",
            chat_models=_ANY,
            lacks=frozenset({"logprobs", "penalties"}),
            quirk=quirks.unpenalised,
        ),
        # https://docs.mistral.ai/api/endpoint/chat, 2026-11
        Row(
            name="mistral",
            title="Mistral",
            dialect=openai,
            base_url="https://api.mistral.ai/v1",
            base_url_variable="MISTRAL_BASE_URL",
            key_variable="MISTRAL_API_KEY",
            several=True,
            chat_models=_ANY,
            quirk=quirks.mistral,
        ),
        # https://api-docs.deepseek.com/api/create-chat-completion, 2026-11
        Row(
            name="deepseek",
            title="DeepSeek",
            dialect=openai,
            base_url="https://api.deepseek.com",
            base_url_variable="DEEPSEEK_BASE_URL",
            key_variable="DEEPSEEK_API_KEY",
            chat_models=_ANY,
            lacks=frozenset({"images", "JSON schemas", "seed"}),
        ),
        # https://docs.together.ai/reference/chat-completions-1, 2026-11
        Row(
            name="together",
            title="Together",
            dialect=openai,
            base_url="https://api.together.xyz/v1",
            base_url_variable="TOGETHER_BASE_URL",
            key_variable="TOGETHER_API_KEY",
            several=True,
            lacks=frozenset({"suffix"}),
            quirk=quirks.together,
        ),
        # https://openrouter.ai/docs/api/reference/overview, 2026-11
        Row(
            name="openrouter",
            title="OpenRouter",
            dialect=openai,
            base_url="https://openrouter.ai/api/v1",
            base_url_variable="OPENROUTER_BASE_URL",
            key_variable="OPENROUTER_API_KEY",
            lacks=frozenset({"suffix"}),
        ),
        # https://docs.fireworks.ai/api-reference/post-chatcompletions, 2026-11
        Row(
            name="fireworks",
            title="Fireworks",
            dialect=openai,
            base_url="https://api.fireworks.ai/inference/v1",
            base_url_variable="FIREWORKS_BASE_URL",
            key_variable="FIREWORKS_API_KEY",
            several=True,
            lacks=frozenset({"suffix"}),
        ),
        # https://docs.x.ai/docs/api-reference#chat-completions, 2026-11
        Row(
            name="xai",
            title="xAI",
            dialect=openai,
            base_url="https://api.x.ai/v1",
            base_url_variable="XAI_BASE_URL",
            key_variable="XAI_API_KEY",
            several=True,
            chat_models=_ANY,
            quirk=quirks.unpenalised,
        ),
        # https://docs.perplexity.ai/api-reference/sonar-post, 2026-11
        Row(
            name="perplexity",
            title="Perplexity",
            dialect=openai,
            base_url="https://api.perplexity.ai",
            base_url_variable="PERPLEXITY_BASE_URL",
            key_variable="PERPLEXITY_API_KEY",
            chat_models=_ANY,
            lacks=frozenset({"JSON mode", "seed"}),
            quirk=quirks.perplexity,
        ),
        # https://inference-docs.cerebras.ai/api-reference/chat-completions, 2026-11
        Row(
            name="cerebras",
            title="Cerebras",
            dialect=openai,
            base_url="https://api.cerebras.ai/v1",
            base_url_variable="CEREBRAS_BASE_URL",
            key_variable="CEREBRAS_API_KEY",
            chat_models=_ANY,
            quirk=quirks.unpenalised,
        ),
        # https://docs.ollama.com/api/openai-compatibility, 2026-11
        Row(
            name="ollama",
            title="Ollama",
            dialect=openai,
            base_url="http://127.0.0.1:11434/v1",
            base_url_variable="OLLAMA_BASE_URL",
            key_variable="OLLAMA_API_KEY",
            key_optional=True,
            lacks=frozenset({"forced tools"}),
            inline_images=True,
        ),
        # https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html, 2026-11
        Row(
            name="vllm",
            title="vLLM",
            dialect=openai,
            base_url="http://127.0.0.1:8000/v1",
            base_url_variable="VLLM_BASE_URL",
            key_variable="VLLM_API_KEY",
            key_optional=True,
            several=True,
            lacks=frozenset({"suffix"}),
        ),
        # https://lmstudio.ai/docs/developer/openai-compat/chat-completions, 2026-11
        Row(
            name="lmstudio",
            title="LM Studio",
            dialect=openai,
            base_url="http://127.0.0.1:1234/v1",
            base_url_variable="LMSTUDIO_BASE_URL",
            key_variable="LMSTUDIO_API_KEY",
            key_optional=True,
            lacks=frozenset({"JSON mode", "logprobs", "suffix"}),
            inline_images=True,
        ),
        # https://replicate.com/docs/reference/http, 2026-11
        Row(
            name="replicate",
            title="Replicate",
            dialect=replicate,
            base_url="https://api.replicate.com/v1",
            base_url_variable="REPLICATE_BASE_URL",
            key_variable="REPLICATE_API_TOKEN",
            lacks=frozenset(get_args(Feature)) - {"seed", "stop sequences"},
            framing=replicate.frames,
            sign=replicate.prefer,
            follow=replicate.follow,
            check=replicate.check,
        ),
        Row(
            name="anthropic",
            title="Anthropic",
            dialect=anthropic,
            base_url="https://api.anthropic.com/v1",
            base_url_variable="ANTHROPIC_BASE_URL",
            key_variable="ANTHROPIC_API_KEY",
            chat_models=_ANY,
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
            more_variables=aws.VARIABLES,
            chat_models=_ANY,
            lacks=frozenset({"images in the system message", "JSON mode", "seed", "logprobs", "suffix", "penalties"}),
            inline_images=True,
            framing=aws.frames,
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
            more_variables=("GOOGLE_API_KEY",),
            chat_models=_ANY,
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
            more_variables=("CO_API_KEY",),
            chat_models=_ANY,
            lacks=frozenset({"images in the system message", "logprobs"}),
        ),
        Row(name="mock", title="Mock", dialect=openai, base_url=mock.BASE_URL, several=True, check=mock.check),
    )
}


def environment_variables(rows: Iterable[Row]) -> frozenset[str]:
    """Every environment variable the rows read."""
    found = {name for row in rows for name in (row.base_url_variable, row.key_variable, *row.more_variables) if name}
    return frozenset(found)


def compatible(providers: Mapping[str, CompatibleProvider]) -> dict[str, Row]:
    """Rows for servers that only this installation knows. Errors: ValueError (name taken, unknown feature)."""
    rows = {}
    for name, given in providers.items():
        unknown = given.lacks.difference(get_args(Feature))
        if name in ROWS:
            raise ValueError(f"EVERLOOP_COMPATIBLE_PROVIDERS: {name!r} is a provider already; choose another name.")
        if unknown:
            raise ValueError(
                f"EVERLOOP_COMPATIBLE_PROVIDERS: {name!r} cannot lack {min(unknown)!r}; what can be lacking is "
                f"{', '.join(get_args(Feature))}."
            )
        rows[name] = Row(
            name=name,
            title=given.title or name,
            dialect=openai,
            base_url=given.base_url,
            key_variable=given.key_variable,
            lacks=frozenset(feature for feature in get_args(Feature) if feature in given.lacks),
        )
    return rows


IN_PROCESS = {mock.BASE_URL: mock.answer}
"""Providers that need no network, by address."""
