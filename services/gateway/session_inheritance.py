"""Sessions of logs that name a parent and no session: they inherit the session of their parent.

Logging does the same when it stores them. Here it is done before, so that the answer can name the session.
"""

import logging
from collections.abc import Iterable, Mapping

from shared.bus import Bus
from shared.contracts.logs import GetSessionsOfLogs, LogRecord
from shared.contracts.principal import Principal
from shared.errors import Denied, Problem

LOOKUP_TIMEOUT_SECONDS = 1.0
"""How long accepting logs may be delayed by the lookup; after that they are accepted without it."""

logger = logging.getLogger(__name__)


def check_no_parent(caller: Principal, parent_id: str | None) -> None:
    """Raise Denied if the caller's key is limited to projects and a log names a parent.

    The parent may be of another project, which the session that the log inherits would show.
    """
    if caller.projects is not None and parent_id is not None:
        raise Denied("This key is limited to projects, and its logs may not name a parent.")


async def get_session_of_log(bus: Bus, organisation: str, log_id: str) -> str | None:
    """Return the session of a log; None if it has none, is not stored yet, or logging does not answer in time."""
    return (await _get_sessions_of_logs(bus, organisation, [log_id])).get(log_id)


async def inherit_sessions(bus: Bus, organisation: str, records: list[LogRecord]) -> list[LogRecord]:
    """Return the logs of one call, each without a session in that of its parent, which may be in the same call.

    The session of a log stays None where its parent's is not known.
    """
    parents = [it.parent_id for it in records if it.parent_id is not None and it.session_id is None]
    if not parents:
        return records
    sessions = _resolve_sessions(records, await _get_sessions_of_logs(bus, organisation, parents))
    return [
        it if it.session_id is not None else it.model_copy(update={"session_id": sessions[it.id]}) for it in records
    ]


async def _get_sessions_of_logs(bus: Bus, organisation: str, log_ids: Iterable[str]) -> Mapping[str, str | None]:
    """Return the session of each stored log by its id; nothing if logging does not answer in time."""
    query = GetSessionsOfLogs(
        principal=Principal.for_service("gateway", organisation), log_ids=list(dict.fromkeys(log_ids))
    )
    try:
        return (await bus.request(query, timeout_seconds=LOOKUP_TIMEOUT_SECONDS)).sessions
    except Problem as problem:
        logger.warning("the sessions of parent logs could not be looked up: %s", problem)
        return {}


def _resolve_sessions(records: Iterable[LogRecord], stored: Mapping[str, str | None]) -> Mapping[str, str | None]:
    """Return the session by log id. `stored` takes precedence over `records`: of one log sent twice the first stays."""
    sent = {it.id: it for it in records}
    sessions = dict(stored)
    for log_id in sent:
        path: dict[str, None] = {}
        ancestor_id = log_id
        while ancestor_id not in sessions and ancestor_id in sent and ancestor_id not in path:
            ancestor = sent[ancestor_id]
            if ancestor.session_id is not None or ancestor.parent_id is None:
                sessions[ancestor_id] = ancestor.session_id
            else:
                path[ancestor_id] = None
                ancestor_id = ancestor.parent_id
        sessions.update(dict.fromkeys(path, sessions.get(ancestor_id)))
    return sessions
