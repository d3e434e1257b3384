"""The table of roles over HTTP, a route for each capability, each sent as each role."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import httpx
import pytest

from shared.contracts.permissions import PERMISSIONS, ROLES
from shared.contracts.principal import Role
from tests.calls import Json, ok, reference
from tests.gateway_routes import ROUTES, permissions_of
from tests.organisations import add_member, add_organisation
from tests.stack import Stack


class Action(NamedTuple):
    """A request that needs a capability."""

    method: str
    path: str
    body: Json | None = None
    allowed: int = 200
    """The answer to who has the capability."""


UNKNOWN = "usr_0000000000000000000aa"
ACTIONS = {
    "prompts.edit": Action("POST", "/v4/projects", {"name": "{new}"}, 201),
    "logs.view": Action("GET", "/v4/logs/data_0000000000000000000aa", allowed=404),
    "keys.manage": Action("POST", "/api/keys", {"name": "{new}"}, 201),
    "deployments.change": Action("DELETE", "/api/redirects?provider=openai&model={new}", allowed=404),
    "environments.manage": Action("POST", "/api/environments", {"name": "{new}"}, 201),
    "billing.manage": Action("GET", "/api/usage"),
    "invites.send": Action("POST", "/api/invites", {"email": "{new}@example.org"}, 201),
    "roles.assign": Action("PATCH", f"/api/members/{UNKNOWN}", {"role": "Member"}, 404),
    "organisation.edit": Action("PATCH", "/api/organization", {"name": "{new}"}),
}
"""By name of the capability."""
WITHOUT_OPERATIONS = {"evaluators.edit", "evaluations.run", "datasets.edit"}
CELLS = [(name, role) for name in ACTIONS for role in ROLES]


def test_every_capability_with_an_operation_is_in_the_table() -> None:
    required = set[str]().union(*(permissions_of(route) for route in ROUTES)) & set(PERMISSIONS)
    assert set(ACTIONS) == required == set(PERMISSIONS) - WITHOUT_OPERATIONS


@pytest.fixture(scope="module")
def clients(stack: Stack) -> Iterator[dict[Role, httpx.Client]]:
    """An HTTP client for each role, in a new organisation."""
    admin = add_organisation(stack)
    own = ok(httpx.get(f"{stack.base_url}/api/me", headers={"X-API-KEY": admin}))["organization_id"]
    keys = {role: add_member(stack, own, role)[1] for role in ROLES}
    with ExitStack() as opened:
        yield {
            role: opened.enter_context(httpx.Client(base_url=stack.base_url, headers={"X-API-KEY": key}))
            for role, key in keys.items()
        }


@pytest.mark.parametrize(("capability", "role"), CELLS)
def test_a_role_may_do_what_the_table_says(clients: dict[Role, httpx.Client], capability: str, role: Role) -> None:
    action, new = ACTIONS[capability], reference()
    body = action.body and {name: value.replace("{new}", new) for name, value in action.body.items()}
    answer = clients[role].request(action.method, action.path.replace("{new}", new), json=body)
    if role in PERMISSIONS[capability].roles:
        assert answer.status_code == action.allowed, answer.text
    else:
        assert answer.status_code == 403
        assert answer.json()["detail"]["message"].startswith(f"Your role {role} may not ")
