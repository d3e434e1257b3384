"""Header names and values of requests and replies on core NATS, and how a failure is read from a reply.

A reply without the header `Everloop-Kind` is the answer of a query or command, or one chunk of a stream.

A streamed command whose caller sends `Everloop-Window` has flow control. Each of its parts, chunks and the reply, costs
`part_cost` bytes; its handler sends no more of them than the window beyond what the caller has told it, on
`<service>.cancel` with `Everloop-Consumed`, that it has consumed. Heartbeats, the end and a failure cost nothing. What
is sent has the number of parts sent so far behind the reply subject: so the caller notices that one is missing, and
that the handler has flow control.
"""

from collections.abc import Mapping

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import MaxPayloadError

from shared.contracts.message import Failure
from shared.errors import Problem, Unavailable, from_failure

KIND_HEADER = "Everloop-Kind"
KIND_FAILURE = "failure"
"""The payload is a `Failure`; nothing follows."""
KIND_REPLY = "done"
"""The reply of a streamed command. It may be relied on only after `KIND_END`."""
KIND_END = "end"
"""A streamed command has ended without an error. The payload is empty."""
KIND_HEARTBEAT = "beat"
"""A streamed command is still being worked on. The payload is empty."""
TIMEOUT_HEADER = "Everloop-Timeout-Seconds"
"""Header of a request: how many seconds its caller waits for the answer, from when it was sent."""
WAITING_HEADER = "Everloop-Waiting"
"""On a heartbeat: the handler may send no more parts until its caller has consumed some. The caller tells again how
much it has consumed: what it told before may be lost, and a caller that does not answer is gone."""
WINDOW_HEADER = "Everloop-Window"
"""Header of a streamed command: how many bytes of parts may be on their way, or wait at the caller."""
CONSUMED_HEADER = "Everloop-Consumed"
"""On `<service>.cancel`: the caller has not left, it has consumed so many bytes of parts since the call began."""
CANCEL = "cancel"
"""Last token of `<service>.cancel`: the caller of a streamed command, named by its reply subject, has left; or has
consumed parts of it, see `CONSUMED_HEADER`."""
TOO_LARGE_MESSAGE = "This is more than fits into one message of the bus; send less at once."
WINDOW_BYTES = 64 * 1024
"""The window that callers grant: fifty small chunks. The last part may go over it."""
_PART_OVERHEAD_BYTES = 1024
"""What a message takes in memory beside its payload."""
_NO_RESPONDERS = "503"
"""`Status` of the empty reply that nats-server sends when nobody is subscribed to the subject of a request."""
_HEADER_FRAME_BYTES = len("NATS/1.0\r\n\r\n")


def part_cost(payload: bytes) -> int:
    """Return how many bytes of the window a part of a streamed command takes."""
    return len(payload) + _PART_OVERHEAD_BYTES


def check_size(client: Client, payload: bytes, headers: Mapping[str, str] | None) -> None:
    """Raise MaxPayloadError if the message is larger than the server takes.

    nats-py compares the payload alone, the server counts the headers too; it closes the connection of whoever sends
    more, and nats-py does not connect again after that.
    """
    size = len(payload)
    if headers is not None:  # without any, nats-py still sends the frame
        size += _HEADER_FRAME_BYTES + sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())
    if size > client.max_payload:
        raise MaxPayloadError


def problem_from_reply(message: Msg) -> Problem | None:
    """Return the problem that a reply carries, or None if it is an answer."""
    headers = message.headers
    if not headers:
        return None
    if headers.get(KIND_HEADER) == KIND_FAILURE:
        return from_failure(Failure.model_validate_json(message.data))
    if headers.get("Status") == _NO_RESPONDERS and not message.data:
        return Unavailable("The service that should answer is away.")
    return None
