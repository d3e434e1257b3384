"""From a request to the calls that answer it: which row, which address, whose key."""

from collections.abc import Mapping
from dataclasses import replace

from pydantic_core import to_json

from services.generation import models
from services.generation.models.features import check_features, validate_request
from services.generation.models.request import ModelRequest
from services.generation.providers.base import PreparedRequest
from services.generation.providers.dialects import openai
from services.generation.providers.registry import ROWS, Row
from shared.contracts.chat import ChatMessage
from shared.contracts.projects import ModelConfig
from shared.errors import Invalid, Unauthenticated

AZURE = "openai_azure"
AZURE_ENDPOINT = "openai_azure_endpoint"
"""Not a key, but kept and sent like one."""
LOCAL_MODEL = "smollm2-135m-instruct"
"""Comes with the installation; any config with provider `openai` and this model is answered on this machine."""


class Providers:
    """The rows, with this installation's addresses and keys."""

    def __init__(
        self, environment: Mapping[str, str], local_model_url: str | None, more: Mapping[str, Row] | None = None
    ) -> None:
        """`more` rows stand beside `ROWS`, or in their place."""
        self._environment = environment
        self._rows = ROWS | dict(more or {})
        self._local = local_model_url and Row(
            name="openai", title="Local model", dialect=openai, base_url=local_model_url
        )

    @property
    def names(self) -> frozenset[str]:
        """The providers that can be called."""
        return frozenset(self._rows)

    @property
    def key_names(self) -> frozenset[str]:
        """The names of the keys they take, as in `provider_api_keys`."""
        return frozenset(name for name, row in self._rows.items() if row.key_variable) | {AZURE_ENDPOINT}

    def calls(self, request: ModelRequest, keys: Mapping[str, str]) -> list[PreparedRequest]:
        """What to send so that `request.samples` samples come back, in their order.

        `keys` are the caller's own and go before the installation's. Errors: Invalid, Unauthenticated (no key).
        """
        row = self.row(request.config)
        if row.check:
            row.check(request.config)
        if _chats_only(row, request):
            request = _as_chat(request)
        validate_request(request)
        check_features(request, row.lacks, row.title)
        models.check_model_supports(request)
        key = self._key(row, keys)
        base_url = self._address(row, keys)
        together = row.several and not request.stream
        each = request if together else replace(request, samples=1)
        body = row.dialect.body(each)
        body = row.quirk(body) if row.quirk else body
        content = to_json(body)
        prepared = PreparedRequest(
            provider=row.name,
            title=row.title,
            dialect=row.dialect,
            url=(row.url or row.dialect.url)(base_url, each),
            headers=(row.headers or row.dialect.headers)(key),
            body=body,
            content=content,
            text_bytes=len(content),
            request=each,
            key=key,
            framing=row.framing,
            sign=row.sign,
            follow=row.follow,
        )
        return [prepared] if together else [prepared] * request.samples

    def needs_budget(self, request: ModelRequest) -> bool:
        """Whether `remaining_output_tokens` is needed: OpenAI's chat goes on to the end of the context by itself.

        Errors: those of `row`.
        """
        row = self.row(request.config)
        config = request.config
        if config.max_tokens != -1 or models.find_model(config.provider, config.model) is None:
            return False
        chats = request.messages is not None or _chats_only(row, request)
        return not (chats and row.dialect is openai)

    def row(self, config: ModelConfig) -> Row:
        """Who answers this config. Errors: Invalid (no such provider; the local model does not run)."""
        if config.provider == "openai" and config.model == LOCAL_MODEL:
            if not self._local:
                raise Invalid(
                    f"The local model {LOCAL_MODEL!r} is not running in this installation: start it (make up), or set "
                    "EVERLOOP_LOCAL_MODEL_URL to a server that has it."
                )
            return self._local
        row = self._rows.get(config.provider)
        if row is None:
            known = ", ".join(sorted(self._rows))
            raise Invalid(f"provider {config.provider!r} is not one this installation can call; it knows {known}.")
        return row

    def _address(self, row: Row, keys: Mapping[str, str]) -> str:
        if row.find_address:
            address = row.find_address(self._environment, keys)
            if address is None:
                raise Invalid(f"The address of {row.title} is not known: {row.base_url}")
        else:
            address = (row.base_url_variable and self._environment.get(row.base_url_variable)) or row.base_url
        return address.rstrip("/")

    def _key(self, row: Row, keys: Mapping[str, str]) -> str | None:
        if row.key_variable is None:
            return None
        own = row.find_key(self._environment) if row.find_key else self._environment.get(row.key_variable)
        key = keys.get(row.name) or own
        if not key and not row.key_optional:
            raise Unauthenticated(
                f"There is no key for {row.title}: send provider_api_keys.{row.name} with the request, keep one for "
                f"the organisation (PUT /api/provider-keys/{row.name}), or set {row.key_variable} where Everloop runs.",
                origin=row.title,
            )
        return key or None


def _chats_only(row: Row, request: ModelRequest) -> bool:
    """Whether this completion goes to a model that only chats."""
    if request.prompt is None:
        return False
    model = models.find_model(request.config.provider, request.config.model)
    by_name = row.chat_models is not None and row.chat_models.match(request.config.model) is not None
    return by_name or (model is not None and model.kind == "chat")


def _as_chat(request: ModelRequest) -> ModelRequest:
    if request.suffix is not None:
        raise Invalid(f"The model {request.config.model!r} only chats: it cannot write before a suffix.")
    message = ChatMessage(role="user", content=request.prompt)
    return replace(request, prompt=None, messages=[message])
