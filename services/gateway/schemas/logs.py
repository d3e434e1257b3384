"""Request and response models of logs (behaviour.md §5)."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.gateway.schemas.bodies import (
    MAX_PAGE_NUMBER,
    MAX_PAGE_SIZE,
    LogPlacement,
    Messages,
    OneOrMany,
    RequestBody,
    log_id_of_reference,
    to_utc,
)
from services.gateway.schemas.config_responses import ConfigResponse, version_response
from services.gateway.schemas.configs import ConfigRequest
from services.gateway.schemas.feedback import FeedbackResponse, FeedbackWithLog
from shared import ids, telemetry
from shared.contracts.chat import ChatMessage, ToolChoice, ToolResult
from shared.contracts.generation.projects import ConfigVersion, Project, ResolvedConfig, model_of
from shared.contracts.logs import (
    FeedbackFilter,
    FeedbackGiven,
    LogRecord,
    LogUpdate,
    Page,
    SearchLogs,
    Sort,
    StoredLog,
)
from shared.contracts.principal import Principal
from shared.contracts.value import Array
from shared.errors import Invalid

MAX_SORT_COLUMNS = 30
"""MongoDB sorts by at most 32 fields (https://www.mongodb.com/docs/manual/reference/method/cursor.sort/, 2024)."""
_FILTER, _FEEDBACK, _EVALUATOR = "_filter", "feedback-", "evaluator-"
MAX_FILTERS = 100
"""Values of one filter, and columns of a sort."""
Filters = Annotated[list[str], Field(max_length=MAX_FILTERS)]
MAX_TOKENS = 2**53
"""JSON readers represent integers up to this exactly, and the sum of two fits into the 64 bits of MongoDB."""


Duration = Annotated[float, Field(ge=0, description="Seconds.")]
"""How long what is logged took."""


class LogRequest(LogPlacement, RequestBody):
    """A log of an application: a generation, a tool call, any other step worth tracing."""

    inputs: dict[str, Any] = {}
    source: str | None = None
    metadata: dict[str, Any] | None = None
    save: bool = Field(True, description="False: no inputs, messages, outputs or provider bodies are stored.")
    source_datapoint_id: str | None = None
    reference_id: str | None = Field(
        None, description="Your own name for the log. A second call with it is the same log.", min_length=1
    )
    messages: Messages | None = None
    output: str | None = Field(None, description="May be set later: PATCH /logs.")
    judgment: bool | float | str | Array[str] | None = None
    config_id: str | None = None
    config: ConfigRequest | None = None
    environment: str | None = None
    feedback: OneOrMany[FeedbackWithLog] | None = None
    created_at: datetime | None = None
    error: str | None = None
    stdout: str | None = None
    duration: Duration | None = None
    output_message: ChatMessage | None = None
    prompt_tokens: int | None = Field(None, ge=0, le=MAX_TOKENS)
    output_tokens: int | None = Field(None, ge=0, le=MAX_TOKENS)
    prompt_cost: float | None = Field(None, description="USD.")
    output_cost: float | None = Field(None, description="USD.")
    provider_request: dict[str, Any] | None = None
    provider_response: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_project_and_config(self) -> "LogRequest":
        if self.project is None and self.project_id is None:
            raise ValueError("name the project: send project (its name) or project_id")
        if self.config is None and self.config_id is None:
            raise ValueError("say what produced the log: send config (its parameters) or config_id")
        return self

    def to_feedback(self, record: LogRecord) -> list[FeedbackGiven]:
        """Return the feedback sent together with the log. Raises Invalid."""
        feedback = self.feedback if isinstance(self.feedback, list) else [self.feedback]
        return [one.to_feedback_on(record.organisation, record.id) for one in feedback if one is not None]

    def to_record(self, caller: Principal, resolved: ResolvedConfig) -> LogRecord:
        """Return the record for the `LOGS` stream, with its final id; without content if `save` is false.

        Raises Invalid if UTC cannot express `created_at`.
        """
        fields = {name: getattr(self, name) for name in _COPIED_FIELDS}
        tokens = None if self.prompt_tokens is None else self.prompt_tokens + (self.output_tokens or 0)
        now = datetime.now(UTC)
        record = LogRecord(
            **fields,
            id=ids.mint("data") if self.reference_id is None else log_id_of_reference(caller, self.reference_id),
            organisation=caller.organisation,
            project_id=resolved.project.id,
            config_id=resolved.version.id,
            model=model_of(resolved.version.config),
            created_at=to_utc("created_at", self.created_at or now),
            session_id=self.resolve_session_id(caller),
            parent_id=self.resolve_parent_id(caller),
            user=caller.email,
            tokens=tokens,
            trace=telemetry.trace_headers().get("traceparent"),
        )
        return record if self.save else record.without_content()


_COPIED_FIELDS = (
    "reference_id",
    "session_reference_id",
    "parent_reference_id",
    "inputs",
    "messages",
    "output",
    "output_message",
    "judgment",
    "error",
    "stdout",
    "source",
    "metadata",
    "save",
    "source_datapoint_id",
    "environment",
    "duration",
    "prompt_tokens",
    "output_tokens",
    "prompt_cost",
    "output_cost",
    "provider_request",
    "provider_response",
)


class CreateLogResponse(BaseModel):
    """The ids of a recorded log, its project and its session."""

    id: str
    project_id: str
    session_id: str | None


class UpdateLogRequest(RequestBody):
    """Fields to set on a log later; those that are absent or null stay as they are."""

    output: str | None = None
    error: str | None = None
    duration: Duration | None = None

    def to_update(self, log: StoredLog) -> LogUpdate | None:
        """Return the record for the `LOGS` stream; None if nothing changes. A log with `save: false` gets no output."""
        output = self.output if log.save else None
        if output is None and self.error is None and self.duration is None:
            return None
        return LogUpdate(
            id=log.id,
            organisation=log.organisation,
            project_id=log.project_id,
            at=datetime.now(UTC),
            output=output,
            error=self.error,
            duration=self.duration,
            trace=telemetry.trace_headers().get("traceparent"),
        )


class LogResponse(BaseModel):
    """A stored log."""

    id: str
    project: str | None
    project_id: str
    config_id: str
    config: ConfigResponse
    session_id: str | None
    session_reference_id: str | None
    parent_id: str | None
    parent_reference_id: str | None
    reference_id: str | None
    inputs: dict[str, Any]
    messages: list[ChatMessage] | None
    output: str | None
    raw_output: str | None
    output_message: ChatMessage | None
    judgment: bool | float | str | list[str] | None
    error: str | None
    stdout: str | None
    source: str | None
    metadata: dict[str, Any] | None
    save: bool
    source_datapoint_id: str | None
    environment: str | None
    user: str | None
    duration: float | None
    provider_latency: float | None
    prompt_tokens: int | None
    output_tokens: int | None
    tokens: int | None
    cached_tokens: int | None = Field(description="Of the prompt tokens: read from the provider's cache.")
    prompt_cost: float | None
    output_cost: float | None
    provider_request: dict[str, Any] | None
    provider_response: dict[str, Any] | None
    served_provider: str | None
    served_model: str | None
    finish_reason: str | None
    refusal: str | None = Field(
        description="The provider's word for it if the model refused to answer or a filter withheld the answer."
    )
    tools: list[ToolResult]
    tool_choice: ToolChoice | None
    feedback: list[FeedbackResponse]
    evaluation_results: list[Any] = []
    observability_status: Literal["pending", "running", "completed", "failed"] = "completed"
    batch_ids: list[str] = []
    created_at: datetime
    updated_at: datetime


_STORED_FIELDS = frozenset(LogResponse.model_fields) & frozenset(StoredLog.model_fields)


def log_response(log: StoredLog, project: Project | None, version: ConfigVersion | None) -> LogResponse:
    """Return the response model of a log; `project` and `version` are None if they were deleted."""
    fields = {name: getattr(log, name) for name in _STORED_FIELDS} | {"tools": log.tools or []}
    fields["feedback"] = [FeedbackResponse(data_id=log.id, **entry.model_dump()) for entry in log.feedback]
    return LogResponse(
        **fields,
        project=None if project is None else project.name,
        config=version_response(log.config_id, version),
    )


class LogsQuery(BaseModel):
    """The query parameters of `GET /logs`. `feedback-{type}_filter` is none of its fields, as types have any name."""

    model_config = ConfigDict(extra="allow")

    project_id: str
    search: str | None = Field(None, description="In inputs, messages and output, case-insensitive.")
    metadata_search: str | None = Field(None, description="In the values of metadata, case-insensitive.")
    version_status: Literal["uncommitted", "committed", "deleted"] | None = None
    start_date: str | None = Field(None, description="Date or datetime.")
    end_date: str | None = Field(None, description="Date (that day included) or datetime.")
    size: int = Field(50, ge=1, le=MAX_PAGE_SIZE)
    page: int = Field(0, ge=0, le=MAX_PAGE_NUMBER, description="From 0.")
    sort: list[str] = Field(
        [],
        max_length=MAX_FILTERS,
        description="`source|model|timestamp|feedback-{type}`, then `.asc` or `.desc`; applied in order.",
    )
    source_filter: Filters = []
    model_filter: Filters = []
    environment_filter: Filters = []

    def to_search(self, caller: Principal) -> SearchLogs | None:
        """Return the query for logging; None if nothing can match, because every version here is committed.

        Raises Invalid for a bad date, sort order or filter.
        """
        search = SearchLogs(
            principal=caller,
            project_id=self.project_id,
            page=Page(number=self.page, size=self.size),
            search=self.search or None,
            metadata_search=self.metadata_search or None,
            start=parse_date("start_date", self.start_date),
            end=parse_date("end_date", self.end_date, end=True),
            sources=self.source_filter,
            models=self.model_filter,
            environments=self.environment_filter,
            feedback=parse_feedback_filters(self.model_extra or {}),
            sort=parse_sort(self.sort),
        )
        return search if self.version_status in (None, "committed") else None


def parse_feedback_filters(parameters: Mapping[str, Any]) -> list[FeedbackFilter]:
    """Return the filters among query parameters that are no fields: `feedback-{type}_filter`, one value or several.

    Other parameters are ignored. Raises Invalid for one without a type or with more than `MAX_FILTERS` values, and for
    `evaluator-{id}_filter`.
    """
    filters = []
    for name, value in parameters.items():
        if not name.endswith(_FILTER):
            continue
        column = name.removesuffix(_FILTER)
        if column.startswith(_EVALUATOR):
            raise Invalid(f"{name}: logs cannot be filtered by an evaluator, as there are no evaluators yet.")
        if column.startswith(_FEEDBACK):
            feedback_type = column.removeprefix(_FEEDBACK)
            if not feedback_type:
                raise Invalid(f"{name}: name the type of feedback: feedback-rating_filter, for instance.")
            values = value if isinstance(value, list) else [value]
            if len(values) > MAX_FILTERS:
                raise Invalid(f"{name} has {len(values)} values; a filter has at most {MAX_FILTERS}.")
            filters.append(FeedbackFilter(type=feedback_type, values=values))
    return filters


def parse_sort(columns: list[str]) -> list[Sort]:
    """Parse `{column}.{asc|desc}`, applied in order. Raises Invalid."""
    if len(columns) > MAX_SORT_COLUMNS:
        raise Invalid(f"sort is given {len(columns)} times; logs are sorted by at most {MAX_SORT_COLUMNS} columns.")
    sorts = []
    for text in columns:
        column, _, direction = text.rpartition(".")
        if column.startswith(_EVALUATOR):
            raise Invalid(f"sort={text!r}: logs cannot be sorted by an evaluator, as there are no evaluators yet.")
        feedback_type = column.removeprefix(_FEEDBACK) if column.startswith(_FEEDBACK) else None
        known = column in ("source", "model", "timestamp") or feedback_type
        if not known or direction not in ("asc", "desc"):
            raise Invalid(
                f"sort={text!r} is not understood: use source, model, timestamp or feedback-{{type}}, then .asc or "
                ".desc."
            )
        sorts.append(
            Sort(
                column="feedback" if feedback_type else column,
                feedback_type=feedback_type,
                descending=direction == "desc",
            )
        )
    return sorts


def parse_date(field: str, text: str | None, *, end: bool = False) -> datetime | None:
    """Parse a date or datetime of a filter, UTC if it has no time zone; a date as `end` includes that whole day.

    Returns None if there is no limit. Raises Invalid, naming `field`.
    """
    if text is None:
        return None
    try:
        if len(text) <= len("2024-05-20"):
            day = date.fromisoformat(text) + timedelta(days=1 if end else 0)
            return datetime.combine(day, time(), UTC)
        return to_utc(field, datetime.fromisoformat(text)) + timedelta(milliseconds=1 if end else 0)
    except OverflowError:  # the last day there is: everything lies before its end
        return None
    except ValueError:
        raise Invalid(f"{field}={text!r} is not a date (2024-05-20) or a datetime (2024-05-20T10:00:00Z).") from None
