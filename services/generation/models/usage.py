"""Token counts as providers report them: any JSON may stand where a count should, and a stream reports in parts."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from shared.contracts.chat import Usage

_MAX_TOKENS = 2**53
"""More in a provider's usage is a mistake; and MongoDB stores no integers over 64 bits."""


def usage_from_counts(
    prompt: Sequence[Any],
    generated: Sequence[Any],
    *,
    total: Any = None,  # noqa: ANN401 - any JSON
    cached: Any = None,  # noqa: ANN401
    cache_writes: Any = None,  # noqa: ANN401
) -> Usage | None:
    """Return the usage a provider reported, the sums of its counts; None if none of them is a count.

    A count that is missing or is none stays 0, which means not told: it is the rest of `total` where the other is told;
    else `tokens.count_usage` counts it. `cached` and `cache_writes` are those of the prompt tokens that were read from
    and written to the provider's cache.
    """
    prompt_counts, generated_counts, total_tokens = _counts(prompt), _counts(generated), _count(total) or 0
    if not prompt_counts and not generated_counts and not total_tokens:
        return None
    prompt_tokens, generation_tokens = _with_rest(sum(prompt_counts), sum(generated_counts), total_tokens)
    cached_tokens = min(_count(cached) or 0, prompt_tokens)
    return Usage(
        prompt_tokens=prompt_tokens,
        generation_tokens=generation_tokens,
        total_tokens=prompt_tokens + generation_tokens or total_tokens,
        cached_tokens=cached_tokens,
        cache_write_tokens=min(_count(cache_writes) or 0, prompt_tokens - cached_tokens),
    )


def _with_rest(prompt: int, generated: int, total: int) -> tuple[int, int]:
    """Return both counts; if one of them is not told, it is what the other leaves of the total."""
    if prompt and not generated:
        return prompt, max(total - prompt, 0)
    if generated and not prompt:
        return max(total - generated, 0), generated
    return prompt, generated


def _counts(values: Iterable[Any]) -> list[int]:
    return [count for value in values if (count := _count(value)) is not None]


def _count(value: Any) -> int | None:  # noqa: ANN401 - any JSON
    """Return a number of tokens, also one written as text (`"1,000"`) or as a float; None if the value is no such
    number."""
    if isinstance(value, str):
        try:
            value = float(value.replace(",", ""))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_TOKENS:
        return None
    return int(value) if math.isfinite(value) else None


def merge_usage(known: Usage | None, reported: Usage | None) -> Usage | None:
    """Return the newest counts: each report of a stream is the total so far, and may leave out one of the two."""
    if known is None or reported is None:
        return reported or known
    newest = reported if reported.prompt_tokens else known
    total = max(known.total_tokens, reported.total_tokens)
    generated = reported.generation_tokens or known.generation_tokens
    prompt, generated = _with_rest(newest.prompt_tokens, generated, total)
    return newest.model_copy(
        update={"prompt_tokens": prompt, "generation_tokens": generated, "total_tokens": prompt + generated or total}
    )


def sum_usage(usages: Iterable[Usage]) -> Usage:
    """Return the field-wise sum; zeros for none."""
    each = list(usages)
    return Usage(**{name: sum(getattr(usage, name) for usage in each) for name in Usage.model_fields})
