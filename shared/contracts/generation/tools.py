"""Owned by `generation`: tools an organisation configures once and uses from every project (behaviour.md §14)."""

import json
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter

from shared import ids
from shared.contracts.chat import ToolResult
from shared.contracts.logs import Page
from shared.contracts.message import Command, Done, Event, Query
from shared.contracts.value import Value

MOST_PAIRS = 10
"""Of one snippet tool."""

ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_\-0-9]+$", max_length=64)]
"""What a template or a model calls. Models take at most 64 characters (OpenAI's limit of function names)."""
Line = Annotated[str, StringConstraints(pattern=r"^[^\r\n]+$", max_length=200)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z\-]+$", max_length=100)]
"""A token of RFC 9110 §5.6.2."""


MOST_SCHEMA_BYTES = 100_000
"""Of the JSON of a function's parameters, and characters of its description: every model's context is smaller."""


class Pair(Value):
    """A passage and what it is asked for by."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    value: Annotated[str, StringConstraints(max_length=100_000)]


def _distinct(pairs: list[Pair]) -> list[Pair]:
    keys = [pair.key for pair in pairs]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"each key may stand once; these stand more often: {repeated}")
    return pairs


def _web_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an address that begins with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password; use key_header and key")
    return url


def _free_header(name: str) -> str:
    if name.lower() in {"host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer"}:
        raise ValueError(f"{name} is not a header that can carry a key")
    return name


def _moderate(parameters: dict[str, Any]) -> dict[str, Any]:
    written = json.dumps(parameters, ensure_ascii=False, separators=(",", ":"))
    if (size := len(written.encode(errors="replace"))) > MOST_SCHEMA_BYTES:
        raise ValueError(f"takes {size:,} bytes as JSON; at most {MOST_SCHEMA_BYTES:,} fit")
    return parameters


Pairs = Annotated[list[Pair], Field(min_length=1, max_length=MOST_PAIRS), AfterValidator(_distinct)]
WebAddress = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_web_address)]
KeyHeader = Annotated[HeaderName, AfterValidator(_free_header)]
QueryParameters = Annotated[list[Line], Field(max_length=20)]
Host = Annotated[str, StringConstraints(pattern=r"^(https?://)?[A-Za-z0-9.\-]+(:\d{1,5})?$", max_length=300)]


class Snippet(Value):
    """Passages by key: `name(key)`."""

    secret_names: ClassVar[tuple[str, ...]] = ()
    """The secrets a kind has."""
    sent_to: ClassVar[dict[str, str]] = {}
    """Of a secret that goes where a field leads: the field. Others go to servers of the installation's own choice."""

    kind: Literal["snippet"] = "snippet"
    pairs: Pairs


class JsonSchema(Value):
    """A function models may ask for. Configs link to it; the caller runs it."""

    secret_names: ClassVar[tuple[str, ...]] = ()
    sent_to: ClassVar[dict[str, str]] = {}

    kind: Literal["json_schema"] = "json_schema"
    description: Annotated[str, StringConstraints(max_length=MOST_SCHEMA_BYTES)] | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_moderate)] | None = None
    """JSON schema of the arguments."""
    strict: bool | None = None

    def function(self, name: str) -> dict[str, Any]:
        """What a link to the tool of this name stands for: fields of `InlineTool` and `LinkedTool`."""
        fields = {"description": self.description, "parameters": self.parameters, "strict": self.strict}
        return {"name": name, **fields}


class GetApi(Value):
    """A GET request whose answer is the result. The secret `key` is sent in `key_header`; without it there is none."""

    secret_names: ClassVar[tuple[str, ...]] = ("key",)
    sent_to: ClassVar[dict[str, str]] = {"key": "url"}

    kind: Literal["get_api"] = "get_api"
    url: WebAddress
    key_header: KeyHeader = "X-API-KEY"
    query_parameters: QueryParameters = []
    """Names, in the order of the call's arguments."""


class Google(Value):
    """Google by SerpAPI: `name(query)`. Needs the secret `serpapi_key`."""

    secret_names: ClassVar[tuple[str, ...]] = ("serpapi_key",)
    sent_to: ClassVar[dict[str, str]] = {}

    kind: Literal["google"] = "google"


