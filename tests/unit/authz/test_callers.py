"""CallerCache remembered, with a database and a bus written by hand."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from services.authz.callers import CallerCache
from services.authz.settings import Settings
from shared.bus import Bus
from shared.contracts.access import AccessChanged, Caller


class HandmadeBus:
    """Tells what it is told to."""

    def __init__(self) -> None:
        self.tell: Callable[[AccessChanged | None], None]

    async def subscribe(self, event: type[Any], heard: Callable[[AccessChanged | None], None]) -> None:
        assert event is AccessChanged
        self.tell = heard


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (AccessChanged(organisation="tm_1", what="role changed"), ["one", "two", "one"]),
        (AccessChanged(organisation="tm_3", what="role changed"), ["one", "two"]),
        (None, ["one", "two", "one", "two"]),
    ],
    ids=["theirs", "others'", "nobody knows which"],
)
async def test_what_changed_elsewhere_is_asked_again(change: AccessChanged | None, asked: list[str]) -> None:
    organisations = {"one": "tm_1", "two": "tm_2"}
    looked_up: list[str] = []

    async def look_up(key_hash: str) -> Caller:
        looked_up.append(key_hash)
        return Caller(
            organisation=organisations[key_hash], role="Admin", key_id="key_1", user_id="usr_1", email="ada@example.org"
        )

    bus = HandmadeBus()
    callers = CallerCache(look_up, Settings())
    await callers.listen(cast("Bus", bus))
    for _ in range(2):
        for key_hash in organisations:
            await callers.who(key_hash)
        if len(looked_up) == len(organisations):
            bus.tell(change)
    assert looked_up == asked
