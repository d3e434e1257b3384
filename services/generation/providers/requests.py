"""Prepares provider requests: finds provider, base URL and key for a config, and has the dialect write the body."""

import difflib
from collections.abc import Mapping
from dataclasses import replace

from pydantic_core import to_json

from services.generation import models
from services.generation.http.secret_destinations import StoredKey, canonical_base_url, moved_secret
from services.generation.models.features import check_features, validate_request
from services.generation.models.request import ModelRequest
from services.generation.providers import tool_identifiers
from services.generation.providers.base import PreparedRequest
from services.generation.providers.dialects import openai
from services.generation.providers.registry import PROVIDER_SPECS, ProviderSpec
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, Unauthenticated

AZURE_KEY = "openai_azure"
"""Name in `provider_api_keys`."""
AZURE_ENDPOINT_KEY = "openai_azure_endpoint"
"""Name in `provider_api_keys`: not a key, but stored and sent like one."""
LOCAL_MODEL = "smollm2-135m-instruct"
"""Comes with the installation; any config with provider `openai` and this model is served on this machine."""


class Providers:
    """The registered providers, with the base URLs and keys of this installation."""

    def __init__(
        self,
        environment: Mapping[str, str],
        local_model_url: str | None,
        extra: Mapping[str, ProviderSpec] | None = None,
    ) -> None:
        """`environment` holds the installation's keys and base URLs; `extra` providers are added to `PROVIDER_SPECS` or
        replace them."""
        self._environment = environment
        self._specs = PROVIDER_SPECS | dict(extra or {})
        self._local = local_model_url and ProviderSpec(
            name="openai", title="Local model", dialect=openai, base_url=local_model_url
        )

    @property
    def names(self) -> frozenset[str]:
        """Values of `provider` that can be called."""
        return frozenset(self._specs)

    @property
    def key_names(self) -> frozenset[str]:
        """Names in `provider_api_keys` that are known."""
        return frozenset(name for name, spec in self._specs.items() if spec.key_variable) | {AZURE_ENDPOINT_KEY}

    def prepare(self, request: ModelRequest, keys: Mapping[str, str]) -> list[PreparedRequest]:
        """Return what to send so that `request.samples` samples come back, in order: one request, or one a sample.

        `keys` (by name) win over the installation's. Raises Invalid, Unauthenticated (no key).
        """
        spec = self.spec(request.config)
        if spec.check_config:
            spec.check_config(request.config)
        if _is_chat_only(spec, request):
            request = _as_chat(request)
        validate_request(request)
        check_features(request, spec.lacks, spec.title)
        models.check_model_supports(request)
        base_url = self._base_url(spec, keys)
        key = self._key(spec, keys, base_url, request.config.model)
        single = spec.supports_n and not request.stream
        each = request if single else replace(request, samples=1)
        fitted, tool_names = tool_identifiers.fit(each, spec.identifiers)
        body = spec.dialect.body(fitted)
        body = spec.quirk(body) if spec.quirk else body
        content = to_json(body)
        prepared = PreparedRequest(
            provider=spec.name,
            title=spec.title,
            dialect=spec.dialect,
            url=(spec.url or spec.dialect.url)(base_url, each),
            headers=(spec.headers or spec.dialect.headers)(key),
            body=body,
            content=content,
            text_bytes=len(content),
            request=each,
            tool_names=tool_names,
            key=key,
            framing=spec.framing,
            sign=spec.sign,
            follow_up=spec.follow_up,
        )
        return [prepared] if single else [prepared] * request.samples

    def needs_token_budget(self, request: ModelRequest) -> bool:
        """Whether `remaining_output_tokens` must be worked out: `max_tokens` is -1 and the model's limits are known.

        Not for OpenAI's chat, which goes on to the end of the context window by itself. Raises as `spec` does.
        """
        spec = self.spec(request.config)
        config = request.config
        if config.max_tokens != -1 or models.find_model(config.provider, config.model) is None:
            return False
        is_chat = request.messages is not None or _is_chat_only(spec, request)
        return not (is_chat and spec.dialect is openai)

    def spec(self, config: ModelConfig) -> ProviderSpec:
        """Return the provider of a config. Raises Invalid (no such provider; the local model is not running)."""
        if config.provider == "openai" and config.model == LOCAL_MODEL:
            if not self._local:
                raise Invalid(
                    f"The local model {LOCAL_MODEL!r} is not running in this installation: start it (make up), or set "
                    "EVERLOOP_LOCAL_MODEL_URL to a server that has it."
                )
            return self._local
        spec = self._specs.get(config.provider)
        if spec is None:
            known = ", ".join(sorted(self._specs))
            raise Invalid(f"provider {config.provider!r} is not one this installation can call; it knows {known}.")
        return spec

    def find_key_address(self, name: str, keys: Mapping[str, str]) -> str | None:
        """Return the canonical base URL that the organisation's key of this name is sent to; None if there is none.

        `keys` are those the organisation keeps, its Azure endpoint among them. Raises Invalid if that is no endpoint.
        """
        spec = self._specs.get(name)
        if spec is None:
            return None
        if spec.find_base_url:
            base_url = spec.find_base_url(self._environment, {**keys, name: "given"})
            return None if base_url is None else canonical_base_url(base_url)
        return canonical_base_url(self._environment.get(spec.base_url_variable or "") or spec.base_url)

    def _base_url(self, spec: ProviderSpec, keys: Mapping[str, str]) -> str:
        if spec.find_base_url:
            base_url = spec.find_base_url(self._environment, keys)
            if base_url is None:
                raise Invalid(f"The address of {spec.title} is not known: {spec.base_url}")
        else:
            base_url = (spec.base_url_variable and self._environment.get(spec.base_url_variable)) or ""
            if not base_url and spec.is_local:
                raise Invalid(
                    f"provider {spec.name!r} is not turned on in this installation: set {spec.base_url_variable} where "
                    f"Everloop runs to the address of its {spec.title} server, for example {spec.base_url}."
                )
        return (base_url or spec.base_url).rstrip("/")

    def _key(self, spec: ProviderSpec, keys: Mapping[str, str], base_url: str, model: str) -> str | None:
        if spec.key_variable is None:
            return None
        own = spec.find_key(self._environment) if spec.find_key else self._environment.get(spec.key_variable)
        key = keys.get(spec.name) or own
        if isinstance(key, StoredKey) and key.address not in (None, canonical_base_url(base_url)):
            raise moved_secret(
                f"The address of {spec.title}",
                spec.name,
                f"give it anew (PUT /api/provider-keys/{spec.name}), or send provider_api_keys.{spec.name} with the "
                "request",
            )
        if not key and not spec.key_optional:
            raise Unauthenticated(
                f"There is no key for {spec.title}: send provider_api_keys.{spec.name} with the request, keep one for "
                f"the organisation (PUT /api/provider-keys/{spec.name}), or set {spec.key_variable} "
                f"where Everloop runs.{_unknown_model(spec, model)}",
                origin=spec.title,
            )
        return key or None


