"""The query parameters of `GET /logs`: what they ask for, and how a wrong one is refused."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.gateway.schemas.feedback import FeedbackRequest
from services.gateway.schemas.logs import LogRequest, LogsQuery
from shared.contracts.generation.projects import ConfigVersion, ModelConfig, Project, ResolvedConfig
from shared.contracts.logs import FeedbackFilter, SearchLogs, Sort
from shared.contracts.principal import Principal
from shared.errors import Invalid

CALLER = Principal(organisation="tm_1", role="Member")
BEFORE_TIME, AFTER_TIME = "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"


def search(**parameters: Any) -> SearchLogs:
    found = LogsQuery.model_validate({"project_id": "pr_1", **parameters}).to_search(CALLER)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["rating", "a.b", "x_filter", "_filter", "feedback-", "evaluator-1", "ü &=%?", " "])
def test_a_filter_names_a_type_of_any_name(name: str) -> None:
    assert search(**{f"feedback-{name}_filter": "good"}).feedback == [FeedbackFilter(type=name, values=["good"])]
    assert search(sort=[f"feedback-{name}.desc"]).sort == [Sort(column="feedback", feedback_type=name, descending=True)]


def test_values_of_one_filter_are_alternatives_and_filters_are_kept_apart() -> None:
    asked = search(**{"feedback-rating_filter": ["good", ""], "feedback-mood_filter": "4", "unknown_filter": "x"})
    assert asked.feedback == [
        FeedbackFilter(type="rating", values=["good", ""]),
        FeedbackFilter(type="mood", values=["4"]),
    ]


@pytest.mark.parametrize("parameter", ["evaluator-evfn_1_filter", "evaluator-_filter", "feedback-_filter"])
def test_a_filter_that_cannot_be_applied_is_refused_by_its_name(parameter: str) -> None:
    with pytest.raises(Invalid, match=rf"^{parameter}: "):
        search(**{parameter: "1"})
    with pytest.raises(Invalid, match=rf"^{parameter}: "):
        search(**{parameter: "1", "version_status": "committed"})


def test_a_feedback_filter_has_as_many_values_as_any_other() -> None:
    assert len(search(**{"feedback-rating_filter": ["good"] * 100}).feedback[0].values) == 100
    with pytest.raises(Invalid, match=r"^feedback-rating_filter "):
        search(**{"feedback-rating_filter": ["good"] * 101})


@pytest.mark.parametrize(
    "text", ["evaluator-evfn_1.asc", "feedback-.asc", "feedback-rating", "feedback-rating.up", "rating.asc", ".asc", ""]
)
def test_a_sort_that_cannot_be_applied_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(Invalid, match=r"^sort="):
        search(sort=["source.asc", text])


def test_more_sorts_than_the_database_takes_are_refused() -> None:
    assert len(search(sort=[f"feedback-{number}.asc" for number in range(30)]).sort) == 30
    with pytest.raises(Invalid, match=r"^sort "):
        search(sort=[f"feedback-{number}.asc" for number in range(31)])


@pytest.mark.parametrize("text", ["yesterday", "", "2024-13-01", "2024-05-20T25:00", BEFORE_TIME, AFTER_TIME])
@pytest.mark.parametrize("field", ["start_date", "end_date"])
def test_a_bad_date_is_blamed_on_its_own_field(field: str, text: str) -> None:
    other = {"start_date": "end_date", "end_date": "start_date"}[field]
    with pytest.raises(Invalid, match=rf"^{field}="):
        search(**{field: text, other: "2024-05-20"})


def test_the_date_of_a_log_and_of_its_feedback_are_told_apart() -> None:
    now = datetime.now(UTC)
    resolved = ResolvedConfig(
        project=Project(id="pr_1", name="p", created_at=now, updated_at=now),
        version=ConfigVersion(id="config_1", project_id="pr_1", config=ModelConfig(model="m"), created_at=now),
    )
    body: dict[str, Any] = {"project": "p", "config_id": "config_1"}
    with pytest.raises(Invalid, match=r"^created_at="):
        LogRequest.model_validate(body | {"created_at": BEFORE_TIME}).to_record(CALLER, resolved)
    rated = LogRequest.model_validate(body | {"feedback": {"type": "t", "value": "v", "created_at": AFTER_TIME}})
    with pytest.raises(Invalid, match=r"^feedback\.created_at="):
        rated.to_feedback(rated.to_record(CALLER, resolved))
    given = FeedbackRequest.model_validate({"data_id": "data_1", "type": "t", "value": "v", "created_at": AFTER_TIME})
    with pytest.raises(Invalid, match=r"^created_at="):
        given.to_feedback(CALLER)
