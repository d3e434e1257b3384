"""Which session a log is in that names a parent and no session: its parent's, if that is known.

Logging would place it there all the same when it is stored. Asked before, it can be told to the caller.
"""

import logging
from collections.abc import Iterable, Mapping

from shared.bus import Bus
from shared.contracts.logs import GetSessionsOfLogs, LogRecord
from shared.contracts.principal import Principal
from shared.errors import Problem

LOOKUP_TIMEOUT_SECONDS = 1.0
"""Logs are accepted while nobody can say where their parents are, so this is all they wait for it."""

logger = logging.getLogger(__name__)


async def session_of(bus: Bus, organisation: str, parent_id: str) -> str | None:
    """The session of a log; None: it has none, or it is not known yet, or nobody can say."""
    return (await _known(bus, organisation, [parent_id])).get(parent_id)


async def with_sessions(bus: Bus, organisation: str, records: list[LogRecord]) -> list[LogRecord]:
    """Logs of one call, each in its own session or else in its parent's, which may be in the call, too."""
    parents = [it.parent_id for it in records if it.parent_id is not None and it.session_id is None]
    if not parents:
        return records
    sessions = _sessions(records, await _known(bus, organisation, parents))
    return [
        it if it.session_id is not None else it.model_copy(update={"session_id": sessions[it.id]}) for it in records
    ]


async def _known(bus: Bus, organisation: str, log_ids: Iterable[str]) -> Mapping[str, str | None]:
    query = GetSessionsOfLogs(
        principal=Principal.of_service("gateway", organisation), log_ids=list(dict.fromkeys(log_ids))
    )
    try:
        return (await bus.request(query, timeout_seconds=LOOKUP_TIMEOUT_SECONDS)).sessions
    except Problem as problem:
        logger.warning("the session of a parent is not told: %s", problem)
        return {}


def _sessions(records: Iterable[LogRecord], known: Mapping[str, str | None]) -> Mapping[str, str | None]:
    """By log. What is stored outranks the call, as it does in logging: of one log sent twice the first stays."""
    sent = {it.id: it for it in records}
    found = dict(known)
    for log_id in sent:
        path: dict[str, None] = {}
        here = log_id
        while here not in found and here in sent and here not in path:
            log = sent[here]
            if log.session_id is not None or log.parent_id is None:
                found[here] = log.session_id
            else:
                path[here] = None
                here = log.parent_id
        found.update(dict.fromkeys(path, found.get(here)))
    return found
