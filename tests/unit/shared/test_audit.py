"""Entries of the audit log: what they take from the principal, how long they may be, which ids they have."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from shared import ids, telemetry
from shared.audit import audit_entry
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.principal import Principal

ADA = Principal(
    organisation="tm_1", role="Admin", user_id="usr_1", email="ada@example.org", key_id="key_1", address="192.0.2.7"
)
TOOL = AuditObject(kind="tool", id="oc_1", name="weather")


def test_an_entry_has_actor_and_address_of_the_principal_and_nothing_else_of_it() -> None:
    entry = audit_entry("tool.created", ADA, "tm_1", TOOL)
    assert (entry.actor, entry.address) == (ADA.actor, "192.0.2.7")
    assert "role" not in entry.model_dump_json()
    assert ids.is_id("aud", entry.id)
    assert entry.at.microsecond % 1000 == 0
    assert entry.trace is None


def test_an_entry_without_a_principal_has_no_actor() -> None:
    entry = audit_entry("sign_in.failed", None, "tm_1", AuditObject(kind="member", name="eve@example.org"))
    assert (entry.actor, entry.address) == (None, None)


def test_an_entry_has_the_trace_of_the_request() -> None:
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("a request"):
        entry = audit_entry("tool.created", ADA, "tm_1", TOOL)
        assert entry.trace == telemetry.trace_id()
    assert entry.trace is not None
    assert len(entry.trace) == 32


def test_equal_causes_are_one_entry() -> None:
    def identifier(*cause: str, action: Any = "tool.created", organisation: str = "tm_1") -> str:
        return audit_entry(action, ADA, organisation, TOOL, cause).id

    assert identifier("oc_1", "1") == identifier("oc_1", "1")
    others = [
        identifier("oc_1", "2"),
        identifier("oc_1", "1", action="tool.updated"),
        identifier("oc_1", "1", organisation="tm_2"),
        identifier(),
        identifier(),
    ]
    assert len({identifier("oc_1", "1"), *others}) == 6


def test_what_callers_chose_is_cut() -> None:
    changed = AuditObject(kind="project", id="pr_1", name="n" * 1000)
    details: dict[str, Any] = {"from": "x" * 1000, "types": ["y" * 1000] * 1000, "count": 7, "nothing": None}
    entry = audit_entry("project.renamed", ADA, "tm_1", changed, details=details)
    assert entry.object.name == "n" * 255
    assert entry.details == {"from": "x" * 255, "types": ["y" * 255] * 20, "count": 7, "nothing": None}


def test_an_action_of_a_newer_service_is_read() -> None:
    entry = audit_entry("tool.created", ADA, "tm_1", TOOL).model_dump(mode="json")
    assert AuditEntry.model_validate(entry | {"action": "moon.landed", "added": 1}).action == "moon.landed"


@pytest.mark.parametrize("name", [None, ""])
def test_an_object_may_have_no_name(name: str | None) -> None:
    assert audit_entry("tool.created", ADA, "tm_1", AuditObject(kind="tool", name=name)).object.name == name
