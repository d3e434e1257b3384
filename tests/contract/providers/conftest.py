"""Makes a client cheap: there is one for each of some thousand tests."""

import ssl
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from services.generation.providers.transport import connections


@pytest.fixture(scope="package", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """Load the machine's certificates once: it takes 20 ms, and the fake servers use none."""
    context = ssl.create_default_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "ssl", SimpleNamespace(create_default_context=lambda: context))
        yield
