"""Who may do what, and the sentence for those who may not."""

import pytest

from services.authz.access import admit, decide, lower
from services.authz.organisations import Organisation
from shared.contracts.access import Caller, Role
from shared.errors import Denied, Invalid
from shared.permissions import CHANGE_DEPLOYMENTS, PERMISSIONS, ROLES, SEND_INVITES


def caller(role: Role) -> Caller:
    return Caller(organisation="tm_1", role=role, key_id="key_1", user_id="usr_1", email="ada@example.org")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("permission", PERMISSIONS.values(), ids=list(PERMISSIONS))
def test_decisions_follow_the_table_and_refusals_say_why(role: Role, permission: object) -> None:
    decision = decide(caller(role), permission.name)  # type: ignore[attr-defined]
    assert decision.allowed is (role in permission.roles)  # type: ignore[attr-defined]
    if decision.allowed:
        assert decision.reason == ""
    else:
        assert decision.reason.startswith(f"Your role {role} may not {permission.lets}; ask an Admin for the role ")  # type: ignore[attr-defined]


def test_the_reason_names_the_least_role_that_may() -> None:
    member = caller("Member")
    assert decide(member, CHANGE_DEPLOYMENTS.name).reason == (
        "Your role Member may not change what is deployed; ask an Admin for the role Developer."
    )
    assert decide(member, SEND_INVITES.name).reason == (
        "Your role Member may not invite people; ask an Admin for the role Admin."
    )


def test_a_permission_nobody_knows_is_invalid() -> None:
    with pytest.raises(Invalid, match=r"moon\.land"):
        decide(caller("Admin"), "moon.land")


@pytest.mark.parametrize(
    ("one", "other", "lowest"),
    [
        ("Admin", "Admin", "Admin"),
        ("Admin", "Developer", "Developer"),
        ("Developer", "Member", "Member"),
        ("Member", "Admin", "Member"),
    ],
)
def test_the_lower_of_two_roles(one: Role, other: Role, lowest: Role) -> None:
    assert lower(one, other) == lower(other, one) == lowest


def test_a_caller_is_admitted_with_the_role_of_the_moment() -> None:
    organisation = Organisation("tm_1", roles={"usr_1": "Developer"}, revision=1)
    assert admit(caller("Admin"), organisation, CHANGE_DEPLOYMENTS).role == "Developer"
    assert admit(caller("Developer"), organisation, CHANGE_DEPLOYMENTS).role == "Developer"


def test_what_a_caller_was_half_a_minute_ago_does_not_count() -> None:
    organisation = Organisation("tm_1", roles={"usr_1": "Member"}, revision=2)
    with pytest.raises(Denied, match="Your role Member"):
        admit(caller("Admin"), organisation, CHANGE_DEPLOYMENTS)


def test_a_key_of_less_does_not_use_the_role_of_its_creator() -> None:
    organisation = Organisation("tm_1", roles={"usr_1": "Admin"}, revision=1)
    with pytest.raises(Denied):
        admit(caller("Member"), organisation, CHANGE_DEPLOYMENTS)


@pytest.mark.parametrize("organisation", ["tm_1", "tm_2"])
def test_who_is_no_member_is_denied(organisation: str) -> None:
    with pytest.raises(Denied, match="not a member"):
        admit(caller("Admin"), Organisation(organisation, roles={"usr_2": "Admin"}, revision=1), SEND_INVITES)


def test_a_member_of_one_organisation_is_not_admitted_to_another() -> None:
    with pytest.raises(Denied, match="not a member"):
        admit(caller("Admin"), Organisation("tm_2", roles={"usr_1": "Admin"}, revision=1), SEND_INVITES)
