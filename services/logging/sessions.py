"""A session: who takes part, its totals, and its tree of logs."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from services.logging.session_resolution import Home, Key
from shared.contracts.logs import LogRecord, Session


class Presence(NamedTuple):
    """That a session exists, since when, and which projects have logs in it."""

    organisation: str
    id: str
    created_at: datetime
    project_ids: frozenset[str] = frozenset()
    reference_id: str | None = None

    def covers(self, other: "Presence") -> bool:
        """Whether `other` says nothing new."""
        return (
            self.created_at <= other.created_at
            and self.project_ids >= other.project_ids
            and (other.reference_id is None or self.reference_id is not None)
        )

    def with_(self, other: "Presence") -> "Presence":
        """What both say together."""
        return Presence(
            self.organisation,
            self.id,
            min(self.created_at, other.created_at),
            self.project_ids | other.project_ids,
            self.reference_id if self.reference_id is not None else other.reference_id,
        )


def presences(found: Iterable[Presence]) -> list[Presence]:
    """One for each session."""
    together: dict[Key, Presence] = {}
    for presence in found:
        key = Key(presence.organisation, presence.id)
        known = together.get(key)
        together[key] = presence if known is None else known.with_(presence)
    return list(together.values())


def presence_of(log: LogRecord, home: Home) -> Presence | None:
    """What a log says of its session."""
    if home.session_id is None:
        return None
    reference = log.session_reference_id if log.session_id is not None else None
    return Presence(log.organisation, home.session_id, log.created_at, frozenset({log.project_id}), reference)


class Tally(NamedTuple):
    """What a session holds of one project."""

    session_id: str
    project_id: str
    logs: int
    """How many."""
    first: tuple[datetime, int]
    """When its first log was created, and that log's place in the order of acceptance."""
    first_inputs: dict[str, Any]
    last: tuple[datetime, int] | None
    """When an output was last set, and the place of its log; None if there is no output."""
    last_output: str | None
    updated_at: datetime


def summary(presence: Presence, tallies: Sequence[Tally]) -> Session:
    """The session as shown. Without logs it has nothing but its beginning."""
    if not tallies:
        return Session(
            id=presence.id,
            reference_id=presence.reference_id,
            project_ids=[],
            datapoints_count=0,
            created_at=presence.created_at,
            updated_at=presence.created_at,
        )
    by_first = sorted(tallies, key=lambda tally: tally.first)
    outputs = [(tally.last, tally.last_output) for tally in tallies if tally.last is not None]
    return Session(
        id=presence.id,
        reference_id=presence.reference_id,
        project_ids=[tally.project_id for tally in by_first],
        datapoints_count=sum(tally.logs for tally in tallies),
        first_inputs=by_first[0].first_inputs,
        last_output=max(outputs)[1] if outputs else None,
        created_at=presence.created_at,
        updated_at=max(presence.created_at, *(tally.updated_at for tally in tallies)),
    )
