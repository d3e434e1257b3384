"""How often a measurement is repeated, and the statistics over its rounds."""

import statistics

ROUNDS = 5
"""Rounds of every measurement, so that a figure comes with its spread."""


def spread(values: list[float], digits: int = 1) -> dict[str, float]:
    """Return median, minimum and maximum of the values of all rounds."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def percentile_ms(seconds: list[float], fraction: float) -> float:
    """Return a percentile of durations in milliseconds; `fraction` 0.99 is the 99th."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))] * 1000
