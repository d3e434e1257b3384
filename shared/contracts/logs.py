"""Messages and values owned by `logging`: the records of the stream `LOGS`, queries of logs and sessions, events."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter

from shared.contracts.audit import AuditEntry
from shared.contracts.chat import ChatMessage, ToolChoice, ToolResult
from shared.contracts.message import Event, Query
from shared.contracts.permissions import EDIT_PROMPTS, VIEW_LOGS, Permission
from shared.contracts.principal import Actor, Service
from shared.contracts.value import Array, Value

FeedbackValue = bool | int | float | str | Array[str]


class Feedback(Value):
    """One piece of feedback on a log."""

    id: str
    type: str
    value: FeedbackValue
    user: str | None = None
    created_at: datetime


class LogRecord(Value):
    """A log as accepted. Its id is minted or derived before the append, so that storing it is idempotent."""

    kind: Literal["log"] = "log"
    id: str
    organisation: str
    project_id: str
    config_id: str
    model: str | None = None
    """The model named in the config, for filters; None for tools."""
    served_provider: str | None = None
    served_model: str | None = None
    """The model called: after a redirect or fallback not the config's. None: none was called, or not by Everloop."""
    created_at: datetime
    """As the caller gave it, else when it was accepted."""
    reference_id: str | None = None
    session_id: str | None = None
    session_reference_id: str | None = None
    parent_id: str | None = None
    parent_reference_id: str | None = None
    inputs: dict[str, Any] = {}
    messages: list[ChatMessage] | None = None
    output: str | None = None
    raw_output: str | None = None
    output_message: ChatMessage | None = None
    judgment: bool | float | str | list[str] | None = None
    error: str | None = None
    stdout: str | None = None
    source: str | None = None
    metadata: dict[str, Any] | None = None
    save: bool = True
    source_datapoint_id: str | None = None
    environment: str | None = None
    user: str | None = None
    duration: float | None = None
    """Seconds: given by the caller, or measured over the whole generation."""
    provider_latency: float | None = None
    """Seconds until the provider had answered."""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    tokens: int | None = None
    cached_tokens: int | None = None
    """Of `prompt_tokens`: read from the provider's cache. None: none, or not known."""
    prompt_cost: float | None = None
    """USD."""
    output_cost: float | None = None
    """USD."""
    provider_request: dict[str, Any] | None = None
    provider_response: dict[str, Any] | None = None
    finish_reason: str | None = None
    refusal: str | None = None
    """The provider's word for it if the model refused to answer or a filter withheld it: `refusal`, `SAFETY` …"""
    tools: list[ToolResult] | None = None
    tool_choice: ToolChoice | None = None
    feedback: list[Feedback] = []
    """Sent with the log: counts as older than any `FeedbackGiven`."""
    trace: str | None = None
    """W3C `traceparent` of the request, to which the span of the batch write links."""

    def without_content(self) -> "LogRecord":
        """Return a copy with what `save: false` keeps: config, metadata, tokens, latency, cost (behaviour.md §4.1)."""
        removed: dict[str, Any] = dict.fromkeys(
            (
                *("messages", "output", "raw_output", "output_message", "stdout"),
                *("provider_request", "provider_response", "tools"),
            )
        )
        return self.model_copy(update=removed | {"inputs": {}, "save": False})


class LogUpdate(Value):
    """A later change of a log. Fields that are None are not changed."""

    kind: Literal["update"] = "update"
    id: str
    organisation: str
    project_id: str | None = None
    """Of the log: an update of a deleted project is dropped. None only from earlier versions."""
    at: datetime
    """When it was accepted."""
    output: str | None = None
    error: str | None = None
    duration: float | None = None
    trace: str | None = None


class SessionOpened(Value):
    """A session was created before its first log."""

    kind: Literal["session"] = "session"
    id: str
    organisation: str
    created_at: datetime
    trace: str | None = None


