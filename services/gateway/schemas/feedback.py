"""Feedback on logs: as given, and as answered (behaviour.md §7)."""

from datetime import UTC, datetime

from pydantic import BaseModel, Field, model_validator

from services.gateway.schemas.bodies import Body, with_zone
from shared import ids, telemetry
from shared.contracts.logs import FeedbackGiven, FeedbackOfLogs, FeedbackValue
from shared.contracts.principal import Principal

LONGEST_TYPE = 200


class FeedbackBody(Body):
    """What somebody says."""

    type: str = Field(
        min_length=1,
        max_length=LONGEST_TYPE,
        description="`rating`, `action`, `issue`, `correction`, `comment` or another; what is new, the project gets.",
    )
    value: FeedbackValue | None = Field(
        None, description="Needed, unless `unset` takes back a rating, correction, comment or number."
    )
    user: str | None = Field(None, description="Who gave it.")
    created_at: datetime | None = None

    def given(self, organisation: str, log_id: str, *, unset: bool = False) -> FeedbackGiven:
        """As it goes into the stream, but for what the class of its type makes of it."""
        now = datetime.now(UTC)
        return FeedbackGiven(
            id=ids.mint("ann"),
            organisation=organisation,
            log_id=log_id,
            type=self.type,
            value=self.value,
            unset=unset,
            user=self.user,
            created_at=with_zone(self.created_at or now),
            at=now,
            trace=telemetry.outgoing().get("traceparent"),
        )


class FeedbackWithLog(FeedbackBody):
    """Feedback given together with its log."""

    value: FeedbackValue


class FeedbackRequest(FeedbackBody):
    """What somebody says about a log, or takes back."""

    data_id: str | None = Field(None, description="The log, `data_…`. Needed.")
    unset: bool = Field(False, description="Take back; of a multi-select, the value says which label.")

    @model_validator(mode="after")
    def _says_of_what_and_what(self) -> "FeedbackRequest":
        if self.data_id is None:
            raise ValueError("data_id is missing: send the id of the log that the feedback is about")
        if self.value is None and not self.unset:
            raise ValueError("value is missing: send the feedback itself, or unset: true to take it back")
        return self

    def about(self, caller: Principal) -> FeedbackGiven:
        """As it goes into the stream, but for what the class of its type makes of it."""
        return self.given(caller.organisation, self.data_id or "", unset=self.unset)


class FeedbackResponse(BaseModel):
    """Feedback of a log. Of something taken back the value it had; null if there was none."""

    id: str
    type: str
    value: FeedbackValue | None
    data_id: str
    user: str | None
    created_at: datetime


def feedback_responses(given: list[FeedbackGiven], before: FeedbackOfLogs) -> list[FeedbackResponse]:
    """What was given, in its order; `before` is what was said about those logs until then."""
    values: dict[tuple[str, str], FeedbackValue | None] = {
        (log.log_id, one.type): one.value for log in before.logs for one in log.feedback
    }
    answers = []
    for one in given:
        place, value = (one.log_id, one.type), one.value
        if not one.unset:
            values[place] = value
        elif not one.labels:
            value = values.pop(place, None)
        fields = one.model_dump(include={"id", "type", "user", "created_at"})
        answers.append(FeedbackResponse(**fields, data_id=one.log_id, value=value))
    return answers
