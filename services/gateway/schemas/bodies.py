"""Base classes, fields and conversions that several request and response models share."""

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from shared import ids
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ProjectRef
from shared.contracts.principal import Principal
from shared.contracts.value import Array
from shared.errors import Invalid

T = TypeVar("T", bound=BaseModel)
K = TypeVar("K")
V = TypeVar("V")

MAX_ARRAY_LENGTH = 5000
"""Logs, or feedback, in one call."""
MAX_MESSAGES = 10_000
MAX_FIELDS = 500
"""Of an object whose fields are validated. Each wrong field is an error, which takes memory."""


def _object_or_array(value: Any) -> str:  # noqa: ANN401 - anything may arrive
    return "an array" if isinstance(value, list) else "an object"


OneOrMany = Annotated[
    Annotated[T, Tag("an object")] | Annotated[Array[T], Field(max_length=MAX_ARRAY_LENGTH), Tag("an array")],
    Discriminator(_object_or_array),
]
"""An object or an array of them. The tags keep validation from also reporting that an object is no array."""


Messages = Annotated[Array[ChatMessage], Field(max_length=MAX_MESSAGES)]


def _check_number_of_fields(data: Any) -> Any:  # noqa: ANN401 - anything may arrive
    if isinstance(data, dict) and len(data) > MAX_FIELDS:
        raise ValueError(f"this object has {len(data):,} fields; at most {MAX_FIELDS:,} are read")
    return data


Fields = Annotated[dict[K, V], BeforeValidator(_check_number_of_fields)]
"""An object with fields of one type."""


class RequestBody(BaseModel):
    """A request body; fields with null count as absent (behaviour.md §1.2), unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:  # noqa: ANN401 - anything may arrive
        if isinstance(_check_number_of_fields(data), dict):
            return {name: value for name, value in data.items() if value is not None}
        return data


class StrictRequestBody(RequestBody):
    """A request body in which unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class LogPlacement(BaseModel):
    """The fields that name the project, session and parent of a log (behaviour.md §4.1)."""

    project: str | None = Field(None, description="Name of the project; created if there is none.", min_length=1)
    project_id: str | None = Field(None, description="Id of the project, `pr_…`.")
    session_id: str | None = Field(None, description="Id of an existing session, `sesh_…`.")
    session_reference_id: str | None = Field(
        None, description="Your own name for the session: first use creates it.", min_length=1
    )
    parent_id: str | None = Field(None, description="Id of the log to nest under, `data_…`.")
    parent_reference_id: str | None = Field(None, description="`reference_id` of the log to nest under.", min_length=1)

    @model_validator(mode="after")
    def _check_session_and_parent(self) -> "LogPlacement":
        if self.session_id is not None and self.session_reference_id is not None:
            raise ValueError("session_id and session_reference_id exclude each other: send one of them")
        if self.parent_id is not None and self.parent_reference_id is not None:
            raise ValueError("parent_id and parent_reference_id exclude each other: send one of them")
        for field, prefix in (("session_id", "sesh"), ("parent_id", "data")):
            value = getattr(self, field)
            if value is not None and not ids.is_id(prefix, value):
                raise ValueError(f"{field} must be an id like {prefix}_ followed by 21 letters and digits")
        return self

    def project_ref(self) -> ProjectRef:
        """Return the name and id of the project as sent."""
        return ProjectRef(name=self.project, id=self.project_id)

    def resolve_session_id(self, caller: Principal) -> str | None:
        """Return the id of the session, sent or derived from its reference; None if neither is sent."""
        if self.session_reference_id is not None:
            return ids.derive("sesh", caller.organisation, self.session_reference_id)
        return self.session_id

    def resolve_parent_id(self, caller: Principal) -> str | None:
        """Return the id of the parent log, sent or derived from its reference; it may not be stored yet."""
        if self.parent_reference_id is not None:
            return log_id_of_reference(caller, self.parent_reference_id)
        return self.parent_id


def log_id_of_reference(caller: Principal, reference_id: str) -> str:
    """Return the id derived from the organisation and the reference, so that a repeated call is the same log."""
    return ids.derive("data", caller.organisation, reference_id)


def to_utc(field: str, moment: datetime) -> datetime:
    """Return `moment` in UTC; without a time zone it is UTC already. Raises Invalid, naming `field`, if UTC cannot
    express it.
    """
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise Invalid(f"{field}={moment.isoformat()!r} is before the year 1 or after the year 9999 in UTC.") from None


MAX_PAGE_NUMBER = 1_000_000
"""What is skipped must fit into 64 bits, and takes MongoDB time."""
MAX_PAGE_SIZE = 1000
"""Of every list. The published contract has no maximum."""


class PaginatedData(BaseModel, Generic[T]):
    """A page of a listing."""

    records: list[T]
    page: int
    size: int
    total: int
