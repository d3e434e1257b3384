"""Messages and values owned by `generation`: an organisation's tools, used from every project (behaviour.md §14)."""

import json
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter

from shared import ids
from shared.contracts.audit_actions import AuditAction
from shared.contracts.chat import ToolResult
from shared.contracts.logs import Page
from shared.contracts.message import Command, Done, Event, Query
from shared.contracts.permissions import EDIT_PROMPTS, Permission
from shared.contracts.principal import Service
from shared.contracts.value import Array, Value

MAX_PAIRS = 10
"""Of one snippet tool."""

ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_\-0-9]+$", max_length=64)]
"""The name by which templates and models call a tool. 64 characters are OpenAI's limit of function names."""
Line = Annotated[str, StringConstraints(pattern=r"^[^\r\n]+$", max_length=200)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z\-]+$", max_length=100)]
"""A token of RFC 9110 §5.6.2."""


MAX_SCHEMA_BYTES = 100_000
"""Of the JSON of a function's parameters, and characters of its description: every model's context is smaller."""


class Pair(Value):
    """A text and its key."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    value: Annotated[str, StringConstraints(max_length=100_000)]


def _check_distinct(pairs: list[Pair]) -> list[Pair]:
    keys = [pair.key for pair in pairs]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"each key may stand once; these stand more often: {repeated}")
    return pairs


def _check_web_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an address that begins with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password; use key_header and key")
    return url


def _check_key_header(name: str) -> str:
    if name.lower() in {"host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer"}:
        raise ValueError(f"{name} is not a header that can carry a key")
    return name


def _check_size(parameters: dict[str, Any]) -> dict[str, Any]:
    written = json.dumps(parameters, ensure_ascii=False, separators=(",", ":"))
    if (size := len(written.encode(errors="replace"))) > MAX_SCHEMA_BYTES:
        raise ValueError(f"takes {size:,} bytes as JSON; at most {MAX_SCHEMA_BYTES:,} fit")
    return parameters


Pairs = Annotated[Array[Pair], Field(min_length=1, max_length=MAX_PAIRS), AfterValidator(_check_distinct)]
WebAddress = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_check_web_address)]
KeyHeader = Annotated[HeaderName, AfterValidator(_check_key_header)]
QueryParameters = Annotated[Array[Line], Field(max_length=20)]
Host = Annotated[str, StringConstraints(pattern=r"^(https?://)?[A-Za-z0-9.\-]+(:\d{1,5})?$", max_length=300)]


class Snippet(Value):
    """Settings of a snippet tool: texts by key, returned by `name(key)`."""

    secret_names: ClassVar[tuple[str, ...]] = ()
    """The names of the secrets of this kind of tool."""
    sent_to: ClassVar[dict[str, str]] = {}
    """By secret, the field with the server it is sent to. Other secrets go to servers of the installation's choice."""

    kind: Literal["snippet"] = "snippet"
    pairs: Pairs


class JsonSchema(Value):
    """Settings of a function that models may call: configs link to it, and the caller runs it."""

    secret_names: ClassVar[tuple[str, ...]] = ()
    sent_to: ClassVar[dict[str, str]] = {}

    kind: Literal["json_schema"] = "json_schema"
    description: Annotated[str, StringConstraints(max_length=MAX_SCHEMA_BYTES)] | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_check_size)] | None = None
    """JSON schema of the arguments."""
    strict: bool | None = None

    def function(self, name: str) -> dict[str, Any]:
        """Return the fields of an `InlineTool` or `LinkedTool` with this name."""
        fields = {"description": self.description, "parameters": self.parameters, "strict": self.strict}
        return {"name": name, **fields}


class GetApi(Value):
    """Settings of a GET request whose response is the result. The secret `key`, if set, is sent in `key_header`."""

    secret_names: ClassVar[tuple[str, ...]] = ("key",)
    sent_to: ClassVar[dict[str, str]] = {"key": "url"}

    kind: Literal["get_api"] = "get_api"
    url: WebAddress
    key_header: KeyHeader = "X-API-KEY"
    query_parameters: QueryParameters = []
    """Names of the query parameters, in the order of the call's arguments."""


class Google(Value):
    """Settings of a Google search by SerpAPI: `name(query)`. Needs the secret `serpapi_key`."""

    secret_names: ClassVar[tuple[str, ...]] = ("serpapi_key",)
    sent_to: ClassVar[dict[str, str]] = {}

    kind: Literal["google"] = "google"


