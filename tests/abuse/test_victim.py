"""The organisation beside an attack is one of its own, and sees a failure if there is one."""

import httpx
import pytest

from tests.abuse.memory import PeakMemory
from tests.abuse.victim import Victim
from tests.calls import ok
from tests.stack import Stack


def test_the_victim_is_an_organisation_of_its_own(api: httpx.Client, victim: Victim, memory: PeakMemory) -> None:
    victims = ok(httpx.get(f"{victim.url}/projects", headers={"X-API-KEY": victim.api_key}))["records"]
    assert "victim" in {project["name"] for project in victims}
    attackers = ok(api.get("/projects", params={"size": 100}))["records"]
    assert not {project["id"] for project in victims} & {project["id"] for project in attackers}
    assert set(memory.by_service()) == {"gateway", "generation", "logging", "evaluation", "authz"}


def test_a_failed_call_of_the_victim_fails_the_test(stack: Stack) -> None:
    with pytest.raises(AssertionError, match="401"), Victim(stack.url, "hl_of_nobody").calling():
        pass
