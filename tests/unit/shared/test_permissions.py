"""The table of behaviour.md 15.1, cell by cell, written by hand."""

import pytest

from shared.permissions import PERMISSIONS, ROLES

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
def test_a_cell(name: str, role: str, allowed: bool) -> None:
    assert (role in PERMISSIONS[name].roles) is allowed


def test_there_are_three_roles_the_mightiest_first() -> None:
    assert ROLES == ("Admin", "Developer", "Member")
    for permission in PERMISSIONS.values():
        held = [role in permission.roles for role in ROLES]
        assert held == sorted(held, reverse=True), "a role has everything a lesser one has"


@pytest.mark.parametrize("permission", PERMISSIONS.values())
def test_every_permission_completes_its_sentence(permission: object) -> None:
    lets = permission.lets  # type: ignore[attr-defined]
    assert lets
    assert lets[0].islower()
    assert not lets.endswith(".")