class FeedbackGiven(Value):
    """Feedback was given on a log, or taken back; the log may come later. What was accepted last is in effect."""

    kind: Literal["feedback"] = "feedback"
    id: str
    """Of this feedback, `ann_…`: a repeat has the same id and is stored once."""
    organisation: str
    log_id: str
    type: str
    value: FeedbackValue | None = None
    """None when feedback is taken back."""
    labels: list[str] = []
    """Of a multi-select: the labels that are added or taken back; others are not changed. Empty: `value` replaces, or
    `unset` takes back, all feedback of this type on the log."""
    unset: bool = False
    """Whether feedback is taken back."""
    user: str | None = None
    created_at: datetime
    """As the caller gave it, else when it was accepted."""
    at: datetime
    """When it was accepted."""
    trace: str | None = None


class LogDeleted(Value):
    """A log was deleted. Its id is never used again: a log of this id, and what is sent about it, is dropped."""

    kind: Literal["log_deleted"] = "log_deleted"
    id: str
    organisation: str
    at: datetime
    """When the deletion was accepted."""
    actor: Actor | None = None
    trace: str | None = None


class Audited(Value):
    """What the audit log has of the other records of its message, which are one change that a caller made."""

    kind: Literal["audited"] = "audited"
    entry: AuditEntry
    trace: str | None = None


class ProjectDeleted(Value):
    """A project was deleted with all its logs; logs of it that come later are dropped."""

    kind: Literal["project_deleted"] = "project_deleted"
    organisation: str
    project_id: str
    at: datetime
    blobs: list[str] = []
    """Digests of the blobs (shared/blobs.py) that its config versions had."""
    trace: str | None = None


Intake = Annotated[
    LogRecord | LogUpdate | SessionOpened | ProjectDeleted | FeedbackGiven | LogDeleted | Audited,
    Field(discriminator="kind"),
]
"""A record of the stream `LOGS`; one message is a JSON array of these, in order of acceptance."""

INTAKE = TypeAdapter[list[Intake]](list[Intake])
LOGS_SUBJECT = "logs.intake"


class StoredLog(LogRecord):
    """A stored log, as it is returned."""

    updated_at: datetime


class Page(Value):
    """Which page of a listing is requested."""

    number: int = 0
    """From 0."""
    size: int = 50
    """Most entries of a page."""


class Logs(Value):
    """A page of logs, and the total number."""

    logs: list[StoredLog]
    total: int


class GetLog(Query[StoredLog]):
    """Return a log, with every write accepted before the query. Raises NotFound."""

    subject: ClassVar[str] = "logging.get_log"
    permission: ClassVar[Permission | None] = VIEW_LOGS
    limited: ClassVar[str | None] = ""

    id: str


class LogFeedback(Value):
    """The feedback in effect on a log."""

    log_id: str
    project_id: str
    feedback: list[Feedback] = []
    """Of the requested types."""


class FeedbackOfLogs(Value):
    """Feedback of the logs that exist, in no particular order."""

    logs: list[LogFeedback]
    deleted_ids: list[str] = []
    """Of the logs asked for, those that were deleted."""
    complete: bool = True
    """False: some accepted writes are not stored yet, so logs and feedback may be missing."""


class GetFeedback(Query[FeedbackOfLogs]):
    """Return the projects of logs and the feedback on them, with every write accepted before the query."""

    subject: ClassVar[str] = "logging.get_feedback"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = ""

    log_ids: list[str]
    types: list[str] = []
    """The feedback types to return."""


class SessionsOfLogs(Value):
    """Session ids by log id. Logs not stored yet, and those whose session is not certain yet, are left out."""

    sessions: dict[str, str | None]
    """None: the log has no session and never will."""


class GetSessionsOfLogs(Query[SessionsOfLogs]):
    """Return the sessions of logs, with every write accepted before the query."""

    subject: ClassVar[str] = "logging.get_sessions_of_logs"
    permission: ClassVar[Permission | None] = VIEW_LOGS
    services: ClassVar[frozenset[Service]] = frozenset({"gateway"})

    log_ids: list[str]


class Sort(Value):
    """A column to sort by."""

    column: Literal["source", "model", "timestamp", "feedback"]
    feedback_type: str | None = None
    """Of the column `feedback`."""
    descending: bool = False


class FeedbackFilter(Value):
    """Only logs whose latest feedback of this type is one of `values`: texts, numbers and booleans as JSON text."""

    type: str
    values: list[str]


