"""The providers that can be called, a `ProviderSpec` each: all that a new one with a known wire language needs."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from services.generation.models.features import Feature
from services.generation.models.request import Json, ModelRequest
from services.generation.providers.base import Dialect, FollowUp, Framing, PreparedRequest
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
from services.generation.providers.tool_identifiers import ANY_IDENTIFIERS, IdentifierRules
from services.generation.providers.transport import stream_framing
from services.generation.settings import CompatibleProvider
from shared.contracts.generation.projects import ModelConfig

CheckConfig = Callable[[ModelConfig], None]
"""Raises Invalid for a config that could not work."""
Quirk = Callable[[Json], Json]
"""Returns a changed request body (`dialects/quirks.py`)."""
Variables = Mapping[str, str]
"""Values by name: of the environment, or of `provider_api_keys`."""


@dataclass(frozen=True)
class ProviderSpec:
    """How one provider is called."""

    name: str
    title: str
    dialect: Dialect
    base_url: str
    base_url_variable: str | None = None
    """Environment variable that overrides `base_url`: a proxy, or another server of the same language."""
    key_variable: str | None = None
    """Environment variable of the installation's own key. None: the provider takes no key."""
    is_local: bool = False
    """Whether `base_url` is an address of this machine, where something else may listen: the provider is called only if
    `base_url_variable` is set, which `everloop up` does where only this machine can call it."""
    key_optional: bool = False
    """Whether it may be called without a key (self-hosted servers)."""
    find_key: Callable[[Variables], str | None] | None = None
    """Instead of reading `key_variable` alone, if the installation's own key has several parts."""
    find_base_url: Callable[[Variables, Variables], str | None] | None = None
    """Returns the base URL from the environment and the keys, if it is not a constant; None if it is not known."""
    more_variables: tuple[str, ...] = ()
    """Environment variables that `find_key` and `find_base_url` read beside the two above."""
    url: Callable[[str, ModelRequest], str] | None = None
    """Replaces the dialect's, if paths differ."""
    headers: Callable[[str | None], dict[str, str]] | None = None
    """Replaces the dialect's, if the key is sent another way."""
    supports_n: bool = False
    """Whether one request may ask for several samples (`n`); else each sample is a request."""
    chat_models: re.Pattern[str] | None = None
    """Models with a chat endpoint only: a completion is sent to them as one user message."""
    lacks: frozenset[Feature] = frozenset()
    """Features that none of its models has through this API; requests that need one are refused."""
    identifiers: IdentifierRules = ANY_IDENTIFIERS
    """Names of tools and ids of calls that it takes; others are replaced."""
    inline_images: bool = False
    """Whether it takes images as data only: images given by URL are fetched first."""
    framing: Framing = stream_framing.sse_data
    sign: Callable[[PreparedRequest], dict[str, str]] | None = None
    follow_up: Callable[[PreparedRequest, Json], FollowUp | None] | None = None
    quirk: Quirk | None = None
    """Last change to the request body."""
    check_config: CheckConfig | None = None
    """Called before anything is sent."""


_ANY = re.compile("")
_OPENAI_CHAT = re.compile(r"(ft:)?(gpt-(?!3\.5-turbo-instruct)|chatgpt-|o\d)")
_AZURE_CHAT = re.compile(r"(?!.*(instruct|davinci|babbage))")
"""Deployments have any name; those with one of these words in it are taken for completion models."""
_SYSTEM_TEXT: frozenset[Feature] = frozenset({"images in the system message"})
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_OPENAI_IDS = IdentifierRules(name=_NAME, call_id=re.compile(r".{1,40}", re.DOTALL))
"""Names: https://developers.openai.com/api/docs/api-reference/chat/create · ids: the error for longer ones, 2026-11"""
_OPENAI_NAMES = IdentifierRules(name=_NAME)
"""Of those who repeat OpenAI's rule in their references."""
_MISTRAL_IDS = IdentifierRules(name=_NAME, call_id=re.compile(r"[a-zA-Z0-9]{9}"), call_id_length=9)
"""mistral-common, protocol/instruct/validator.py, 2026-11"""
_ANTHROPIC_IDS = IdentifierRules(
    name=re.compile(r"[a-zA-Z0-9_-]{1,128}"), name_length=128, call_id=re.compile(r"[a-zA-Z0-9_-]+")
)
"""https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use, 2026-11"""
_BEDROCK_IDS = IdentifierRules(name=_NAME, call_id=_NAME)
"""ToolName and ToolUseId of the service model of botocore 1.44; later versions take '.' and ':' in ids as well."""
_GEMINI_IDS = IdentifierRules(name=re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}"))
"""https://ai.google.dev/api/caching#FunctionDeclaration, 2026-11; ids have no rule."""
_COHERE_IDS = IdentifierRules(name=re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}"))
"""https://docs.cohere.com/v1/reference/chat#request.body.tools says what names may be, 2026-11"""

