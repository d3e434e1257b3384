"""Money is exact: nano-dollars as integers."""

import pytest

from services.generation.usage.money import format_usd, to_nanos


@pytest.mark.parametrize(
    ("usd", "nanos"),
    [(0.00012, 120_000), (0.1 + 0.2, 300_000_000), (1e-9, 1), (0.4e-9, 0), (0, 0), (12345.678, 12_345_678_000_000)],
)
def test_dollars_are_rounded_to_nano_dollars(usd: float, nanos: int) -> None:
    assert to_nanos(usd) == nanos


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (25_000_000_000, "$25.00"),
        (12_500_000, "$0.0125"),
        (500_000_000, "$0.50"),
        (1, "$0.000000001"),
        (0, "$0.00"),
        (1_234_567_890_000_000, "$1,234,567.89"),
    ],
)
def test_an_amount_is_written_with_cents_and_what_it_has_beyond(nanos: int, text: str) -> None:
    assert format_usd(nanos) == text
