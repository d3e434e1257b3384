"""Circuits: whoever failed so many calls in a row is left alone for a while; then one call may try."""

import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.generation.providers import errors
from shared.errors import Problem

_MOST = 10_000
"""Circuits remembered, those of the last failures: an address costs its caller nothing to invent."""


class CircuitOpen(Exception):  # noqa: N818 - no error: nobody was asked
    """It failed too often and is left alone for so long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass
class _Failing:
    failures: int = 0
    trying: bool = False
    """Whether the one call after the rest is under way."""
    open_until: float = 0.0
    """On the clock of `time.monotonic`."""


class CircuitBreaker:
    """Of everyone that failed lately. What never failed, or answered since, is not in here."""

    def __init__(self, failures: int, open_seconds: float) -> None:
        self._most_failures = failures
        self._open_seconds = open_seconds
        self._failing: OrderedDict[Hashable, _Failing] = OrderedDict()

    @contextmanager
    def guard(self, whom: Hashable) -> Iterator[None]:
        """A call to `whom`, judged by how it ends. Errors: Resting, and those of the call.

        An answer, be it a refusal, closes the circuit. A failure that may be the call's own, and a call that nobody
        waited for, say nothing.
        """
        trial = self._enter(whom)
        try:
            yield
        except Problem as problem:
            if errors.in_trouble(problem):
                self._failed(whom)
            elif not problem.retryable:
                self._failing.pop(whom, None)
            raise
        else:
            self._failing.pop(whom, None)
        finally:
            if trial:
                trial.trying = False

    def _enter(self, whom: Hashable) -> _Failing | None:
        """What is known of `whom`, if this is the call that tries."""
        failing = self._failing.get(whom)
        if failing is None or failing.failures < self._most_failures:
            return None
        now = time.monotonic()
        if failing.trying or now < failing.open_until:
            raise CircuitOpen(self._open_seconds if failing.trying else failing.open_until - now)
        failing.trying, failing.open_until = True, now + self._open_seconds
        return failing

    def _failed(self, whom: Hashable) -> None:
        failing = self._failing.setdefault(whom, _Failing())
        failing.failures += 1
        failing.open_until = time.monotonic() + self._open_seconds
        self._failing.move_to_end(whom)
        if len(self._failing) > _MOST:
            self._failing.popitem(last=False)
