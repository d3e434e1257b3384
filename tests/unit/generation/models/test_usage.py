"""Usage as providers report it: whatever counts can be read are kept."""

from typing import Any

import pytest

from services.generation.models.usage import merge_usage, sum_usage, usage_from_counts
from shared.contracts.chat import Usage


@pytest.mark.parametrize(
    ("prompt", "generated", "told"),
    [
        ([9, None, 3], [4], (12, 4)),
        ([], [None], None),
        ([None], [], None),
        ([0], [0], (0, 0)),
        ([9.0], [4], (9, 4)),
        (["12"], ["5"], (12, 5)),
        (["1,000"], ["2,345,678"], (1000, 2_345_678)),
        (["12.0"], [True], (12, 0)),
        ([-5], [4], (0, 4)),
        ([9], [10**30], (9, 0)),
        ([9], [float("nan")], (9, 0)),
        ([9], [[1]], (9, 0)),
        (["many"], [{}], None),
        (["9" * 400], ["nan"], None),
    ],
)
def test_what_is_a_count_is_kept_whatever_stands_beside_it(
    prompt: list[Any], generated: list[Any], told: tuple[int, int] | None
) -> None:
    usage = usage_from_counts(prompt, generated)
    assert (usage and (usage.prompt_tokens, usage.generation_tokens)) == told
    assert usage is None or usage.total_tokens == usage.prompt_tokens + usage.generation_tokens


@pytest.mark.parametrize(
    ("prompt", "generated", "total", "told"),
    [
        ([10], [None], 30, (10, 20)),
        ([None], ["20"], "30", (10, 20)),
        ([10], [0], 10, (10, 0)),
        ([10], [], 4, (10, 0)),
        ([10], [20], 99, (10, 20)),
        ([], [None], 30, (0, 0)),
    ],
)
def test_a_total_tells_the_count_that_is_missing(
    prompt: list[Any], generated: list[Any], total: Any, told: tuple[int, int]
) -> None:
    usage = usage_from_counts(prompt, generated, total=total)
    assert usage is not None
    assert (usage.prompt_tokens, usage.generation_tokens) == told
    assert usage.total_tokens == (sum(told) or 30)


@pytest.mark.parametrize(
    ("cached", "written", "kept"), [(6, 3, (6, 3)), ("6", None, (6, 0)), (99, 5, (10, 0)), ([], {}, (0, 0))]
)
def test_cached_tokens_are_among_those_of_the_prompt(cached: Any, written: Any, kept: tuple[int, int]) -> None:
    usage = usage_from_counts([10], [1], cached=cached, cache_writes=written)
    assert usage is not None
    assert (usage.prompt_tokens, usage.cached_tokens, usage.cache_write_tokens) == (10, *kept)


def test_the_newest_report_of_each_count_is_used() -> None:
    begun = Usage(prompt_tokens=9, generation_tokens=1, total_tokens=10, cached_tokens=4)
    ended = Usage(generation_tokens=7, total_tokens=7)
    assert merge_usage(begun, ended) == Usage(prompt_tokens=9, generation_tokens=7, total_tokens=16, cached_tokens=4)
    again = Usage(prompt_tokens=12, total_tokens=12)
    assert merge_usage(begun, again) == Usage(prompt_tokens=12, generation_tokens=1, total_tokens=13)
    total = Usage(total_tokens=30)
    both = Usage(prompt_tokens=9, generation_tokens=21, total_tokens=30)
    prompt = Usage(prompt_tokens=9, total_tokens=9)
    assert merge_usage(total, prompt) == merge_usage(prompt, total) == both
    assert merge_usage(total, total) == total
    assert merge_usage(total, begun) == begun
    assert merge_usage(None, begun) == merge_usage(begun, None) == begun


def test_sums_are_those_of_each_count() -> None:
    one = Usage(prompt_tokens=9, generation_tokens=1, total_tokens=10, cached_tokens=4, cache_write_tokens=2)
    assert sum_usage([one, one]) == Usage(
        prompt_tokens=18, generation_tokens=2, total_tokens=20, cached_tokens=8, cache_write_tokens=4
    )
    assert sum_usage([]) == Usage()