PROVIDER_SPECS: dict[str, ProviderSpec] = {
    spec.name: spec
    for spec in (
        # https://developers.openai.com/api/docs/api-reference/chat/create, 2026-11
        ProviderSpec(
            name="openai",
            title="OpenAI",
            dialect=openai,
            base_url="https://api.openai.com/v1",
            base_url_variable="OPENAI_BASE_URL",
            key_variable="OPENAI_API_KEY",
            supports_n=True,
            chat_models=_OPENAI_CHAT,
            lacks=_SYSTEM_TEXT,
            quirk=quirks.reasoning_models,
            identifiers=_OPENAI_IDS,
        ),
        # https://learn.microsoft.com/azure/ai-foundry/openai/reference, 2026-11
        ProviderSpec(
            name="openai_azure",
            title="Azure OpenAI",
            dialect=openai,
            base_url=azure.MISSING_ENDPOINT,
            base_url_variable=azure.ENDPOINT_VARIABLE,
            key_variable="AZURE_OPENAI_API_KEY",
            find_base_url=azure.find_base_url,
            more_variables=(azure.VERSION_VARIABLE, azure.HOSTS_VARIABLE),
            url=azure.url,
            headers=azure.headers,
            supports_n=True,
            chat_models=_AZURE_CHAT,
            lacks=_SYSTEM_TEXT,
            quirk=quirks.reasoning_models,
            check_config=azure.check,
            identifiers=_OPENAI_IDS,
        ),
        # https://console.groq.com/docs/openai (`n` must be 1), https://console.groq.com/docs/api-reference, 2026-11
        ProviderSpec(
            name="groq",
            title="Groq",
            dialect=openai,
            base_url="https://api.groq.com/openai/v1",
            base_url_variable="GROQ_BASE_URL",
            key_variable="GROQ_API_KEY",
            chat_models=_ANY,
            lacks=frozenset({"logprobs", "penalties"}),
            quirk=quirks.without_zero_penalties,
            identifiers=_OPENAI_NAMES,
        ),
        # https://docs.mistral.ai/api/endpoint/chat, 2026-11
        ProviderSpec(
            name="mistral",
            title="Mistral",
            dialect=openai,
            base_url="https://api.mistral.ai/v1",
            base_url_variable="MISTRAL_BASE_URL",
            key_variable="MISTRAL_API_KEY",
            supports_n=True,
            chat_models=_ANY,
            quirk=quirks.mistral,
            identifiers=_MISTRAL_IDS,
        ),
        # https://api-docs.deepseek.com/api/create-chat-completion, 2026-11
        ProviderSpec(
            name="deepseek",
            title="DeepSeek",
            dialect=openai,
            base_url="https://api.deepseek.com",
            base_url_variable="DEEPSEEK_BASE_URL",
            key_variable="DEEPSEEK_API_KEY",
            chat_models=_ANY,
            lacks=frozenset({"images", "JSON schemas", "seed"}),
            identifiers=_OPENAI_NAMES,
        ),
        # https://docs.together.ai/reference/chat-completions-1, 2026-11
        ProviderSpec(
            name="together",
            title="Together",
            dialect=openai,
            base_url="https://api.together.xyz/v1",
            base_url_variable="TOGETHER_BASE_URL",
            key_variable="TOGETHER_API_KEY",
            supports_n=True,
            lacks=frozenset({"suffix"}),
            quirk=quirks.together,
            identifiers=_OPENAI_NAMES,
        ),
        # https://openrouter.ai/docs/api/reference/overview, 2026-11
        ProviderSpec(
            name="openrouter",
            title="OpenRouter",
            dialect=openai,
            base_url="https://openrouter.ai/api/v1",
            base_url_variable="OPENROUTER_BASE_URL",
            key_variable="OPENROUTER_API_KEY",
            lacks=frozenset({"suffix"}),
            identifiers=_OPENAI_NAMES,
        ),
        # https://docs.fireworks.ai/api-reference/post-chatcompletions, 2026-11
        ProviderSpec(
            name="fireworks",
            title="Fireworks",
            dialect=openai,
            base_url="https://api.fireworks.ai/inference/v1",
            base_url_variable="FIREWORKS_BASE_URL",
            key_variable="FIREWORKS_API_KEY",
            supports_n=True,
            lacks=frozenset({"suffix"}),
            identifiers=_OPENAI_NAMES,
        ),
        # https://docs.x.ai/docs/api-reference#chat-completions, 2026-11
        ProviderSpec(
            name="xai",
            title="xAI",
            dialect=openai,
            base_url="https://api.x.ai/v1",
            base_url_variable="XAI_BASE_URL",
            key_variable="XAI_API_KEY",
            supports_n=True,
            chat_models=_ANY,
            quirk=quirks.without_zero_penalties,
            identifiers=_OPENAI_NAMES,
        ),
        # https://docs.perplexity.ai/api-reference/sonar-post, 2026-11
        ProviderSpec(
            name="perplexity",
            title="Perplexity",
            dialect=openai,
            base_url="https://api.perplexity.ai",
            base_url_variable="PERPLEXITY_BASE_URL",
            key_variable="PERPLEXITY_API_KEY",
            chat_models=_ANY,
            lacks=frozenset({"JSON mode", "seed"}),
            quirk=quirks.perplexity,
            identifiers=_OPENAI_NAMES,
        ),
        # https://inference-docs.cerebras.ai/api-reference/chat-completions, 2026-11
        ProviderSpec(
            name="cerebras",
            title="Cerebras",
            dialect=openai,
            base_url="https://api.cerebras.ai/v1",
            base_url_variable="CEREBRAS_BASE_URL",
            key_variable="CEREBRAS_API_KEY",
            chat_models=_ANY,
            quirk=quirks.without_zero_penalties,
            identifiers=_OPENAI_NAMES,
        ),
        # https://docs.ollama.com/api/openai-compatibility, 2026-11
        ProviderSpec(
            name="ollama",
            title="Ollama",
            dialect=openai,
            base_url="http://127.0.0.1:11434/v1",
            base_url_variable="OLLAMA_BASE_URL",
            key_variable="OLLAMA_API_KEY",
            key_optional=True,
            is_local=True,
            lacks=frozenset({"forced tools"}),
            inline_images=True,
        ),
        # https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html, 2026-11
        ProviderSpec(
            name="vllm",
            title="vLLM",
            dialect=openai,
            base_url="http://127.0.0.1:8000/v1",
            base_url_variable="VLLM_BASE_URL",
            key_variable="VLLM_API_KEY",
            key_optional=True,
            is_local=True,
            supports_n=True,
            lacks=frozenset({"suffix"}),
        ),
        # https://lmstudio.ai/docs/developer/openai-compat/chat-completions, 2026-11
        ProviderSpec(
            name="lmstudio",
            title="LM Studio",
            dialect=openai,
            base_url="http://127.0.0.1:1234/v1",
            base_url_variable="LMSTUDIO_BASE_URL",
            key_variable="LMSTUDIO_API_KEY",
            key_optional=True,
            is_local=True,
            lacks=frozenset({"JSON mode", "logprobs", "suffix"}),
            inline_images=True,
        ),
        # https://replicate.com/docs/reference/http, 2026-11
        ProviderSpec(
            name="replicate",
            title="Replicate",
            dialect=replicate,
            base_url="https://api.replicate.com/v1",
            base_url_variable="REPLICATE_BASE_URL",
            key_variable="REPLICATE_API_TOKEN",
            lacks=frozenset(get_args(Feature)) - {"seed", "stop sequences"},
            framing=replicate.sse_events,
            sign=replicate.prefer_wait,
            follow_up=replicate.follow_up,
            check_config=replicate.check,
        ),
        ProviderSpec(
            name="anthropic",
            title="Anthropic",
            dialect=anthropic,
            base_url="https://api.anthropic.com/v1",
            base_url_variable="ANTHROPIC_BASE_URL",
            key_variable="ANTHROPIC_API_KEY",
            chat_models=_ANY,
            lacks=frozenset({"images in the system message", "JSON mode", "seed", "logprobs", "suffix", "penalties"}),
            identifiers=_ANTHROPIC_IDS,
        ),
        ProviderSpec(
            name="bedrock",
            title="AWS Bedrock",
            dialect=bedrock,
            base_url="https://bedrock-runtime.us-east-1.amazonaws.com",
            base_url_variable="BEDROCK_BASE_URL",
            key_variable="AWS_BEARER_TOKEN_BEDROCK",
            find_key=aws.find_key,
            find_base_url=aws.find_base_url,
            more_variables=aws.VARIABLES,
            chat_models=_ANY,
            lacks=frozenset({"images in the system message", "JSON mode", "seed", "logprobs", "suffix", "penalties"}),
            inline_images=True,
            framing=aws.event_stream,
            sign=aws.sign,
            identifiers=_BEDROCK_IDS,
            check_config=bedrock.check,
        ),
        # Images by URL need their MIME type, which a URL does not tell, and not every model takes them:
        # https://ai.google.dev/gemini-api/docs/file-input-methods, 2026-11
        ProviderSpec(
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
            identifiers=_GEMINI_IDS,
            check_config=gemini.check,
        ),
        # It returns log probabilities of the tokens it wrote only, never of the n likeliest.
        ProviderSpec(
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
            identifiers=_COHERE_IDS,
        ),
        ProviderSpec(
            name="mock", title="Mock", dialect=openai, base_url=mock.BASE_URL, supports_n=True, check_config=mock.check
        ),
    )
}


