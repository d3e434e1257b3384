"""Request and response models of feedback (behaviour.md §7)."""

from datetime import UTC, datetime
from typing import ClassVar

from pydantic import BaseModel, Field, model_validator

from services.gateway.schemas.bodies import RequestBody, to_utc
from shared import ids, telemetry
from shared.contracts.logs import FeedbackGiven, FeedbackOfLogs, FeedbackValue
from shared.contracts.principal import Principal

MAX_TYPE_LENGTH = 200
"""Characters."""


class FeedbackBody(RequestBody):
    """The fields of one piece of feedback."""

    date_field: ClassVar[str] = "created_at"
    """What an error about the date calls it."""

    type: str = Field(
        min_length=1,
        max_length=MAX_TYPE_LENGTH,
        description="`rating`, `action`, `issue`, `correction`, `comment` or another, which is added to the project.",
    )
    value: FeedbackValue | None = Field(
        None, description="Required, unless `unset` removes a rating, correction, comment or number."
    )
    user: str | None = Field(None, description="Who gave it.")
    created_at: datetime | None = None

    def to_feedback_on(self, organisation: str, log_id: str, *, unset: bool = False) -> FeedbackGiven:
        """Return the record for the `LOGS` stream; its `labels` are set by `validate_feedback`. Raises Invalid."""
        now = datetime.now(UTC)
        return FeedbackGiven(
            id=ids.mint("ann"),
            organisation=organisation,
            log_id=log_id,
            type=self.type,
            value=self.value,
            unset=unset,
            user=self.user,
            created_at=to_utc(self.date_field, self.created_at or now),
            at=now,
            trace=telemetry.trace_headers().get("traceparent"),
        )


class FeedbackWithLog(FeedbackBody):
    """Feedback sent together with its log."""

    date_field = "feedback.created_at"
    value: FeedbackValue


class FeedbackRequest(FeedbackBody):
    """Feedback on a log, or with `unset` the removal of some."""

    data_id: str | None = Field(None, description="Id of the log, `data_…`. Required.")
    unset: bool = Field(
        False, description="Removes the feedback, whatever `value` says; of a multi-select, the labels that it names."
    )

    @model_validator(mode="after")
    def _check_data_id_and_value(self) -> "FeedbackRequest":
        if self.unset and _is_blank(self.value):
            self.value = None
        if self.data_id is None:
            raise ValueError("data_id is missing: send the id of the log that the feedback is about")
        if self.value is None and not self.unset:
            raise ValueError("value is missing: send the feedback itself, or unset: true to take it back")
        return self

    def to_feedback(self, caller: Principal) -> FeedbackGiven:
        """Return the record for the `LOGS` stream; its `labels` are set by `validate_feedback`. Raises Invalid."""
        return self.to_feedback_on(caller.organisation, self.data_id or "", unset=self.unset)


def _is_blank(value: FeedbackValue | None) -> bool:
    """Return whether a value says nothing; the clients send `""` where the field should be left blank."""
    return value == [] or (isinstance(value, str) and not value.strip())


class FeedbackResponse(BaseModel):
    """Feedback on a log. Of removed feedback, `value` is the value it had; null if there was none."""

    id: str
    type: str
    value: FeedbackValue | None
    data_id: str
    user: str | None
    created_at: datetime


def feedback_responses(feedback: list[FeedbackGiven], previous: FeedbackOfLogs) -> list[FeedbackResponse]:
    """Return the responses in the order of `feedback`; `previous` is the feedback that these logs had before."""
    values: dict[tuple[str, str], FeedbackValue | None] = {
        (log.log_id, one.type): one.value for log in previous.logs for one in log.feedback
    }
    responses = []
    for one in feedback:
        key, value = (one.log_id, one.type), one.value
        if not one.unset:
            values[key] = value
        elif not one.labels:
            value = values.pop(key, None)
        fields = one.model_dump(include={"id", "type", "user", "created_at"})
        responses.append(FeedbackResponse(**fields, data_id=one.log_id, value=value))
    return responses
