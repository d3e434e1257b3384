"""Every operation, as each role, answers generated requests as the OpenAPI document says. `make fuzz` sends more."""

import httpx
import pytest

from shared.contracts.permissions import ROLES
from shared.contracts.principal import Role
from tests.calls import ok
from tests.fuzz.callers import Caller, add_callers
from tests.fuzz.engine import Extent, Run
from tests.stack import Stack

RANDOM = ("fuzzing", "stateful")
EXTENTS = {
    "Admin": Extent(phases=("coverage", *RANDOM), examples=3, boundaries=10),
    # The boundaries of schemas are the same for every role; so are permissions for every boundary.
    "Developer": Extent(phases=RANDOM, examples=2),
    "Member": Extent(phases=RANDOM, examples=2),
}


@pytest.fixture(scope="module")
def callers(stack: Stack) -> dict[Role, Caller]:
    return add_callers(stack)


@pytest.mark.parametrize("role", ROLES)
def test_every_operation_answers_as_the_document_says(stack: Stack, callers: dict[Role, Caller], role: Role) -> None:
    run = Run(stack.base_url, callers[role], EXTENTS[role])
    findings = [str(finding) for finding in run]
    assert not findings, "\n\n".join(findings)
    document = ok(httpx.get(f"{stack.base_url}/openapi.json"))
    operations = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert set(run.statuses) == operations, "each was called"
    if "coverage" in run.extent.phases:
        accepted = {operation for operation in operations if {200, 201, 202, 204} & run.statuses[operation]}
        # Not all can be: some need a browser session, a mail server or a provider of identities.
        assert len(accepted) > 0.6 * len(operations), f"most were called with success, not {operations - accepted}"
    headers = {"X-API-KEY": callers[role].api_key}
    assert ok(httpx.get(f"{stack.base_url}/api/me", headers=headers))["role"] == role, "the caller has its rights still"