def environment_variables(specs: Iterable[ProviderSpec]) -> frozenset[str]:
    """Return the name of every environment variable that the providers read."""
    names = {
        name for spec in specs for name in (spec.base_url_variable, spec.key_variable, *spec.more_variables) if name
    }
    return frozenset(names)


def compatible_specs(providers: Mapping[str, CompatibleProvider]) -> dict[str, ProviderSpec]:
    """Return specs for `EVERLOOP_COMPATIBLE_PROVIDERS`. Raises ValueError (name taken, unknown feature)."""
    specs = {}
    for name, provider in providers.items():
        unknown = provider.lacks.difference(get_args(Feature))
        if name in PROVIDER_SPECS:
            raise ValueError(f"EVERLOOP_COMPATIBLE_PROVIDERS: {name!r} is a provider already; choose another name.")
        if unknown:
            raise ValueError(
                f"EVERLOOP_COMPATIBLE_PROVIDERS: {name!r} cannot lack {min(unknown)!r}; what can be lacking is "
                f"{', '.join(get_args(Feature))}."
            )
        specs[name] = ProviderSpec(
            name=name,
            title=provider.title or name,
            dialect=openai,
            base_url=provider.base_url,
            key_variable=provider.key_variable,
            lacks=frozenset(feature for feature in get_args(Feature) if feature in provider.lacks),
        )
    return specs


IN_PROCESS = {mock.BASE_URL: mock.answer}
"""Providers that need no network: handlers by base URL (`Client`)."""
