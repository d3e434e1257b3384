"""Which session a log belongs to: its own, else its parent's; a log whose parent is not known yet waits."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from services.logging.decoding import Entry
from shared.contracts.logs import LogRecord


class Key(NamedTuple):
    """A log, and the organisation without which its id means nothing."""

    organisation: str
    id: str


class Home(NamedTuple):
    """Where a log belongs. Settled without a session: it has none and never will, for logs do not change theirs."""

    session_id: str | None
    settled: bool = True


WAITING = Home(None, settled=False)


def key_of(log: LogRecord) -> Key:
    """The key of a log."""
    return Key(log.organisation, log.id)


def parent_of(log: LogRecord) -> Key | None:
    """The log whose session this one joins; None when its session does not depend on another log."""
    if log.session_id is not None or log.parent_id is None:
        return None
    return Key(log.organisation, log.parent_id)


def parents(logs: Iterable[Entry[LogRecord]]) -> set[Key]:
    """The logs that have to be asked for their session."""
    return {parent for entry in logs if (parent := parent_of(entry.record)) is not None}


def find_homes(logs: Iterable[Entry[LogRecord]], known: Mapping[Key, Home]) -> dict[Key, Home]:
    """The home of each log of a batch. `known` are settled logs that are stored; they outrank the batch."""
    batch = {key_of(entry.record): entry.record for entry in logs}
    homes = {key: Home(log.session_id) for key, log in batch.items() if parent_of(log) is None}
    for key in batch:
        if key in homes:
            continue
        path: dict[Key, None] = {}
        here: Key | None = key
        home: Home | None = None
        while home is None and here is not None:
            home = homes.get(here)
            if home is None:
                path[here] = None
                home, here = _step(batch[here], batch, known, path)
        homes.update(dict.fromkeys(path, home or WAITING))
    return homes


def _step(
    log: LogRecord, batch: Mapping[Key, LogRecord], known: Mapping[Key, Home], path: Mapping[Key, None]
) -> tuple[Home | None, Key | None]:
    """The home of a log, or the parent that has the same one."""
    parent = parent_of(log)
    if parent is None:
        return Home(log.session_id), None
    if parent in known:
        return known[parent], None
    if parent not in batch or parent in path:
        return WAITING, None
    return None, parent
