"""What is answered while accepted logs are not stored yet."""

from typing import Any, cast

import pytest

from services.logging.deps import Deps
from services.logging.handlers import logs, sessions
from services.logging.read_barrier import ReadBarrier
from shared.bus import ConsumerProgress
from shared.contracts.logs import GetFeedback
from shared.errors import Unavailable

READS = [
    route
    for router in (logs.router, sessions.router)
    for route in router._routes
    if route.message is not GetFeedback  # which says that it is not complete
]


async def _behind() -> ConsumerProgress:
    return ConsumerProgress(first_sequence=1, last_sequence=2, ack_floor=1)


@pytest.mark.parametrize("route", READS, ids=lambda route: route.message.__name__)
async def test_a_read_that_cannot_catch_up_is_unavailable_and_not_old(route: Any) -> None:
    """No store is there: what a read would find in it is not asked."""
    others = dict.fromkeys(name for name in Deps.__dataclass_fields__ if name != "read_barrier")
    deps = Deps(**cast("dict[str, Any]", others), read_barrier=ReadBarrier(_behind, 0.02))
    with pytest.raises(Unavailable) as refused:
        await route.function(route.message.model_construct(), deps)
    assert refused.value.retry_after_seconds
