"""From a request to the calls that answer it: which row, which address, whose key."""

from collections.abc import Mapping
from dataclasses import replace

from pydantic_core import to_json

from services.generation.completion import CompletionRequest
from services.generation.features import refuse
from services.generation.providers import openai
from services.generation.providers.base import Call
from services.generation.providers.registry import ROWS, Row
from shared.contracts.chat import ChatMessage
from shared.contracts.projects import ModelConfig
from shared.errors import Invalid, Unauthenticated

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

    def calls(self, request: CompletionRequest, keys: Mapping[str, str]) -> list[Call]:
        """What to send so that `request.samples` samples come back, in their order.

        `keys` are the caller's own and go before the installation's. Errors: Invalid, Unauthenticated (no key).
        """
        row = self.row(request.config)
        if row.check:
            row.check(request.config)
        if request.prompt is not None and row.chat_models and row.chat_models.match(request.config.model):
            request = _as_chat(request)
        refuse(request, row.lacks, row.title)
        key = self._key(row, keys)
        base_url = self._address(row, keys)
        together = row.several and not request.stream
        each = request if together else replace(request, samples=1)
        body = row.dialect.body(each)
        body = row.quirk(body) if row.quirk else body
        call = Call(
            provider=row.name,
            title=row.title,
            dialect=row.dialect,
            url=(row.url or row.dialect.url)(base_url, each),
            headers=(row.headers or row.dialect.headers)(key),
            body=body,
            content=to_json(body),
            request=each,
            key=key,
            frames=row.frames,
            sign=row.sign,
            follow=row.follow,
        )
        return [call] if together else [call] * request.samples

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
                f"There is no key for {row.title}: send provider_api_keys.{row.name} with the request, or set "
                f"{row.key_variable} where Everloop runs.",
                origin=row.title,
            )
        return key or None


def _as_chat(request: CompletionRequest) -> CompletionRequest:
    if request.suffix is not None:
        raise Invalid(f"The model {request.config.model!r} only chats: it cannot write before a suffix.")
    message = ChatMessage(role="user", content=request.prompt)
    return replace(request, prompt=None, messages=[message])
