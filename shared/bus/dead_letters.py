"""Appending to `DEAD`."""

from collections.abc import Mapping

from shared.bus.client import Bus
from shared.contracts.dead_letters import MOST_BYTES, DeadLetter


async def append_dead_letter(
    bus: Bus, subject: str, letter: DeadLetter, *, message_id: str, headers: Mapping[str, str] | None = None
) -> None:
    """Append to `DEAD` on `subject`; durable when it returns. Unavailable when it is not known to be.

    A repeat with the same `message_id` within the stream's window (a day) is the same letter.
    """
    await bus.append(
        subject,
        letter.payload[:MOST_BYTES],
        message_id=message_id,
        headers={**letter.headers(), **(headers or {})},
    )
