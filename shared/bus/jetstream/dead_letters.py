"""Appends dead letters to the stream `DEAD`."""

from collections.abc import Mapping

from shared.bus.client import Bus
from shared.contracts.dead_letters import MAX_PAYLOAD_BYTES, DeadLetter


async def append_dead_letter(
    bus: Bus, subject: str, letter: DeadLetter, *, message_id: str, headers: Mapping[str, str] | None = None
) -> None:
    """Append a letter to `DEAD` on `subject`; it is durable on return. Raises Unavailable if it may not be stored.

    A repeat with the same `message_id` within the stream's duplicate window (a day) stores nothing new.
    """
    await bus.append(
        subject,
        letter.payload[:MAX_PAYLOAD_BYTES],
        message_id=message_id,
        headers={**letter.to_headers(), **(headers or {})},
    )
