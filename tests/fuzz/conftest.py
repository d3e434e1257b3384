"""Fixtures of the fuzz."""

from collections.abc import Iterator

import pytest

from tests import stack as stacks
from tests.stack import Stack


@pytest.fixture(scope="module")
def stack(stack_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own: failed sign-ins are counted by address, which is that of all tests."""
    running = stacks.start(tmp_path_factory.mktemp("stack"), "--no-model", environment=stack_environment)
    yield running
    running.stop()
