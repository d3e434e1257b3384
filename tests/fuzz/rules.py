"""What every answer must keep beside its schema: who is refused, which failures are right, what no error may tell."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from services.gateway.routes import OPEN_PATHS
from shared.contracts.permissions import BE_MEMBER, PERMISSIONS
from shared.contracts.principal import Role
from shared.errors import PLATFORM
from tests.gateway_routes import ROUTES, permissions_of

MAX_SECONDS = 20.0
"""Of a request until its answer is complete."""
GUARDS = {f"{method} {route.path}": permissions_of(route) for route in ROUTES for method in route.methods or ()}
"""The names of the permissions that an operation requires, by method and path as the document has them."""
_INTERNALS = re.compile(
    r"Traceback|File \"|site-packages|\w\.py\b|pymongo|motor\b|E11000|MongoDB|mongod\b|nats:|pydantic|asyncio|"
    r"Errno|<class|object at 0x"
)
"""What only the log may tell: code, drivers, addresses of objects."""
_NO_MAIL_SERVER = "No mail can be sent from here"
_UNREAD = {"json_invalid", "content_type"}
"""Types of validation errors of a body that was never read, so that no permission was asked for either."""


class Answer(NamedTuple):
    """An answer, and what it is the answer to."""

    role: Role
    operation: str
    """Method and path, as the document has them."""
    method: str
    """As sent: some cases try methods that the path does not have."""
    status: int
    text: str
    seconds: float

    @property
    def detail(self) -> Any:
        """What the error says; None if the answer is none of ours."""
        try:
            content = json.loads(self.text)
        except ValueError:
            return None
        return content.get("detail") if isinstance(content, dict) else None

    @property
    def message(self) -> str:
        """The message of an error of shape B, else an empty text."""
        return str(self.detail.get("message", "")) if isinstance(self.detail, dict) else ""


def broken_rules(answer: Answer) -> Iterator[str]:
    """Yield a sentence for each rule that the answer breaks."""
    if answer.seconds > MAX_SECONDS:
        yield f"took {answer.seconds:.0f} s; at most {MAX_SECONDS:.0f} s are allowed"
    if answer.status >= 500 and not _is_failure_of_others(answer):
        yield f"is a {answer.status} though every service of the stack is up: {answer.message}"
    if answer.status >= 400 and (found := _INTERNALS.search(answer.text)):
        yield f"tells internals: {found.group()!r}"
    method, _, path = answer.operation.partition(" ")
    if answer.method == method and path not in OPEN_PATHS:
        yield from _broken_permissions(answer)


def _is_failure_of_others(answer: Answer) -> bool:
    """Whether it is a 502 or 503 that names a provider, or a mail server that the stack does not have."""
    if answer.status not in {502, 503} or not isinstance(answer.detail, dict):
        return False
    return answer.detail.get("origin") != PLATFORM or answer.message.startswith(_NO_MAIL_SERVER)


def _broken_permissions(answer: Answer) -> Iterator[str]:
    lacking = {name for name in PERMISSIONS if answer.role not in PERMISSIONS[name].roles}
    needed = GUARDS.get(answer.operation, set())
    if needed & lacking:
        if answer.status != 403 and not _was_not_asked_for(answer):
            yield f"is a {answer.status}; a {answer.role} lacks the permission, so it must be a 403"
    elif (
        answer.status == 403
        and BE_MEMBER.name not in needed
        and not any(PERMISSIONS[name].action in answer.message for name in lacking)
    ):
        # what every member does for themself, some do in a browser session only
        yield f"is a 403, which names nothing that a {answer.role} may not do: {answer.message}"


def _was_not_asked_for(answer: Answer) -> bool:
    """Whether the request ended before a permission was checked: without a valid key, path, or readable body."""
    if answer.status == 404:
        return answer.message.startswith(f"There is no {answer.method} /")
    if answer.status == 422 and isinstance(answer.detail, list):
        return {error["type"] for error in answer.detail} <= _UNREAD
    return answer.status in {307, 400, 401, 405, 408, 413, 414, 415, 431}
