"""Permissions: the table of behaviour.md 15.1, cell by cell, written by hand."""

import pytest

from shared.contracts.permissions import CHANGE_DEPLOYMENTS, PERMISSIONS, ROLES, SEND_INVITES
from shared.contracts.principal import Principal, Role
from shared.errors import Denied
from shared.permissions import allows, authorize

#                            Member Developer Admin
TABLE = {
    "prompts.edit":         (True,  True,  True),
    "logs.view":            (True,  True,  True),
    "evaluators.edit":      (True,  True,  True),
    "evaluations.run":      (True,  True,  True),
    "datasets.edit":        (True,  True,  True),
    "keys.manage":          (False, True,  True),
    "deployments.change":   (False, True,  True),
    "environments.manage":  (False, True,  True),
    "invites.send":         (False, False, True),
    "roles.assign":         (False, False, True),
    "billing.manage":       (False, False, True),
    "organisation.edit":    (False, False, True),
}  # fmt: skip
COLUMNS = ("Member", "Developer", "Admin")
CELLS = [(name, role, row[index]) for name, row in TABLE.items() for index, role in enumerate(COLUMNS)]


def test_the_table_has_12_rows_and_36_cells() -> None:
    assert list(TABLE) == list(PERMISSIONS)
    assert len(CELLS) == 36


@pytest.mark.parametrize(("name", "role", "allowed"), CELLS)
def test_a_role_has_a_permission_or_not_as_published(name: str, role: str, allowed: bool) -> None:
    assert (role in PERMISSIONS[name].roles) is allowed


@pytest.mark.parametrize(("name", "role", "allowed"), CELLS)
def test_a_principal_has_the_permissions_of_its_role(name: str, role: Role, allowed: bool) -> None:
    principal = Principal(organisation="tm_1", role=role)
    assert allows(principal, PERMISSIONS[name]) is allowed
    if allowed:
        authorize(principal, PERMISSIONS[name])
    else:
        with pytest.raises(Denied, match=f"^Your role {role} may not {PERMISSIONS[name].action}; ask an Admin"):
            authorize(principal, PERMISSIONS[name])


def test_a_refusal_names_the_least_role_with_the_permission() -> None:
    member = Principal(organisation="tm_1", role="Member")
    with pytest.raises(Denied, match=r"change what is deployed; ask an Admin for the role Developer\."):
        authorize(member, CHANGE_DEPLOYMENTS)
    with pytest.raises(Denied, match=r"invite people; ask an Admin for the role Admin\."):
        authorize(member, SEND_INVITES)


@pytest.mark.parametrize("name", PERMISSIONS)
def test_who_has_no_role_has_no_permission(name: str) -> None:
    for nobody in (
        None,
        Principal(organisation="tm_1", email="ada@example.org"),
        Principal.for_service("evaluation", "tm_1"),
    ):
        assert not allows(nobody, PERMISSIONS[name])
        with pytest.raises(Denied, match="no role"):
            authorize(nobody, PERMISSIONS[name])


def test_roles_are_in_order_of_their_permissions() -> None:
    assert ROLES == ("Admin", "Developer", "Member")
    for permission in PERMISSIONS.values():
        held = [role in permission.roles for role in ROLES]
        assert held == sorted(held, reverse=True), "a role has everything a lesser one has"


@pytest.mark.parametrize("permission", PERMISSIONS.values())
def test_the_action_of_a_permission_completes_a_sentence(permission: object) -> None:
    action = permission.action  # type: ignore[attr-defined]
    assert action
    assert action[0].islower()
    assert not action.endswith(".")
