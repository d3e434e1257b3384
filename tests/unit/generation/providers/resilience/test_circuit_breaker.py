"""What circuits remember, and what they forget."""

import pytest

from services.generation.providers import errors
from services.generation.providers.resilience import circuit_breaker
from services.generation.providers.resilience.circuit_breaker import CircuitBreaker, CircuitOpen
from shared.errors import Invalid, RateLimited, Unavailable


def fail(circuit_breaker: CircuitBreaker, whom: str, problem: Exception | None = None) -> None:
    problem = problem or Unavailable("away")
    with pytest.raises(type(problem)), circuit_breaker.guard(whom):
        raise problem


def test_an_answer_ends_the_row() -> None:
    tried = CircuitBreaker(2, 60)
    for ending in (None, Invalid("no")):
        fail(tried, "a")
        if ending is None:
            with tried.guard("a"):
                pass
        else:
            fail(tried, "a", ending)
        fail(tried, "a")
        with tried.guard("a"):
            pass


@pytest.mark.parametrize(
    "neither", [RateLimited("slow"), errors.invalid_response("X", "sent nonsense"), GeneratorExit()]
)
def test_what_says_nothing_neither_counts_nor_ends_the_row(neither: Exception) -> None:
    tried = CircuitBreaker(2, 60)
    for _ in range(3):
        fail(tried, "b", neither)
    fail(tried, "a")
    fail(tried, "a", neither)
    fail(tried, "a")
    with pytest.raises(CircuitOpen) as caught, tried.guard("a"):
        pytest.fail("went through")
    assert 59 < caught.value.seconds <= 60


def test_one_call_tries_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(circuit_breaker.time, "monotonic", lambda: now)
    tried = CircuitBreaker(1, 60)
    fail(tried, "a")
    now = 61.0
    with tried.guard("a"):
        now = 600.0
        with pytest.raises(CircuitOpen) as caught, tried.guard("a"):
            pytest.fail("went through")
        assert caught.value.seconds == 60
    with tried.guard("a"), tried.guard("a"):
        pass


def test_silence_counts() -> None:
    tried = CircuitBreaker(1, 60)
    fail(tried, "a", errors.timed_out("X"))
    with pytest.raises(CircuitOpen), tried.guard("a"):
        pytest.fail("went through")


def test_those_that_failed_longest_ago_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_breaker, "_MAX_CIRCUITS", 2)
    tried = CircuitBreaker(1, 60)
    for whom in "abc":
        fail(tried, whom)
    with tried.guard("a"):
        pass
    for whom in "bc":
        with pytest.raises(CircuitOpen), tried.guard(whom):
            pytest.fail("went through")
