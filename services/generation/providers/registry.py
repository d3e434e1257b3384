"""Every provider is a row. A row on a known wire language is all that a new provider needs."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pydantic_core import to_json

from services.generation.completion import CompletionRequest, Json
from services.generation.providers import mock, openai
from services.generation.providers.base import Call, Dialect
from shared.contracts.chat import ChatMessage
from shared.contracts.projects import ModelConfig
from shared.errors import Invalid, Unauthenticated

LOCAL_MODEL = "smollm2-135m-instruct"
"""Comes with the installation; any config with provider `openai` and this model is answered on this machine."""

Check = Callable[[ModelConfig], None]
Quirk = Callable[[Json], Json]


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
    several: bool = False
    """Whether one request may ask for several samples; else each sample is a request."""
    chat_models: re.Pattern[str] | None = None
    """Models that only chat: a completion goes to them as one user message."""
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
        Row(name="mock", title="Mock", dialect=openai, base_url=mock.BASE_URL, several=True, check=mock.check),
    )
}
IN_PROCESS = {mock.BASE_URL: mock.answer}
"""Providers that need no network, by address."""


class Providers:
    """The rows, with this installation's addresses and keys."""

    def __init__(self, environment: Mapping[str, str], local_model_url: str | None) -> None:
        self._environment = environment
        self._local = local_model_url and Row(
            name="openai", title="Local model", dialect=openai, base_url=local_model_url
        )

    def calls(self, request: CompletionRequest, keys: Mapping[str, str]) -> list[Call]:
        """What to send so that `request.samples` samples come back, in their order.

        `keys` are the caller's own and go before the installation's. Errors: Invalid, Unauthenticated (no key).
        """
        row = self._row(request.config)
        if row.check:
            row.check(request.config)
        key = self._key(row, keys)
        if request.prompt is not None and row.chat_models and row.chat_models.match(request.config.model):
            request = _as_chat(request)
        together = row.several and not request.stream
        each = request if together else replace(request, samples=1)
        base_url = (row.base_url_variable and self._environment.get(row.base_url_variable)) or row.base_url
        body = row.dialect.body(each)
        body = row.quirk(body) if row.quirk else body
        call = Call(
            provider=row.name,
            title=row.title,
            dialect=row.dialect,
            url=row.dialect.url(base_url.rstrip("/"), each),
            body=body,
            content=to_json(body),
            request=each,
            key=key,
        )
        return [call] if together else [call] * request.samples

    def _row(self, config: ModelConfig) -> Row:
        if config.provider == "openai" and config.model == LOCAL_MODEL:
            if not self._local:
                raise Invalid(
                    f"The local model {LOCAL_MODEL!r} is not running in this installation: start it (make up), or set "
                    "EVERLOOP_LOCAL_MODEL_URL to a server that has it."
                )
            return self._local
        row = ROWS.get(config.provider)
        if row is None:
            raise Invalid(f"Not available yet in this installation: provider {config.provider!r}.")
        return row

    def _key(self, row: Row, keys: Mapping[str, str]) -> str | None:
        if row.key_variable is None:
            return None
        key = keys.get(row.name) or self._environment.get(row.key_variable)
        if not key:
            raise Unauthenticated(
                f"There is no key for {row.title}: send provider_api_keys.{row.name} with the request, or set "
                f"{row.key_variable} where Everloop runs.",
                origin=row.title,
            )
        return key


def _as_chat(request: CompletionRequest) -> CompletionRequest:
    if request.suffix is not None:
        raise Invalid(f"The model {request.config.model!r} only chats: it cannot write before a suffix.")
    message = ChatMessage(role="user", content=request.prompt)
    return replace(request, prompt=None, messages=[message])
