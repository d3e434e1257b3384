"""Assigns sessions to stored descendants of logs that are resolved: a few when a batch is stored, many beside that.

A log is written before its parent is looked up, and a parent is resolved before its children are looked up. So if two
processes do so at once, at least one of them sees the other's write. After a crash the second look is still to be had:
every log is a pending ancestor from before it is resolved until its children were looked up after that. Its session is
stored before, so whoever finds a pending ancestor may assign its session, to itself as well.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from services.logging.purge import Purge
from services.logging.session_resolution import SessionAssignment
from services.logging.sessions import SessionRecord, merge_session_records
from services.logging.store import DeletionStore, LogDeletionStore, SessionStore, UnresolvedLog, UnresolvedLogStore
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

LEVELS_WITH_BATCH = 16
"""Generations that are resolved before a batch counts as stored: each takes a round trip to the database."""
LOGS_AT_ONCE = 1000
"""Descendants that are resolved together. Bounds memory, and how long a batch or another organisation waits."""
MAX_IN_MEMORY = 20_000
"""Unresolved logs of an organisation that are read together (10 MB) to follow a deep chain. With more of them, each
generation of a chain takes a round trip to the database.
"""
_POLL_SECONDS = 10.0
"""How often to look for pending ancestors that other replicas inserted and did not finish."""

Assignments = dict[str, SessionAssignment]
"""By log id."""
ListChildren = Callable[[str, Iterable[str], int], Awaitable[list[UnresolvedLog]]]
"""Returns unresolved logs of an organisation by parents, not more than a number, ordered by `parent_id`."""


class _Found(NamedTuple):
    """Unresolved descendants of some logs."""

    assignments: Assignments
    """What they inherit."""
    logs: list[UnresolvedLog]
    open: set[str]
    """Those of the logs and their descendants that may have more unresolved children than were found."""


class DescendantResolution:
    """Resolves descendants. Any number of replicas may, and what a killed one has begun is finished."""

    def __init__(
        self,
        unresolved: UnresolvedLogStore,
        sessions: SessionStore,
        deletions: DeletionStore,
        log_deletions: LogDeletionStore,
        purge: Purge,
    ) -> None:
        self._unresolved = unresolved
        self._sessions = sessions
        self._deletions = deletions
        self._log_deletions = log_deletions
        self._purge = purge
        self._wake = asyncio.Event()

    async def resolve_first(self, organisation: str, ancestors: Assignments) -> None:
        """Assign the sessions of `ancestors` to the first of their unresolved descendants, `LEVELS_WITH_BATCH` and
        `LOGS_AT_ONCE` at most. `run` does the rest.
        """
        if not await self._unresolved.has_any(organisation):
            return
        found = await _find(organisation, ancestors, LEVELS_WITH_BATCH, self._unresolved.list_children)
        if not found.logs:
            return
        parents = found.open | {log.parent_id for log in found.logs}
        with_children = {log_id: assignment for log_id, assignment in ancestors.items() if log_id in parents}
        left = await self._assign(organisation, with_children, found)
        if left and not found.open:  # what another replica stored meanwhile
            found = await _find(organisation, left, LEVELS_WITH_BATCH, self._unresolved.list_children)
            left = await self._assign(organisation, left, found)
        if left:
            self._wake.set()

    async def run(self) -> None:
        """Resolve what is left until cancelled, beginning with what an earlier process left; errors are logged and
        tried again.
        """
        while True:
            self._wake.clear()
            try:
                await self.resolve_pending()
            except Unavailable as error:
                logger.warning("descendants stay without their session for now", extra={"error": error.message})
            except Exception:
                logger.exception("descendants could not be given their session")
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._wake.wait()

    async def resolve_pending(self) -> None:
        """Resolve the descendants of all pending ancestors, some of each organisation in turn. Raises the first error
        after it has done what it can for every organisation; Unavailable without MongoDB at once.
        """
        errors: dict[str, Exception] = {}
        while organisations := set(await self._unresolved.list_organisations()) - errors.keys():
            for organisation in organisations:
                try:
                    await self._resolve_some(organisation)
                except Unavailable:
                    raise
                except Exception as error:  # noqa: BLE001 - raised after the others had their turn
                    errors[organisation] = error
        if errors:
            raise next(iter(errors.values()))

    async def _resolve_some(self, organisation: str) -> None:
        """Resolve descendants of some pending ancestors: `LOGS_AT_ONCE` at most, or else deep chains of them."""
        list_children = self._unresolved.list_children
        ancestors = await self._unresolved.list_ancestors(organisation, LOGS_AT_ONCE)
        found = await _find(organisation, ancestors, LEVELS_WITH_BATCH, list_children)
        deeper = await self._assign(organisation, ancestors, found)
        if not found.open or len(found.logs) == LOGS_AT_ONCE:
            return
        unresolved = await self._unresolved.list_all(organisation, MAX_IN_MEMORY)
        if unresolved is None:
            await self._assign(organisation, deeper, await _find(organisation, deeper, LOGS_AT_ONCE, list_children))
            return
        family = _Family(unresolved)
        while found.logs:
            found = await _find(organisation, deeper, LOGS_AT_ONCE, family.take_children)
            deeper = await self._assign(organisation, deeper, found)

    async def _assign(self, organisation: str, ancestors: Assignments, found: _Found) -> Assignments:
        """Resolve `ancestors` and the descendants found; return those of them that are pending ancestors still."""
        resolved = ancestors | found.assignments
        records = [
            SessionRecord(organisation, session_id, log.created_at, frozenset({log.project_id}))
            for log in found.logs
            if (session_id := found.assignments[log.id].session_id) is not None
        ]
        removals = await self._sessions.count_removals()
        await self._sessions.upsert_sessions(merge_session_records(records))
        await self._unresolved.insert_ancestors(organisation, resolved)
        resolved_count = await self._unresolved.update_assignments(organisation, resolved)
        await self._check_sessions(organisation, records, removals, all_resolved=resolved_count >= len(found.logs))
        closed = resolved.keys() - found.open
        late = await self._unresolved.list_children(organisation, closed, LOGS_AT_ONCE)
        left = found.open | {log.parent_id for log in late}
        if len(late) == LOGS_AT_ONCE:
            left |= _not_exhausted(closed, late)
        await self._unresolved.delete_ancestors(organisation, resolved.keys() - left)
        return {log_id: resolved[log_id] for log_id in left}

    async def _check_sessions(
        self, organisation: str, records: list[SessionRecord], removals: int, *, all_resolved: bool
    ) -> None:
        """Make up for what was deleted since the descendants were found: logs, projects, or their sessions."""
        if not records:
            return
        await self._sessions.upsert_sessions(merge_session_records(records))  # looks for removals
        joined = {(record.id, project_id) for record in records for project_id in record.project_ids}
        if not all_resolved or await self._sessions.count_removals() != removals:
            list_with_logs = self._log_deletions.list_sessions_with_logs
            await self._sessions.remove_from_sessions(organisation, joined, list_with_logs)
        if deleted := await self._deletions.get_many_deleted({(organisation, project_id) for _, project_id in joined}):
            await self._deletions.mark_pending(deleted)
            self._purge.wake()


class _Family:
    """Unresolved logs by their parent, in memory."""

    def __init__(self, logs: Iterable[UnresolvedLog]) -> None:
        self._children: dict[str, list[UnresolvedLog]] = {}
        for log in logs:
            self._children.setdefault(log.parent_id, []).append(log)

    async def take_children(self, _organisation: str, parent_ids: Iterable[str], limit: int) -> list[UnresolvedLog]:
        """Return children, at most `limit`, ordered by `parent_id`, and forget them."""
        taken: list[UnresolvedLog] = []
        for parent_id in sorted(self._children.keys() & parent_ids):
            children = self._children[parent_id]
            while children and len(taken) < limit:
                taken.append(children.pop())
            if not children:
                del self._children[parent_id]
        return taken


async def _find(organisation: str, ancestors: Assignments, max_levels: int, list_children: ListChildren) -> _Found:
    """Return unresolved children, grandchildren and so on: of `max_levels`, and `LOGS_AT_ONCE`, at most."""
    found = _Found({}, [], set())
    parents = ancestors
    for _ in range(max_levels):
        limit = LOGS_AT_ONCE - len(found.logs)
        children = await list_children(organisation, parents, limit)
        new = [log for log in children if log.id not in ancestors and log.id not in found.assignments]
        inherited = {log.id: parents[log.parent_id] for log in new}
        found.assignments.update(inherited)
        found.logs.extend(new)
        if len(children) == limit:
            found.open.update(inherited, _not_exhausted(parents, children))
            return found
        if not new:
            return found
        parents = inherited
    found.open.update(parents)
    return found


def _not_exhausted(parents: Iterable[str], children: list[UnresolvedLog]) -> set[str]:
    """Return those of the parents that may have more children than these, which are the first by `parent_id`."""
    return {parent for parent in parents if parent >= children[-1].parent_id}
