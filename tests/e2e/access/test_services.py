"""The services of a stack refuse what a role may not do, whoever sends it over the bus: every message, as each role."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from shared.bus import Bus
from shared.contracts.message import Command, Query, Request
from shared.contracts.permissions import ROLES
from shared.contracts.principal import Principal, Role
from shared.errors import Denied, Problem
from tests.contract_modules import contract_modules
from tests.stack import Stack
from tests.stack_bus import on_bus

GOLDEN = Path(__file__).parents[2] / "unit" / "shared" / "golden"
ORGANISATION = "tm_0000000000000000000aa"
"""There is no such organisation."""


def messages() -> dict[str, type[Request[Any]]]:
    """Return the classes of all queries and commands, by the name of their sample."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": cls
        for module in contract_modules()
        for name, cls in vars(module).items()
        if isinstance(cls, type) and cls.__module__ == module.__name__ and "subject" in vars(cls)
        if issubclass(cls, Query | Command)
    }


MESSAGES = messages()


def sample(name: str, role: Role | None) -> Any:
    """Return the message of a sample file, sent by a member with this role; None: by nobody."""
    module, _, cls = name.partition(".")
    fields: dict[str, Any] = json.loads((GOLDEN / f"{module}.json").read_text())[cls]["message"]
    fields.pop("active_config_id", None)  # deploying needs a permission more
    principal = role and Principal(organisation=ORGANISATION, role=role, user_id="usr_0000000000000000000aa")
    return MESSAGES[name].model_validate(fields | {"organisation": ORGANISATION, "principal": principal})


async def answer_to(bus: Bus, message: Any) -> Problem | None:
    """Return the problem that a message is answered with; None if it is not refused."""
    try:
        if message.subject in {"generation.chat", "generation.complete"}:
            async for _ in bus.stream_request(message):
                pass
        else:
            await bus.request(message)
    except Problem as problem:
        return problem
    return None


def test_messages_are_found() -> None:
    assert len(MESSAGES) > 40


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_refused_unless_the_role_allows_it(stack: Stack, name: str) -> None:
    async def send(bus: Bus) -> list[Problem | None]:
        senders: list[Role | None] = [*ROLES, None]
        return await asyncio.gather(*(answer_to(bus, sample(name, role)) for role in senders))

    permission = MESSAGES[name].permission  # type: ignore[attr-defined]  # of queries and commands
    answers = asyncio.run(on_bus(stack, send, "gateway" if permission else "logging"))
    for role, answer in zip(ROLES, answers, strict=False):
        allowed = permission is not None and role in permission.roles
        refused = (isinstance(answer, Denied) and "may not" in answer.message) or "Only a service" in str(answer)
        assert refused is not allowed, (role, answer)
    assert isinstance(answers[-1], Denied), "nobody"