class SearchLogs(Query[Logs]):
    """Return a page of the logs of a project that match all filters; newest first unless `sort` says otherwise."""

    subject: ClassVar[str] = "logging.search_logs"
    permission: ClassVar[Permission | None] = VIEW_LOGS
    limited: ClassVar[str | None] = "project_id"

    project_id: str
    page: Page = Page()
    search: str | None = None
    """Only logs whose output, or a value of their inputs or messages, contains this, case-insensitive."""
    metadata_search: str | None = None
    """Only logs of which a value of the metadata contains this, case-insensitive."""
    start: datetime | None = None
    """Inclusive, of `created_at`."""
    end: datetime | None = None
    """Exclusive."""
    sources: list[str] = []
    models: list[str] = []
    environments: list[str] = []
    feedback: list[FeedbackFilter] = []
    """All of them must match."""
    sort: list[Sort] = []


class Session(Value):
    """Logs that belong together; they may be of several projects."""

    id: str
    reference_id: str | None = None
    project_ids: list[str]
    """In the order of their first log."""
    datapoints_count: int
    first_inputs: dict[str, Any] | None = None
    last_output: str | None = None
    """The output that was set last, with a log or by a later update."""
    created_at: datetime
    updated_at: datetime


class Sessions(Value):
    """A page of sessions, and the total number."""

    sessions: list[Session]
    total: int


class GetSession(Query[Session]):
    """Return a session. Raises NotFound."""

    subject: ClassVar[str] = "logging.get_session"
    permission: ClassVar[Permission | None] = VIEW_LOGS

    id: str


class ListSessions(Query[Sessions]):
    """Return a page of the sessions with at least one log of the project, newest first."""

    subject: ClassVar[str] = "logging.list_sessions"
    permission: ClassVar[Permission | None] = VIEW_LOGS

    project_id: str
    page: Page = Page(size=10)


class ConfigUse(Value):
    """How much a config version or a project was used."""

    logs: int
    """Number of its logs."""
    last_used: datetime | None = None
    """`created_at` of its newest log."""


class GetConfigUse(Query[ConfigUse]):
    """Return the use of a config version; of one without logs, or unknown, it is 0 logs."""

    subject: ClassVar[str] = "logging.get_config_use"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = ""

    config_id: str


class Uses(Value):
    """Use by id; projects and config versions without logs are left out."""

    projects: dict[str, ConfigUse] = {}
    configs: dict[str, ConfigUse] = {}


class GetUses(Query[Uses]):
    """Return the use of many projects and config versions."""

    subject: ClassVar[str] = "logging.get_uses"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = "project_ids"

    project_ids: list[str] = []
    config_ids: list[str] = []


class Node(Value):
    """A log in the tree of its session."""

    id: str
    project_id: str
    parent_id: str | None
    created_at: datetime
    children: list["Node"] = []
    state: Literal["attached", "orphan", "loop"] = "attached"
    """`orphan`: its parent is not stored (yet). `loop`: it is among its own ancestors, and so it is shown as a root."""


class Tree(Value):
    """The logs of a session as a tree: roots in order of time, children under their parents."""

    roots: list[Node]


class GetTree(Query[Tree]):
    """Return the tree of a session. Raises NotFound."""

    subject: ClassVar[str] = "logging.get_tree"
    permission: ClassVar[Permission | None] = VIEW_LOGS

    session_id: str


class RecordedLog(Value):
    """What a subscriber needs to decide whether a new log concerns it."""

    id: str
    project_id: str
    config_id: str
    session_id: str | None = None
    parent_id: str | None = None
    failed: bool = False
    """Whether the log has an error."""


class LogsRecorded(Event):
    """Logs were stored; one event has all logs of an organisation that were written together."""

    noun: ClassVar[str] = "log"
    past_participle: ClassVar[str] = "recorded"

    logs: list[RecordedLog]


class LogsUpdated(Event):
    """Outputs, errors or durations of stored logs were set later."""

    noun: ClassVar[str] = "log"
    past_participle: ClassVar[str] = "updated"

    ids: list[str]


class LogsDeleted(Event):
    """Logs were deleted, each by itself; of a deleted project there is `ProjectChanged`."""

    noun: ClassVar[str] = "log"
    past_participle: ClassVar[str] = "deleted"

    ids: list[str]
