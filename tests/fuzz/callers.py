"""The callers of a fuzzed stack: a member of each role in one organisation, whose rights no request takes away."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from shared.contracts.permissions import ROLES
from shared.contracts.principal import Role
from tests.calls import ok
from tests.e2e.access.operations import Objects
from tests.organisations import add_member, add_organisation
from tests.stack import Stack

_KEPT = ("project", "environment", "tool", "log", "session")


@dataclass(frozen=True)
class Caller:
    """A member, by an API key with the same role."""

    role: Role
    api_key: str
    protected_ids: frozenset[str]
    """Of the callers' users and keys, and of what `names` has: a request that removed one would end the run."""
    names: Mapping[str, str]
    """By kind, what names one of the organisation's things."""


def add_callers(stack: Stack) -> dict[Role, Caller]:
    """Insert an organisation with a member of each role, and one thing of each kind; return the members by role."""
    first = add_organisation(stack)
    with httpx.Client(base_url=stack.base_url, headers={"X-API-KEY": first}, timeout=30) as admin:
        organisation = ok(admin.get("/api/me"))["organization_id"]
        keys = {role: add_member(stack, organisation, role)[1] for role in ROLES}
        protected = {member["id"] for member in ok(admin.get("/api/members"))}
        protected |= {key["id"] for key in ok(admin.get("/api/keys"))}
        names = Objects.made_by(admin).names
        config = {"project_id": names["project"], "provider": "mock", "model": "mock", "prompt_template": "Be brief."}
        completion = ok(admin.post("/v4/model-configs", json=config))["config"]["id"]
        place = {"config_id": completion, "environments": [{"id": names["environment"]}]}
        ok(admin.patch(f"/v4/projects/{names['project']}/deploy-config", json=place))
    names |= {"completion_config": completion, "environment_name": names["model"], "provider": "mock"}
    names |= {"feedback": "good", "prompt_file": "---\nmodel: gpt-4\n---\n<user>\n{{x}}\n</user>\n"}
    protected |= {names[kind] for kind in _KEPT}
    return {role: Caller(role, key, frozenset(protected), names) for role, key in keys.items()}
