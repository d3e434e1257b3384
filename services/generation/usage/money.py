"""Amounts of money: nano-dollars as integers, and as people write them."""

from shared.contracts.generation.usage import NANOS_PER_USD


def to_nanos(usd: float) -> int:
    """Return US dollars as nano-dollars, rounded to the nearest one."""
    return round(usd * NANOS_PER_USD)


def format_usd(nanos: int) -> str:
    """Return an amount with cents, and with more digits only if it has them: `$25.00`, `$0.0125`."""
    dollars, rest = divmod(nanos, NANOS_PER_USD)
    digits = f"{rest:09}".rstrip("0")
    return f"${dollars:,}.{digits.ljust(2, '0')}"
