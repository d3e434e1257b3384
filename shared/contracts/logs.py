"""Owned by `logging`: what goes into the `LOGS` stream, and what can be asked of logs and sessions."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter

from shared.contracts.chat import ChatMessage, ToolChoice, ToolResult
from shared.contracts.message import Event, Query
from shared.contracts.value import Value

FeedbackValue = bool | int | float | str | list[str]


class Feedback(Value):
    """What somebody said about a log."""

    id: str
    type: str
    value: FeedbackValue
    user: str | None = None
    created_at: datetime


class LogRecord(Value):
    """One log as accepted. Its id is minted or derived before the append, so storing it twice is storing it once."""

    kind: Literal["log"] = "log"
    id: str
    organisation: str
    project_id: str
    config_id: str
    model: str | None = None
    """Name of the model of the config, for filters; None for tools."""
    served_provider: str | None = None
    served_model: str | None = None
    """Who was really called: differs from the config after a redirect or a fallback. None: nobody was, or not by us."""
    created_at: datetime
    """The caller's time if it gave one."""
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
    """Seconds, as the caller measured or as we measured the whole generation."""
    provider_latency: float | None = None
    """Seconds the provider took."""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    tokens: int | None = None
    prompt_cost: float | None = None
    """USD."""
    output_cost: float | None = None
    """USD."""
    provider_request: dict[str, Any] | None = None
    provider_response: dict[str, Any] | None = None
    finish_reason: str | None = None
    tools: list[ToolResult] | None = None
    tool_choice: ToolChoice | None = None
    feedback: list[Feedback] = []
    """Given together with the log: older than any `FeedbackGiven`."""
    trace: str | None = None
    """W3C `traceparent` of the request, so that the later batch write can link to it."""

    def without_content(self) -> "LogRecord":
        """What `save: false` leaves: config, metadata, tokens, latency, cost (behaviour.md §4.1)."""
        gone: dict[str, Any] = dict.fromkeys(
            (
                *("messages", "output", "raw_output", "output_message", "stdout"),
                *("provider_request", "provider_response", "tools"),
            )
        )
        return self.model_copy(update=gone | {"inputs": {}, "save": False})


class LogUpdate(Value):
    """A later change of a log. Fields that are None stay as they are."""

    kind: Literal["update"] = "update"
    id: str
    organisation: str
    project_id: str | None = None
    """Of the log, so that an update which outlives its project leaves nothing. None: sent by an earlier version."""
    at: datetime
    output: str | None = None
    error: str | None = None
    duration: float | None = None
    trace: str | None = None


class SessionOpened(Value):
    """A session created before its first log."""

    kind: Literal["session"] = "session"
    id: str
    organisation: str
    created_at: datetime
    trace: str | None = None


class FeedbackGiven(Value):
    """Somebody says something about a log, or takes it back; the log may come later. What was accepted last counts."""

    kind: Literal["feedback"] = "feedback"
    id: str
    """Of this feedback, `ann_…`: the same again is no second feedback."""
    organisation: str
    log_id: str
    type: str
    value: FeedbackValue | None = None
    """None when something is taken back."""
    labels: list[str] = []
    """Of a multi-select: what is added, or taken back, and nothing else is touched. Empty: it replaces, or takes back,
    whatever the log has of the type."""
    unset: bool = False
    user: str | None = None
    created_at: datetime
    """The caller's time if it gave one."""
    at: datetime
    """When it was accepted."""
    trace: str | None = None


class ProjectDeleted(Value):
    """A project is gone, and with it all its logs, those too that come after this."""

    kind: Literal["project_deleted"] = "project_deleted"
    organisation: str
    project_id: str
    at: datetime
    trace: str | None = None


Intake = Annotated[LogRecord | LogUpdate | SessionOpened | ProjectDeleted | FeedbackGiven, Field(discriminator="kind")]
"""What the `LOGS` stream carries; one message is a JSON array of these, in order."""

INTAKE = TypeAdapter[list[Intake]](list[Intake])
LOGS_SUBJECT = "logs.intake"


class StoredLog(LogRecord):
    """A log as read."""

    updated_at: datetime


class Page(Value):
    """A page of a listing."""

    number: int = 0
    """From 0."""
    size: int = 50


class Logs(Value):
    """A page of logs and how many there are in all."""

    logs: list[StoredLog]
    total: int