class Pinecone(Value):
    """Settings of a search in Pinecone: `name(query, top_k)`. Needs the secrets `pinecone_key` and `openai_key`."""

    secret_names: ClassVar[tuple[str, ...]] = ("pinecone_key", "openai_key")
    sent_to: ClassVar[dict[str, str]] = {"pinecone_key": "host"}

    kind: Literal["pinecone"] = "pinecone"
    index: Annotated[str, StringConstraints(pattern=r"^[a-z0-9\-]+$", max_length=100)]
    """Name of the index."""
    environment: Line | None = None
    """Required for a pod-based index: its environment."""
    host: Host | None = None
    """Of the index. None: looked up at Pinecone by the index's name."""
    openai_model: Line = "text-embedding-ada-002"
    """Embeds the query; must be the model the index was filled with."""
    text_field: Line = "text"
    """The metadata field with the text of a match."""


ToolSettings = Annotated[Snippet | JsonSchema | GetApi | Google | Pinecone, Field(discriminator="kind")]
TOOL_SETTINGS: TypeAdapter[ToolSettings] = TypeAdapter(ToolSettings)


class Tool(Value):
    """A tool without its secrets."""

    id: str
    """`oc_…`"""
    name: str
    signature: str
    """How a template calls it, or the arguments a model fills in."""
    settings: ToolSettings
    secrets: dict[str, str] = {}
    """By name of each secret that is set, its last four characters; empty if it is too short to show any."""
    created_at: datetime
    updated_at: datetime


class CreateTool(Command[Tool]):
    """Create a tool. A repeat with the same `id` is the same tool.

    Raises Invalid (a secret is missing), Conflict (the organisation has a tool of this name).
    """

    subject: ClassVar[str] = "generation.create_tool"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("tool.created",)

    id: str = Field(default_factory=lambda: ids.mint("oc"))
    name: ToolName
    settings: ToolSettings
    sealed_secrets: str | None = Field(default=None, repr=False)
    """Secrets by name, encrypted (shared/encryption.py)."""


class UpdateTool(Command[Tool]):
    """Change the name, settings or secrets of a tool; its kind cannot change.

    Raises NotFound, Invalid (a field its kind does not have, a secret that would go to another server than it was
    given for), Conflict (the name is taken).
    """

    subject: ClassVar[str] = "generation.update_tool"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("tool.updated",)

    id: str
    name: ToolName | None = None
    changes: dict[str, Any] = {}
    """New values of fields of the settings."""
    sealed_secrets: str | None = Field(default=None, repr=False)
    """As in `CreateTool`. Secrets not named stay, unless they would go to another server; an empty one is deleted."""


class DeleteTool(Command[Done]):
    """Delete a tool. Configs and templates that name it fail when called. Raises NotFound."""

    subject: ClassVar[str] = "generation.delete_tool"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("tool.deleted",)

    id: str


class Tools(Value):
    """Tools, sorted by name; unknown ids are left out."""

    tools: list[Tool]


class GetTools(Query[Tools]):
    """Return tools by id."""

    subject: ClassVar[str] = "generation.get_tools"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    services: ClassVar[frozenset[Service]] = frozenset({"gateway"})

    ids: list[str]


class ToolPage(Value):
    """A page of tools sorted by name, and the total number."""

    tools: list[Tool]
    total: int


class ListTools(Query[ToolPage]):
    """Return a page of the organisation's tools."""

    subject: ClassVar[str] = "generation.list_tools"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = ""

    page: Page = Page(size=100)


class RunTool(Command[ToolResult]):
    """Run a tool once, outside any prompt; takes up to `RUN_SECONDS`.

    Raises NotFound, Invalid (the arguments, or a kind that only models call), and the error of the server it calls.
    """

    subject: ClassVar[str] = "generation.run_tool"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    not_audited: ClassVar[str] = "It runs a tool as a template would, and saves nothing."

    id: str
    arguments: list[str | int | float] = []
    """In the order of the signature."""


RUN_SECONDS = 35.0
"""Bounds `RunTool`: three requests (as many as the slowest kind makes) of ten seconds each, and five more."""


class ToolChanged(Event):
    """A tool was created, changed or deleted: cached tools of the organisation are void."""

    noun: ClassVar[str] = "tool"
    past_participle: ClassVar[str] = "changed"

    tool_id: str
    what: str
    """`created`, `updated` or `deleted`. More may be added: whatever it is, the same is void."""
