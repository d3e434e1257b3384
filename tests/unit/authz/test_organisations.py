"""Changing roles in an organisation, of which one Admin always remains."""

import pytest

from services.authz.membership.organisations import Organisation
from shared.errors import Conflict, NotFound

ORGANISATION = Organisation("tm_1", roles={"usr_1": "Admin", "usr_2": "Developer"}, revision=3)


def test_a_member_gets_another_role() -> None:
    after = ORGANISATION.with_role("usr_2", "Member")
    assert (after.roles, after.revision) == ({"usr_1": "Admin", "usr_2": "Member"}, 4)
    assert ORGANISATION.roles["usr_2"] == "Developer"


def test_the_same_role_again_is_no_change() -> None:
    assert ORGANISATION.with_role("usr_2", "Developer") is ORGANISATION


def test_the_last_admin_cannot_get_another_role() -> None:
    with pytest.raises(Conflict, match="at least one Admin"):
        ORGANISATION.with_role("usr_1", "Member")


def test_an_admin_can_get_another_role_if_there_is_another_admin() -> None:
    two = ORGANISATION.with_role("usr_2", "Admin")
    assert two.with_role("usr_1", "Member").roles == {"usr_1": "Member", "usr_2": "Admin"}


def test_a_role_for_someone_who_is_no_member_is_refused() -> None:
    with pytest.raises(NotFound):
        ORGANISATION.with_role("usr_9", "Admin")
