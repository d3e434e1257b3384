"""How answers are told apart on the wire: a header names the kind; an answer without it is an ordinary one."""

from nats.aio.msg import Msg

from shared.contracts.message import Failure
from shared.errors import Problem, Unavailable, from_failure

KIND = "Everloop-Kind"
FAILURE = "failure"
DONE = "done"
"""The reply of a long call. What it promises holds once the call has ended."""
END = "end"
BEAT = "beat"
TIMEOUT = "Everloop-Timeout-Seconds"
"""Header of a request: how long its caller waits for the answer, from when it was sent."""
CANCEL = "cancel"
"""Last token of the subject on which a service hears that a caller has left."""
_NO_RESPONDERS = "503"


def problem_in(message: Msg) -> Problem | None:
    """What went wrong, if `message` says that something did."""
    headers = message.headers
    if not headers:
        return None
    if headers.get(KIND) == FAILURE:
        return from_failure(Failure.model_validate_json(message.data))
    if headers.get("Status") == _NO_RESPONDERS and not message.data:
        return Unavailable("The service that should answer is away.")
    return None