class GetLog(Query[StoredLog]):
    """One log, with every write accepted before this question. Errors: NotFound."""

    subject: ClassVar[str] = "logging.get_log"

    id: str


class LogFeedback(Value):
    """What is said about a log now."""

    log_id: str
    project_id: str
    feedback: list[Feedback] = []
    """Of the logs and types it was asked for."""


class FeedbackOfLogs(Value):
    """Of those logs that there are, in no particular order."""

    logs: list[LogFeedback]
    complete: bool = True
    """False: storing is behind, so what is missing may be there all the same."""


class GetFeedback(Query[FeedbackOfLogs]):
    """Where logs belong, and what is said about them, with every write accepted before this question."""

    subject: ClassVar[str] = "logging.get_feedback"

    log_ids: list[str]
    types: list[str] = []
    """The types of feedback wanted; none of the others is told."""


class SessionsOfLogs(Value):
    """Sessions by log, of those logs that are stored and whose session is settled; None: it has none and never will."""

    sessions: dict[str, str | None]


class GetSessionsOfLogs(Query[SessionsOfLogs]):
    """Which sessions logs belong to, with every write accepted before this question."""

    subject: ClassVar[str] = "logging.get_sessions_of_logs"

    log_ids: list[str]


class Sort(Value):
    """One column of an order."""

    column: Literal["source", "model", "timestamp"]
    descending: bool = False


class SearchLogs(Query[Logs]):
    """Logs of a project, newest first unless `sort` says otherwise."""

    subject: ClassVar[str] = "logging.search_logs"

    project_id: str
    page: Page = Page()
    search: str | None = None
    """Case-insensitive, over inputs and output."""
    metadata_search: str | None = None
    start: datetime | None = None
    """Inclusive, of `created_at`."""
    end: datetime | None = None
    """Exclusive."""
    sources: list[str] = []
    models: list[str] = []
    environments: list[str] = []
    sort: list[Sort] = []


class Session(Value):
    """Logs that belong together, from any number of projects."""

    id: str
    reference_id: str | None = None
    project_ids: list[str]
    """In the order of their first log."""
    datapoints_count: int
    first_inputs: dict[str, Any] | None = None
    last_output: str | None = None
    """The output that was set last, be it with its log or by a later update."""
    created_at: datetime
    updated_at: datetime


class Sessions(Value):
    """A page of sessions and how many there are in all."""

    sessions: list[Session]
    total: int


class GetSession(Query[Session]):
    """One session. Errors: NotFound."""

    subject: ClassVar[str] = "logging.get_session"

    id: str


class ListSessions(Query[Sessions]):
    """Sessions with at least one log of the project, newest first."""

    subject: ClassVar[str] = "logging.list_sessions"

    project_id: str
    page: Page = Page(size=10)


class ConfigUse(Value):
    """How much a config version, or a project, was used."""

    logs: int
    last_used: datetime | None = None
    """`created_at` of its newest log."""


class GetConfigUse(Query[ConfigUse]):
    """Use of one config version; a version without logs has none."""

    subject: ClassVar[str] = "logging.get_config_use"

    config_id: str


class Uses(Value):
    """Use by id; what has no logs is left out."""

    projects: dict[str, ConfigUse] = {}
    configs: dict[str, ConfigUse] = {}


class GetUses(Query[Uses]):
    """Use of many projects and config versions at once."""

    subject: ClassVar[str] = "logging.get_uses"

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
    """`orphan`: its parent has not arrived (yet). `loop`: its ancestors lead back to it, so it is shown at the root."""


class Tree(Value):
    """The logs of a session: roots first to last, children under their parents."""

    roots: list[Node]


class GetTree(Query[Tree]):
    """The tree of a session. Errors: NotFound."""

    subject: ClassVar[str] = "logging.get_tree"

    session_id: str


class RecordedLog(Value):
    """What a reader needs to decide whether a new log concerns it."""

    id: str
    project_id: str
    config_id: str
    session_id: str | None = None
    parent_id: str | None = None
    failed: bool = False
    """Whether the log has an error."""


class LogsRecorded(Event):
    """Logs were stored; one event carries all logs of an organisation that were written together."""

    noun: ClassVar[str] = "log"
    happened: ClassVar[str] = "recorded"

    logs: list[RecordedLog]


class LogsUpdated(Event):
    """Outputs, errors or durations were set later."""

    noun: ClassVar[str] = "log"
    happened: ClassVar[str] = "updated"

    ids: list[str]
