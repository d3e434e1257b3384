"""What feedback means by the class of its type, and what it adds to a project."""

import re
from typing import Any, cast

import pytest

from services.gateway.feedback_validation import MAX_ARRIVAL_SECONDS, may_still_arrive, validate_feedback
from services.gateway.project_cache import ProjectCache
from services.gateway.schemas.feedback import feedback_responses
from shared import ids
from shared.contracts.logs import Feedback, FeedbackGiven, FeedbackOfLogs, LogFeedback
from shared.contracts.projects import STANDARD_FEEDBACK, FeedbackType
from shared.errors import Invalid
from tests.unit.logging.builders import START, given

PROJECTS = {"data_1": "pr_1"}


class Known:
    """The part of the catalogue that feedback asks."""

    def __init__(self, *types: FeedbackType) -> None:
        self.types = {one.type: one for one in (*STANDARD_FEEDBACK, *types)}
        self.defined: list[FeedbackType] = []

    async def get_feedback_types(self, organisation: str, project_id: str) -> dict[str, FeedbackType]:
        """Of the one project."""
        assert (organisation, project_id) == ("tm_1", "pr_1")
        return self.types

    async def define_feedback_types(self, organisation: str, project_id: str, types: list[FeedbackType]) -> None:
        """Noted."""
        assert (organisation, project_id) == ("tm_1", "pr_1")
        self.defined += types

    @property
    def added(self) -> list[tuple[str, Any, list[str]]]:
        """Name, class and labels."""
        return [(one.type, one.kind, [label.value for label in one.labels]) for one in self.defined]


async def labels(known: Known, *several: FeedbackGiven, projects: dict[str, str] | None = None) -> list[list[str]]:
    """The labels that each concerns."""
    places = PROJECTS if projects is None else projects
    return [one.labels for one in await validate_feedback(cast("ProjectCache", known), "tm_1", list(several), places)]


@pytest.mark.parametrize(
    ("name", "value", "added", "concerned"),
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
async def test_what_is_new_is_added_to_the_project(name: str, value: Any, added: Any, concerned: list[str]) -> None:
    known = Known()
    assert await labels(known, given(type=name, value=value)) == [concerned]
    assert known.added == added


@pytest.mark.parametrize(
    ("name", "value"),
    [("rating", ["good"]), ("comment", 4), ("comment", True), ("comment", ["a"]), ("score", "4"), ("score", True)],
)
async def test_a_value_that_its_type_does_not_take_is_refused(name: str, value: Any) -> None:
    known = Known(FeedbackType(type="score", kind="number"))
    with pytest.raises(Invalid, match=rf"^value: '{name}' is of the class"):
        await labels(known, given(type="mood", value="calm"), given(type=name, value=value))
    assert known.defined == [], "of an array nothing is kept"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("action", [], "list is empty"),
        ("action", "", "1 to 1,000 characters"),
        ("rating", "x" * 1001, "1 to 1,000 characters"),
        ("comment", "x" * 100_001, "at most 100,000"),
    ],
)
async def test_what_is_too_short_or_too_long_is_refused(name: str, value: Any, said: str) -> None:
    with pytest.raises(Invalid, match=re.escape(said)):
        await labels(Known(), given(type=name, value=value))


async def test_an_array_builds_on_itself() -> None:
    known = Known()
    mood = [given(type="mood", value="calm"), given(type="mood", value="tense")]
    tags = [given(type="tags", value=["a"]), given(type="tags", value="b"), given(type="tags", value="a", unset=True)]
    assert await labels(known, *mood, *tags) == [[], [], ["a"], ["b"], ["a"]]
    assert known.added == [("mood", "text", []), ("tags", "multi_select", ["a", "b"])]


async def test_taking_back_adds_nothing() -> None:
    known = Known()
    back = [given(type="rating", unset=True), given(type="rating", value="never", unset=True)]
    strange = [given(type="mood", unset=True), given(type="mood", value=["calm"], unset=True)]
    assert await labels(known, *back, given(type="action", value="a", unset=True), *strange) == [
        [],
        [],
        ["a"],
        [],
        ["calm"],
    ]
    assert known.defined == []
    with pytest.raises(Invalid, match="say which one"):
        await labels(known, given(type="action", unset=True))


async def test_where_the_project_is_not_known_what_every_project_has_counts() -> None:
    known = Known()
    several = [given(type="action", value="a"), given(type="rating", value="super"), given(type="mood", value=2)]
    assert await labels(known, *several, projects={}) == [["a"], [], []]
    assert known.defined == []
    with pytest.raises(Invalid):
        await labels(known, given(type="comment", value=2), projects={})


def test_a_log_may_come_as_long_as_its_stream_may_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1_700_000_000.0
    monkeypatch.setattr("time.time_ns", lambda: int(clock * 1e9))
    minted = ids.mint("data")
    last = MAX_ARRIVAL_SECONDS
    for later, expected in ((-70, False), (-50, True), (last + 1, False), (last - 1, True), (0, True)):
        monkeypatch.setattr("time.time", lambda later=later: clock + later)
        assert may_still_arrive(minted) is expected
    assert not may_still_arrive(ids.derive("data", "tm_1", "a reference"))
    for other in ("data_1", minted.replace("data", "sesh"), f"{minted}0", ""):
        assert not may_still_arrive(other)


def test_what_was_taken_back_is_told() -> None:
    rating = Feedback(id="ann_0", type="rating", value="good", created_at=START)
    before = FeedbackOfLogs(logs=[LogFeedback(log_id="data_1", project_id="pr_1", feedback=[rating])])
    back = given("ann_1", unset=True)
    several = [
        back,
        back,
        given("ann_2", value="bad"),
        back,
        given(type="action", value="a", labels=["a"], unset=True),
        given(log_id="data_2", unset=True),
    ]
    answers = feedback_responses(several, before)
    assert [one.value for one in answers] == ["good", None, "bad", "bad", "a", None]
    assert (answers[2].id, answers[2].data_id) == ("ann_2", "data_1")
