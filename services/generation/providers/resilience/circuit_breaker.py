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


class Resting(Exception):  # noqa: N818 - no error: nobody was asked
    """It failed too often and is left alone for so long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass
class _Failing:
    failures: int = 0
    trying: bool = False
    """Whether the one call after the rest is under way."""
    rests_until: float = 0.0
    """On the clock of `time.monotonic`."""


class Circuits:
    """Of everyone that failed lately. What never failed, or answered since, is not in here."""

    def __init__(self, failures: int, rest_seconds: float) -> None:
        self._most_failures = failures
        self._rest_seconds = rest_seconds
        self._failing: OrderedDict[Hashable, _Failing] = OrderedDict()

    @contextmanager
    def through(self, whom: Hashable) -> Iterator[None]:
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
        if failing.trying or now < failing.rests_until:
            raise Resting(self._rest_seconds if failing.trying else failing.rests_until - now)
        failing.trying, failing.rests_until = True, now + self._rest_seconds
        return failing

    def _failed(self, whom: Hashable) -> None:
        failing = self._failing.setdefault(whom, _Failing())
        failing.failures += 1
        failing.rests_until = time.monotonic() + self._rest_seconds
        self._failing.move_to_end(whom)
        if len(self._failing) > _MOST:
            self._failing.popitem(last=False)
