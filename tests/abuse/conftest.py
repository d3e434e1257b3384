"""Fixtures of the attacks: an attacked stack, the organisation beside the attacker, and the memory of the services."""

from collections.abc import Iterator

import httpx
import pytest

from tests import stack as stacks
from tests.abuse.memory import PeakMemory
from tests.abuse.victim import Victim
from tests.organisations import add_organisation
from tests.stack import Stack


@pytest.fixture(scope="module")
def stack(stack_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own for each file: what one attack leaves in memory is not another one's."""
    running = stacks.start(tmp_path_factory.mktemp("stack"), "--no-model", environment=stack_environment)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[httpx.Client]:
    """An HTTP client of the v4 API with the attacker's key."""
    with httpx.Client(base_url=stack.url, headers={"X-API-KEY": stack.api_key}, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def victim_key(stack: Stack) -> str:
    """The API key of an organisation that is not the attacker's."""
    return add_organisation(stack)


@pytest.fixture
def victim(stack: Stack, victim_key: str) -> Iterator[Victim]:
    """That organisation; while the test runs it calls, and each of its calls must be answered with 200."""
    victim = Victim(stack.url, victim_key)
    with victim.calling():
        yield victim


@pytest.fixture
def memory(stack: Stack) -> Iterator[PeakMemory]:
    """The peak memory of each service during the test, which must stay bounded."""
    peak = PeakMemory(stack)
    yield peak
    peak.assert_bounded()
