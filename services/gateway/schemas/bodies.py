"""What several request and response bodies share."""

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from shared import ids
from shared.contracts.principal import Principal
from shared.contracts.projects import ProjectRef
from shared.errors import Invalid

T = TypeVar("T", bound=BaseModel)


def _form(value: Any) -> str:  # noqa: ANN401 - anything may arrive
    return "several" if isinstance(value, list) else "one"


OneOrSeveral = Annotated[Annotated[T, Tag("one")] | Annotated[list[T], Tag("several")], Discriminator(_form)]
"""An object or an array of them. What is wrong with one is said of it, and not that it is no array, too."""


class Body(BaseModel):
    """A request body. An explicit null for an optional field means that it was not given (behaviour.md §1.2)."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:  # noqa: ANN401 - anything may arrive
        if isinstance(data, dict):
            return {name: value for name, value in data.items() if value is not None}
        return data


class StrictBody(Body):
    """A request body that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Placed(BaseModel):
    """Where a log belongs: project, session, parent (behaviour.md §4.1)."""

    project: str | None = Field(None, description="Name of the project; created if there is none.", min_length=1)
    project_id: str | None = Field(None, description="Id of the project, `pr_…`.")
    session_id: str | None = Field(None, description="Id of an existing session, `sesh_…`.")
    session_reference_id: str | None = Field(
        None, description="Your own name for the session: first use creates it.", min_length=1
    )
    parent_id: str | None = Field(None, description="Id of the log to nest under, `data_…`.")
    parent_reference_id: str | None = Field(None, description="`reference_id` of the log to nest under.", min_length=1)

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "Placed":
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
        """How the caller named the project."""
        return ProjectRef(name=self.project, id=self.project_id)

    def session(self, caller: Principal) -> str | None:
        """Id of the session; a reference stands for the same session every time."""
        if self.session_reference_id is not None:
            return ids.derive("sesh", caller.organisation, self.session_reference_id)
        return self.session_id

    def parent(self, caller: Principal) -> str | None:
        """Id of the parent log, which may not have arrived yet."""
        if self.parent_reference_id is not None:
            return log_id(caller, self.parent_reference_id)
        return self.parent_id


def log_id(caller: Principal, reference_id: str) -> str:
    """The id of the log with this reference: a repeated call is the same log."""
    return ids.derive("data", caller.organisation, reference_id)


def with_zone(moment: datetime) -> datetime:
    """A caller's time, in UTC; without a zone it is UTC. Errors: Invalid."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise Invalid(
            f"created_at={moment.isoformat()!r} is before the year 1 or after the year 9999 in UTC."
        ) from None


LARGEST_PAGE = 1000
"""The published contract names none."""


class PaginatedData(BaseModel, Generic[T]):
    """A page of a listing."""

    records: list[T]
    page: int
    size: int
    total: int
