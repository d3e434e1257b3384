"""Which feedback is valid, and which types and labels it adds to a project."""

import re
from typing import Any, cast

import pytest

from services.gateway.feedback_validation import MAX_ARRIVAL_SECONDS, may_still_arrive, validate_feedback
from services.gateway.project_cache import ProjectCache
from services.gateway.schemas.feedback import feedback_responses
from shared import ids
from shared.contracts.generation.projects import STANDARD_FEEDBACK, FeedbackType
from shared.contracts.logs import Feedback, FeedbackGiven, FeedbackOfLogs, LogFeedback
from shared.errors import Invalid
from tests.unit.logging.builders import START, feedback

PROJECTS = {"data_1": "pr_1"}


class FakeProjectCache:
    """The part of `ProjectCache` that validation uses, with one project."""

    def __init__(self, *types: FeedbackType) -> None:
        self.types = {one.type: one for one in (*STANDARD_FEEDBACK, *types)}
        self.defined: list[FeedbackType] = []

    async def get_feedback_types(self, organisation: str, project_id: str) -> dict[str, FeedbackType]:
        """Return the types of the project."""
        assert (organisation, project_id) == ("tm_1", "pr_1")
        return self.types

    async def define_feedback_types(self, organisation: str, project_id: str, types: list[FeedbackType]) -> None:
        """Add to `defined`."""
        assert (organisation, project_id) == ("tm_1", "pr_1")
        self.defined += types

    @property
    def added(self) -> list[tuple[str, Any, list[str]]]:
        """Name, class and labels of what was defined."""
        return [(one.type, one.kind, [label.value for label in one.labels]) for one in self.defined]


async def labels(
    project_cache: FakeProjectCache, *feedback: FeedbackGiven, projects: dict[str, str] | None = None
) -> list[list[str]]:
    """Validate the feedback; return the labels of each."""
    projects = PROJECTS if projects is None else projects
    return [
        one.labels
        for one in await validate_feedback(cast("ProjectCache", project_cache), "tm_1", list(feedback), projects)
    ]


@pytest.mark.parametrize(
    ("name", "value", "added", "expected_labels"),
    [
        ("rating", "good", [], []),
        ("rating", "excellent", [("rating", "select", ["excellent"])], []),
        ("rating", 4, [("rating", "select", ["4"])], []),
        ("action", "copied", [("action", "multi_select", ["copied"])], ["copied"]),
        ("action", ["a", "b", "a"], [("action", "multi_select", ["a", "b"])], ["a", "b", "a"]),
        ("comment", "fine", [], []),
        ("mood", "calm", [("mood", "text", [])], []),
        ("mood", 0.5, [("mood", "number", [])], []),
        ("mood", 3, [("mood", "number", [])], []),
        ("mood", True, [("mood", "select", ["true"])], []),
        ("mood", ["calm"], [("mood", "multi_select", ["calm"])], ["calm"]),
    ],
)
async def test_new_types_and_labels_are_added_to_the_project(
    name: str, value: Any, added: Any, expected_labels: list[str]
) -> None:
    project_cache = FakeProjectCache()
    assert await labels(project_cache, feedback(type=name, value=value)) == [expected_labels]
    assert project_cache.added == added


@pytest.mark.parametrize(
    ("name", "value"),
    [("rating", ["good"]), ("comment", 4), ("comment", True), ("comment", ["a"]), ("score", "4"), ("score", True)],
)
async def test_a_value_of_the_wrong_class_is_refused(name: str, value: Any) -> None:
    project_cache = FakeProjectCache(FeedbackType(type="score", kind="number"))
    with pytest.raises(Invalid, match=rf"^value: '{name}' is of the class"):
        await labels(project_cache, feedback(type="mood", value="calm"), feedback(type=name, value=value))
    assert project_cache.defined == [], "nothing of the array is added"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("action", [], "list is empty"),
        ("action", "", "1 to 1,000 characters"),
        ("rating", "x" * 1001, "1 to 1,000 characters"),
        ("comment", "x" * 100_001, "at most 100,000"),
    ],
)
async def test_a_value_of_the_wrong_length_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(Invalid, match=re.escape(message)):
        await labels(FakeProjectCache(), feedback(type=name, value=value))


async def test_feedback_of_an_array_is_validated_with_the_types_added_before_it() -> None:
    project_cache = FakeProjectCache()
    mood = [feedback(type="mood", value="calm"), feedback(type="mood", value="tense")]
    tags = [
        feedback(type="tags", value=["a"]),
        feedback(type="tags", value="b"),
        feedback(type="tags", value="a", unset=True),
    ]
    assert await labels(project_cache, *mood, *tags) == [[], [], ["a"], ["b"], ["a"]]
    assert project_cache.added == [("mood", "text", []), ("tags", "multi_select", ["a", "b"])]


async def test_unsetting_feedback_adds_no_types_and_no_labels() -> None:
    project_cache = FakeProjectCache()
    unset = [feedback(type="rating", unset=True), feedback(type="rating", value="never", unset=True)]
    new_types = [feedback(type="mood", unset=True), feedback(type="mood", value=["calm"], unset=True)]
    assert await labels(project_cache, *unset, feedback(type="action", value="a", unset=True), *new_types) == [
        [],
        [],
        ["a"],
        [],
        ["calm"],
    ]
    assert project_cache.defined == []
    with pytest.raises(Invalid, match="say which one"):
        await labels(project_cache, feedback(type="action", unset=True))


async def test_feedback_on_a_log_of_unknown_project_is_validated_by_the_standard_types() -> None:
    project_cache = FakeProjectCache()
    items = [
        feedback(type="action", value="a"),
        feedback(type="rating", value="super"),
        feedback(type="mood", value=2),
    ]
    assert await labels(project_cache, *items, projects={}) == [["a"], [], []]
    assert project_cache.defined == []
    with pytest.raises(Invalid):
        await labels(project_cache, feedback(type="comment", value=2), projects={})


def test_a_log_may_still_arrive_for_as_long_as_a_stream_may_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1_700_000_000.0
    monkeypatch.setattr("time.time_ns", lambda: int(clock * 1e9))
    minted = ids.mint("data")
    maximum = MAX_ARRIVAL_SECONDS
    for age_seconds, expected in ((-70, False), (-50, True), (maximum + 1, False), (maximum - 1, True), (0, True)):
        monkeypatch.setattr("time.time", lambda age_seconds=age_seconds: clock + age_seconds)
        assert may_still_arrive(minted) is expected
    assert not may_still_arrive(ids.derive("data", "tm_1", "a reference"))
    for other in ("data_1", minted.replace("data", "sesh"), f"{minted}0", ""):
        assert not may_still_arrive(other)


def test_the_response_to_unset_has_the_value_that_was_unset() -> None:
    rating = Feedback(id="ann_0", type="rating", value="good", created_at=START)
    before = FeedbackOfLogs(logs=[LogFeedback(log_id="data_1", project_id="pr_1", feedback=[rating])])
    unset = feedback("ann_1", unset=True)
    items = [
        unset,
        unset,
        feedback("ann_2", value="bad"),
        unset,
        feedback(type="action", value="a", labels=["a"], unset=True),
        feedback(log_id="data_2", unset=True),
    ]
    answers = feedback_responses(items, before)
    assert [one.value for one in answers] == ["good", None, "bad", "bad", "a", None]
    assert (answers[2].id, answers[2].data_id) == ("ann_2", "data_1")
