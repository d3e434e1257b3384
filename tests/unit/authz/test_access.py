"""Authorization by stored roles, and its error messages."""

import pytest

from services.authz.membership.access import authorize_now, lower_role
from services.authz.membership.organisations import Organisation
from shared.contracts.permissions import CHANGE_DEPLOYMENTS, SEND_INVITES
from shared.contracts.principal import Principal, Role
from shared.errors import Denied


def caller(role: Role) -> Principal:
    return Principal(organisation="tm_1", role=role, key_id="key_1", user_id="usr_1", email="ada@example.org")


@pytest.mark.parametrize(
    ("one", "other", "lowest"),
    [
        ("Admin", "Admin", "Admin"),
        ("Admin", "Developer", "Developer"),
        ("Developer", "Member", "Member"),
        ("Member", "Admin", "Member"),
    ],
)
def test_the_lower_role_is_the_one_with_fewer_permissions(one: Role, other: Role, lowest: Role) -> None:
    assert lower_role(one, other) == lower_role(other, one) == lowest


def test_a_principal_acts_with_the_stored_role_if_it_is_lower() -> None:
    organisation = Organisation("tm_1", roles={"usr_1": "Developer"}, revision=1)
    assert authorize_now(caller("Admin"), organisation, CHANGE_DEPLOYMENTS).role == "Developer"
    assert authorize_now(caller("Developer"), organisation, CHANGE_DEPLOYMENTS).role == "Developer"


def test_a_cached_role_higher_than_the_stored_one_is_denied() -> None:
    organisation = Organisation("tm_1", roles={"usr_1": "Member"}, revision=2)
    with pytest.raises(Denied, match="Your role Member"):
        authorize_now(caller("Admin"), organisation, CHANGE_DEPLOYMENTS)


def test_a_key_with_a_lower_role_does_not_get_the_role_of_its_creator() -> None:
    organisation = Organisation("tm_1", roles={"usr_1": "Admin"}, revision=1)
    with pytest.raises(Denied):
        authorize_now(caller("Member"), organisation, CHANGE_DEPLOYMENTS)


@pytest.mark.parametrize("organisation", ["tm_1", "tm_2"])
def test_a_principal_who_is_not_a_member_is_denied(organisation: str) -> None:
    with pytest.raises(Denied, match="not a member"):
        authorize_now(caller("Admin"), Organisation(organisation, roles={"usr_2": "Admin"}, revision=1), SEND_INVITES)


def test_a_member_of_one_organisation_is_denied_in_another() -> None:
    with pytest.raises(Denied, match="not a member"):
        authorize_now(caller("Admin"), Organisation("tm_2", roles={"usr_1": "Admin"}, revision=1), SEND_INVITES)


def test_a_service_or_a_message_without_a_principal_is_denied() -> None:
    organisation = Organisation("tm_1", roles={"usr_1": "Admin"}, revision=1)
    for principal in (None, Principal.for_service("evaluation", "tm_1")):
        with pytest.raises(Denied, match="Only a member"):
            authorize_now(principal, organisation, SEND_INVITES)
