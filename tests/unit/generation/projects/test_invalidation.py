"""Invalidation: callbacks run for own changes before they are published, and for the changes of other replicas."""

from collections.abc import Callable
from typing import cast

import pytest

from services.generation.projects.invalidation import Invalidation
from shared.bus import Bus
from shared.contracts.generation.projects import ProjectChanged
from shared.errors import Unavailable

CHANGE = ProjectChanged(organisation="tm_1", project_id="pr_1", what="renamed")


class MemoryBus:
    """Records published events and their message ids in `steps`, and the callback of the subscription."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps
        self.message_ids: list[str] = []
        self.callback: Callable[[ProjectChanged | None], None] | None = None
        self.away = False

    async def publish_event(self, event: ProjectChanged, *, message_id: str) -> None:
        if self.away:
            raise Unavailable("The bus is away.")
        self.steps.append(f"published {event.what}")
        self.message_ids.append(message_id)

    async def subscribe(self, event: type[ProjectChanged], callback: Callable[[ProjectChanged | None], None]) -> None:
        assert event is ProjectChanged
        self.callback = callback


@pytest.fixture
def steps() -> list[str]:
    return []


@pytest.fixture
def bus(steps: list[str]) -> MemoryBus:
    return MemoryBus(steps)


@pytest.fixture
def invalidation(bus: MemoryBus, steps: list[str]) -> Invalidation:
    """With two callbacks that record what they are called with."""
    made = Invalidation(cast("Bus", bus))
    for name in ("one", "two"):
        made.register(lambda change, name=name: steps.append(f"{name} {change and change.what}"))  # type: ignore[misc]
    return made


async def test_every_callback_runs_before_the_change_is_published(invalidation: Invalidation, steps: list[str]) -> None:
    await invalidation.publish(CHANGE)
    assert steps == ["one renamed", "two renamed", "published renamed"]


async def test_callbacks_run_even_if_publishing_fails(
    invalidation: Invalidation, bus: MemoryBus, steps: list[str]
) -> None:
    bus.away = True
    with pytest.raises(Unavailable):
        await invalidation.publish(CHANGE)
    assert steps == ["one renamed", "two renamed"]


async def test_changes_of_other_replicas_and_reconnects_reach_every_callback(
    invalidation: Invalidation, bus: MemoryBus, steps: list[str]
) -> None:
    await invalidation.subscribe()
    assert bus.callback
    bus.callback(CHANGE)
    bus.callback(None)
    assert steps == ["one renamed", "two renamed", "one None", "two None"]


async def test_equal_causes_are_one_event_and_everything_else_is_another(
    invalidation: Invalidation, bus: MemoryBus
) -> None:
    other_project = CHANGE.model_copy(update={"project_id": "pr_2"})
    other_organisation = CHANGE.model_copy(update={"organisation": "tm_2"})
    of_the_organisation = ProjectChanged(organisation="tm_1", what="environments")
    await invalidation.publish(CHANGE, "dep_1")
    await invalidation.publish(CHANGE.model_copy(), "dep_1")
    assert len(set(bus.message_ids)) == 1
    await invalidation.publish(CHANGE, "dep_2")
    for change in (other_project, other_organisation, of_the_organisation):
        await invalidation.publish(change, "dep_1")
    assert len(set(bus.message_ids)) == 5