def _is_chat_only(spec: ProviderSpec, request: ModelRequest) -> bool:
    """Whether this is a completion for a model that has a chat endpoint only."""
    if request.prompt is None:
        return False
    model = models.find_model(request.config.provider, request.config.model)
    by_name = spec.chat_models is not None and spec.chat_models.match(request.config.model) is not None
    return by_name or (model is not None and model.kind == "chat")


def _as_chat(request: ModelRequest) -> ModelRequest:
    """Turn a completion into a chat with the prompt as its user message. Raises Invalid if it has a suffix."""
    if request.suffix is not None:
        raise Invalid(f"The model {request.config.model!r} only chats: it cannot write before a suffix.")
    message = ChatMessage(role="user", content=request.prompt)
    return replace(request, prompt=None, messages=[message])


def _unknown_model(spec: ProviderSpec, name: str) -> str:
    """Return a sentence on a model that is not in the catalogue: it may be misspelt, or another provider's."""
    known = models.MODELS.get(spec.name)
    if not known or models.find_model(spec.name, name) is not None:
        return ""
    close = difflib.get_close_matches(name.lower(), known, 1, 0.8)
    remedy = f"did you mean {close[0]!r}?" if close else "if it is another provider's, name that as provider."
    return f" The catalogue has no model {name[:100]!r} of {spec.title}: {remedy}"
