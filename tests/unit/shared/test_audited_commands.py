"""Every command says which entries of the audit log its handler writes, or why it writes none."""

import inspect
from typing import Any

import pytest

from shared.contracts.audit_actions import AUDIT_ACTIONS
from shared.contracts.message import Command
from tests.architecture.tree import ROOT
from tests.contract_modules import contract_modules


def _commands() -> dict[str, type[Command[Any]]]:
    return {
        cls.__name__: cls
        for module in contract_modules()
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, Command) and cls.__module__ == module.__name__ and cls.subject
    }


COMMANDS = _commands()
PAIRS = [(name, action) for name, command in COMMANDS.items() for action in command.audited_as]


def test_commands_are_found() -> None:
    assert {"CreateKey", "ChangeRole", "Deploy", "Chat", "RunTool"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_audited_or_says_why_not(name: str) -> None:
    command = COMMANDS[name]
    assert bool(command.audited_as) is not bool(command.not_audited), (
        f'{name}: set audited_as = ("<noun>.<past participle>",), and record the change with its entry by '
        "AuditOutbox.record; or set not_audited to the reason"
    )
    assert set(command.audited_as) <= set(AUDIT_ACTIONS)
    assert command.not_audited == "" or len(command.not_audited) > 20


@pytest.mark.parametrize(("name", "action"), PAIRS)
def test_the_service_that_answers_a_command_writes_what_it_says(name: str, action: str) -> None:
    owner = COMMANDS[name].subject.partition(".")[0]
    sources = [path.read_text() for path in (ROOT / "services" / owner).rglob("*.py")]
    assert any(f'"{action}"' in source for source in sources), f"nothing in services/{owner} writes {action}"


def test_an_action_is_a_noun_and_a_past_participle() -> None:
    for action in AUDIT_ACTIONS:
        noun, _, participle = action.partition(".")
        assert noun.replace("_", "").isalpha()
        assert participle.replace("_", "").isalpha()
        assert participle.split("_")[0] not in {"create", "delete", "set_", "update"}
    assert len(set(AUDIT_ACTIONS)) == len(AUDIT_ACTIONS)
