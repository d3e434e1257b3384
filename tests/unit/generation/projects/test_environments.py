"""Environments: unique names, exactly one default, whatever is done to them."""

from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.projects.environments import EnvironmentSet, EnvironmentSets, initial_set
from services.generation.store import EnvironmentStore, StoredEnvironments
from shared.errors import Conflict, Invalid, NotFound, Problem
from shared.mongo import Session
from tests.audit_outbox import NO_SESSION

NOW = datetime(2023, 11, 28, tzinfo=UTC)
START = initial_set("tm_1")
PRODUCTION = START.default.id


def two() -> EnvironmentSet:
    """Production and staging."""
    return START.with_added("env_staging", "staging", NOW)


def test_the_initial_environment_is_the_same_on_every_call() -> None:
    assert initial_set("tm_1") == START
    assert initial_set("tm_2").default.id != PRODUCTION
    assert [(one.name, one.default) for one in START] == [("production", True)]


def test_adding_the_same_environment_again_changes_nothing() -> None:
    once = two()
    assert once.with_added("env_staging", "staging", NOW) is once


def test_a_new_default_replaces_the_former_one() -> None:
    after = two().with_default("env_staging")
    assert [(one.name, one.default) for one in after] == [("staging", True), ("production", False)]
    assert after.with_default("env_staging") is after
    assert after.get_by_name(None).name == "staging"


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(Conflict, match="staging"):
        two().with_added("env_2", "staging", NOW)
    with pytest.raises(Conflict, match="production"):
        two().with_renamed("env_staging", "production")
    assert two().with_renamed("env_staging", "staging") == two()


@pytest.mark.parametrize("name", ["", " ", " x", "x ", "x" * 101])
def test_a_blank_untrimmed_or_long_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        two().with_renamed("env_staging", name)


def test_the_default_environment_cannot_be_deleted() -> None:
    with pytest.raises(Conflict, match="default"):
        two().without(PRODUCTION)
    assert list(two().without("env_staging")) == list(START)


def test_an_unknown_environment_is_not_found() -> None:
    for act in (
        lambda: two().get("env_unknown"),
        lambda: two().get_by_name("unknown"),
        lambda: two().with_renamed("env_unknown", "x"),
        lambda: two().with_default("env_unknown"),
        lambda: two().without("env_unknown"),
    ):
        with pytest.raises(NotFound, match="unknown"):
            act()


def test_an_organisation_has_at_most_a_hundred_environments() -> None:
    many = START
    for number in range(99):
        many = many.with_added(f"env_{number}", f"name {number}", NOW)
    with pytest.raises(Invalid, match="at most"):
        many.with_added("env_100", "one too many", NOW)


_IDS = st.sampled_from([PRODUCTION, "env_a", "env_b", "env_c"])
_NAMES = st.sampled_from(["production", "a", "b"])
_STEPS = st.one_of(
    st.tuples(st.just("new"), _IDS, _NAMES),
    st.tuples(st.just("name"), _IDS, _NAMES),
    st.tuples(st.just("default"), _IDS, _NAMES),
    st.tuples(st.just("delete"), _IDS, _NAMES),
)


@given(st.lists(_STEPS, max_size=30))
def test_after_any_changes_one_is_the_default_and_names_are_unique(steps: list[tuple[str, str, str]]) -> None:
    now = START
    for what, environment_id, name in steps:
        try:
            match what:
                case "new":
                    after = now.with_added(environment_id, name, NOW)
                case "name":
                    after = now.with_renamed(environment_id, name)
                case "default":
                    after = now.with_default(environment_id)
                case _:
                    after = now.without(environment_id)
        except Problem:
            continue
        assert after.revision == now.revision + (after is not now)
        now = after
        assert [one.default for one in now].count(True) == 1
        assert len({one.name for one in now}) == len({one.id for one in now}) == len(now.environments)


class MemoryEnvironments:
    """EnvironmentStore in a dictionary."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredEnvironments] = {}

    async def get(self, organisation: str) -> StoredEnvironments | None:
        return self.stored.get(organisation)

    async def save(self, organisation: str, stored: StoredEnvironments, _: Session) -> bool:
        before = self.stored.get(organisation)
        if stored.revision != (before.revision if before else 0) + 1:
            return False
        self.stored[organisation] = stored
        return True


async def test_an_organisation_that_never_changed_its_environments_has_the_initial_set_and_stores_nothing() -> None:
    store = MemoryEnvironments()
    assert await EnvironmentSets(cast("EnvironmentStore", store)).get("tm_1") == START
    assert store.stored == {}


async def test_a_saved_set_is_read_back_and_a_change_of_an_older_one_is_not_saved() -> None:
    sets = EnvironmentSets(cast("EnvironmentStore", MemoryEnvironments()))
    assert await sets.save(two(), NO_SESSION)
    assert await sets.get("tm_1") == two()
    assert not await sets.save(START.with_added("env_late", "late", NOW), NO_SESSION)
    assert await sets.save((await sets.get("tm_1")).with_default("env_staging"), NO_SESSION)
    assert (await sets.get("tm_1")).default.name == "staging"
    assert await sets.get("tm_2") == initial_set("tm_2")
