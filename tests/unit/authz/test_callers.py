"""The cache of callers, with a database and a bus written by hand."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from services.authz.callers import CallerCache
from services.authz.settings import Settings
from shared.bus import Bus
from shared.contracts.access.authentication import AccessChanged
from shared.contracts.principal import Principal


class FakeBus:
    """Keeps the subscriber, so that a test can deliver events."""

    def __init__(self) -> None:
        self.deliver: Callable[[AccessChanged | None], None]

    async def subscribe(self, event_class: type[Any], subscriber: Callable[[AccessChanged | None], None]) -> None:
        assert event_class is AccessChanged
        self.deliver = subscriber


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (AccessChanged(organisation="tm_1", what="role changed"), ["one", "two", "one"]),
        (AccessChanged(organisation="tm_3", what="role changed"), ["one", "two"]),
        (None, ["one", "two", "one", "two"]),
    ],
    ids=["one organisation", "another organisation", "reconnect"],
)
async def test_principals_changed_by_another_replica_are_looked_up_again(
    event: AccessChanged | None, expected: list[str]
) -> None:
    organisations = {"one": "tm_1", "two": "tm_2"}
    looked_up: list[str] = []

    async def look_up(key_hash: str) -> Principal:
        looked_up.append(key_hash)
        return Principal(
            organisation=organisations[key_hash], role="Admin", key_id="key_1", user_id="usr_1", email="ada@example.org"
        )

    bus = FakeBus()
    callers = CallerCache(look_up, look_up, Settings(secret="s" * 43 + "="))
    await callers.subscribe(cast("Bus", bus))
    for _ in range(2):
        for key_hash in organisations:
            await callers.get_by_key(key_hash)
        if len(looked_up) == len(organisations):
            bus.deliver(event)
    assert looked_up == expected
