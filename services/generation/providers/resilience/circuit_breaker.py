"""A circuit breaker per key: after so many failures in a row calls are refused for a while; then one trial call is let
through."""

import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.generation.providers import errors
from shared.errors import Problem

_MAX_CIRCUITS = 10_000
"""Circuits in memory, those of the latest failures: callers can invent any number of addresses."""


class CircuitOpen(Exception):  # noqa: N818 - no error: nothing was called
    """The circuit is open: the call was not made."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: until a call may be tried again."""
        super().__init__(seconds)
        self.seconds = seconds


@dataclass
class _Circuit:
    failures: int = 0
    """In a row."""
    half_open: bool = False
    """Whether the trial call is under way."""
    open_until: float = 0.0
    """On the clock of `time.monotonic`."""


class CircuitBreaker:
    """The circuits of all keys whose last counted call failed; the others are closed and take no memory."""

    def __init__(self, failure_threshold: int, open_seconds: float) -> None:
        self._failure_threshold = failure_threshold
        self._open_seconds = open_seconds
        self._circuits: OrderedDict[Hashable, _Circuit] = OrderedDict()

    @contextmanager
    def guard(self, key: Hashable) -> Iterator[None]:
        """Run a call to `key` and judge it by how it ends. Raises CircuitOpen, and what the call raises.

        A response closes the circuit, also an error response. Neutral are failures that may be due to the request, and
        calls abandoned by their caller.
        """
        trial = self._admit(key)
        try:
            yield
        except Problem as problem:
            if errors.counts_as_failure(problem):
                self._count_failure(key)
            elif not problem.retryable:
                self._circuits.pop(key, None)
            raise
        else:
            self._circuits.pop(key, None)
        finally:
            if trial:
                trial.half_open = False

    def _admit(self, key: Hashable) -> _Circuit | None:
        """Return the circuit if the call is its trial call, None if it is closed. Raises CircuitOpen."""
        circuit = self._circuits.get(key)
        if circuit is None or circuit.failures < self._failure_threshold:
            return None
        now = time.monotonic()
        if circuit.half_open or now < circuit.open_until:
            raise CircuitOpen(self._open_seconds if circuit.half_open else circuit.open_until - now)
        circuit.half_open, circuit.open_until = True, now + self._open_seconds
        return circuit

    def _count_failure(self, key: Hashable) -> None:
        circuit = self._circuits.setdefault(key, _Circuit())
        circuit.failures += 1
        circuit.open_until = time.monotonic() + self._open_seconds
        self._circuits.move_to_end(key)
        if len(self._circuits) > _MAX_CIRCUITS:
            self._circuits.popitem(last=False)