class Pinecone(Value):
    """Passages near a query: `name(query, top_k)`. Needs the secrets `pinecone_key` and `openai_key`."""

    secret_names: ClassVar[tuple[str, ...]] = ("pinecone_key", "openai_key")
    sent_to: ClassVar[dict[str, str]] = {"pinecone_key": "host"}

    kind: Literal["pinecone"] = "pinecone"
    index: Annotated[str, StringConstraints(pattern=r"^[a-z0-9\-]+$", max_length=100)]
    """Name of the index."""
    environment: Line | None = None
    """Of a pod-based index: it must be there."""
    host: Host | None = None
    """Of the index. None: Pinecone is asked for it by the index's name."""
    openai_model: Line = "text-embedding-ada-002"
    """Embeds the query; the model the index was filled with."""
    text_field: Line = "text"
    """The metadata field that holds a passage."""


ToolSettings = Annotated[Snippet | JsonSchema | GetApi | Google | Pinecone, Field(discriminator="kind")]
TOOL_SETTINGS: TypeAdapter[ToolSettings] = TypeAdapter(ToolSettings)


class Tool(Value):
    """A tool as people see it. Secrets never leave; `secrets` tells which there are."""

    id: str
    """`oc_…`"""
    name: str
    signature: str
    """How a template calls it, or what a model may fill in."""
    settings: ToolSettings
    secrets: dict[str, str] = {}
    """The last four characters of each secret that is set, by its name; empty if it is too short to show any."""
    created_at: datetime
    updated_at: datetime


class CreateTool(Command[Tool]):
    """Make a tool. A repeat with the same `id` is the same tool.

    Errors: Invalid (a secret is missing), Conflict (the organisation has a tool of this name).
    """

    subject: ClassVar[str] = "generation.create_tool"

    id: str = Field(default_factory=lambda: ids.mint("oc"))
    name: ToolName
    settings: ToolSettings
    sealed_secrets: str | None = Field(default=None, repr=False)
    """Secrets by name, encrypted (shared/encryption.py)."""


class UpdateTool(Command[Tool]):
    """Change a tool; it stays of its kind.

    Errors: NotFound, Invalid (a field its kind does not have, a secret that would go to another server than it was
    given for), Conflict (the name is taken).
    """

    subject: ClassVar[str] = "generation.update_tool"

    id: str
    name: ToolName | None = None
    changes: dict[str, Any] = {}
    """Fields of the settings, with their new values."""
    sealed_secrets: str | None = Field(default=None, repr=False)
    """As of `CreateTool`. Secrets not named stay, unless they would go elsewhere; an empty one is taken away."""


class DeleteTool(Command[Done]):
    """Remove a tool. Configs and templates that name it fail when called. Errors: NotFound."""

    subject: ClassVar[str] = "generation.delete_tool"

    id: str


class Tools(Value):
    """Tools by name; unknown ids are left out."""

    tools: list[Tool]


class GetTools(Query[Tools]):
    """Tools by id."""

    subject: ClassVar[str] = "generation.get_tools"

    ids: list[str]


class ToolPage(Value):
    """A page of tools by name, and how many there are in all."""

    tools: list[Tool]
    total: int


class ListTools(Query[ToolPage]):
    """The tools of the organisation."""

    subject: ClassVar[str] = "generation.list_tools"

    page: Page = Page(size=100)


class RunTool(Command[ToolResult]):
    """Call a tool once, outside any prompt; takes up to `RUN_SECONDS`.

    Errors: NotFound, Invalid (the arguments, or a kind only models call), and what the tool's own service answers.
    """

    subject: ClassVar[str] = "generation.run_tool"

    id: str
    arguments: list[str | int | float] = []
    """In the order of the signature."""


RUN_SECONDS = 35.0
"""Three requests (the slowest kind makes as many) of ten seconds each, and some."""


class ToolChanged(Event):
    """A tool was made, changed or removed: what was remembered about the organisation's tools is void."""

    noun: ClassVar[str] = "tool"
    happened: ClassVar[str] = "changed"

    tool_id: str
    what: str
    """`created`, `updated` or `deleted`. Open: whatever it is, the same is void."""
