"""deploy/nats.conf says what the code does: each service may send its own requests and events, and no others."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from deploy.local.services import NAMES
from shared.bus.wire import CANCEL
from shared.contracts.audit import AuditRecorded
from shared.contracts.health import health_query
from shared.contracts.message import Event, Request
from tests.architecture.tree import ROOT, sources
from tests.contract_modules import contract_modules

Message = type[Request[Any]] | type[Event]


@cache
def messages() -> dict[tuple[str, str], Message]:
    """Every request and event of shared/contracts, by module and name."""
    found: dict[tuple[str, str], Message] = {}
    for module in contract_modules():
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, (Request, Event)) and value.__module__ == module.__name__:
                found[module.__name__, name] = value
    return found


class Code:
    """What the source of one service does on the bus, read from its syntax."""

    def __init__(self, service: str) -> None:
        self.requests: set[type[Request[Any]]] = set()
        """Imported, and answered by another service: sent."""
        self.streams: set[type[Request[Any]]] = set()
        """Answered piece by piece: their caller may say that it has left."""
        self.announced: set[str] = set()
        self.heard: set[str] = set()
        self.asks_for_health = False
        for path in sources("services"):
            if path.relative_to(ROOT).parts[1] == service:
                self._read(ast.parse(path.read_text()), service)

    def _read(self, module: ast.Module, service: str) -> None:
        known = dict(_imported(module))
        if "AuditOutbox" in ast.unparse(module):
            self.announced.add(AuditRecorded.wildcard_subject())  # by shared/audit.py
        for message in known.values():
            if issubclass(message, Request) and message.subject and _owner(message) != service:
                self.requests.add(message)
        for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
            first = known.get(call.args[0].id) if call.args and isinstance(call.args[0], ast.Name) else None
            if isinstance(call.func, ast.Name):
                self.asks_for_health |= call.func.id == health_query.__name__
                made = known.get(call.func.id)
                if made is not None and issubclass(made, Event):
                    self.announced.add(made.wildcard_subject())
            elif isinstance(call.func, ast.Attribute) and first is not None:
                if call.func.attr == "streams" and issubclass(first, Request):
                    self.streams.add(first)
                elif issubclass(first, Event):  # subscribed to, by whatever name the bus has for it
                    self.heard.add(first.wildcard_subject())


def _imported(module: ast.Module) -> Iterator[tuple[str, Message]]:
    """By the names they have in this file."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shared.contracts"):
            for alias in node.names:
                message = messages().get((node.module or "", alias.name))
                if message is not None:
                    yield alias.asname or alias.name, message


def _owner(message: type[Request[Any]]) -> str:
    return message.subject.partition(".")[0]


@cache
def code() -> dict[str, Code]:
    return {name: Code(name) for name in NAMES}


@cache
def allowed(service: str, verb: str) -> set[str]:
    """The subjects of `deploy/nats.conf` on which the service may `publish` or `subscribe`."""
    text = re.sub(r"#.*", "", (ROOT / "deploy" / "nats.conf").read_text())
    (block,) = re.findall(rf"user: {service}\b(.*?)(?=user:|\Z)", text, re.DOTALL)
    (subjects,) = re.findall(rf"{verb}: \[(.*?)\]", block, re.DOTALL)
    return set(re.findall(r'"([^"]+)"', subjects))


def expected_requests(service: str) -> set[str]:
    wanted = {message.subject for message in code()[service].requests}
    streamed = {message for other in code().values() for message in other.streams}
    wanted |= {f"{_owner(message)}.{CANCEL}" for message in code()[service].requests & streamed}
    if code()[service].asks_for_health:
        wanted |= {health_query(other).subject for other in NAMES if other != service}
    return wanted


def test_the_code_is_read() -> None:
    """Else the comparisons below would compare nothing."""
    gateway = expected_requests("gateway")
    assert {"generation.chat", f"generation.{CANCEL}", "authz.health", "logging.get_log"} <= gateway
    assert f"logging.{CANCEL}" not in gateway
    assert code()["generation"].announced >= {"events.*.project.changed"}
    assert code()["gateway"].heard >= {"events.*.access.changed"}


@pytest.mark.parametrize("service", NAMES)
def test_a_service_may_send_the_requests_of_its_code_and_no_others(service: str) -> None:
    owners = tuple(f"{name}." for name in NAMES)
    permitted = {subject for subject in allowed(service, "publish") if subject.startswith(owners)}
    wanted = expected_requests(service)
    assert wanted - permitted == set(), f"deploy/nats.conf: {service} sends them, so it must be allowed to publish them"
    assert permitted - wanted == set(), f"deploy/nats.conf: nothing in services/{service} sends them; take them away"


@pytest.mark.parametrize("service", NAMES)
def test_a_service_may_announce_and_hear_the_events_of_its_code_and_no_others(service: str) -> None:
    for verb, wanted in (("publish", code()[service].announced), ("subscribe", code()[service].heard)):
        permitted = {subject for subject in allowed(service, verb) if subject.startswith("events.")}
        assert permitted == wanted, f"deploy/nats.conf: {service} {verb}es {sorted(wanted)}"


def _asked_by_operator(service: str) -> set[str]:
    """What the service answers and no service asks: `everloop` does, as the NATS user `operator`."""
    sent = set[str]().union(*(expected_requests(other) for other in NAMES))
    return {
        message.subject
        for message in messages().values()
        if issubclass(message, Request) and message.subject and _owner(message) == service
    } - sent


def test_what_needs_no_sign_in_only_the_operator_may_ask() -> None:
    assert _asked_by_operator("authz") == {"authz.add_person", "authz.list_people", "authz.set_password"}


@pytest.mark.parametrize("service", NAMES)
def test_answers_go_to_who_asks(service: str) -> None:
    asked_by = {
        other for other in NAMES for subject in expected_requests(other) if subject.startswith(f"{service}.")
    }  # fmt: skip
    if _asked_by_operator(service):
        asked_by.add("operator")
    inboxes = {subject for subject in allowed(service, "publish") if subject.startswith("_INBOX.")}
    assert inboxes == {f"_INBOX.{other}.>" for other in asked_by}
    assert {subject for subject in allowed(service, "subscribe") if not subject.startswith("events.")} == {
        f"_INBOX.{service}.>",
        f"{service}.>",
    }


@pytest.mark.parametrize("service", NAMES)
def test_anothers_contracts_are_imported_by_name(service: str) -> None:
    """`deployments.Deploy(...)` would be sent unseen by the comparisons above."""
    owners = {(module, _owner(message)) for (module, _), message in messages().items() if issubclass(message, Request)}
    names = {module.rpartition(".")[2] for module, owner in owners if owner and owner != service}
    for path in sources("services"):
        if path.relative_to(ROOT).parts[1] == service:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module == "shared.contracts":
                    assert not names & {alias.name for alias in node.names}, path
