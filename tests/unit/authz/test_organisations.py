"""The roles in an organisation, and the Admin who stays."""

import pytest

from services.authz.organisations import Organisation
from shared.errors import Conflict, NotFound

ORGANISATION = Organisation("tm_1", roles={"usr_1": "Admin", "usr_2": "Developer"}, revision=3)


def test_a_member_gets_another_role() -> None:
    after = ORGANISATION.with_role("usr_2", "Member")
    assert (after.roles, after.revision) == ({"usr_1": "Admin", "usr_2": "Member"}, 4)
    assert ORGANISATION.roles["usr_2"] == "Developer"


def test_the_same_role_again_is_no_change() -> None:
    assert ORGANISATION.with_role("usr_2", "Developer") is ORGANISATION


def test_the_last_admin_stays() -> None:
    with pytest.raises(Conflict, match="at least one Admin"):
        ORGANISATION.with_role("usr_1", "Member")


def test_an_admin_may_leave_when_there_is_another() -> None:
    two = ORGANISATION.with_role("usr_2", "Admin")
    assert two.with_role("usr_1", "Member").roles == {"usr_1": "Member", "usr_2": "Admin"}


def test_only_members_have_roles() -> None:
    with pytest.raises(NotFound):
        ORGANISATION.with_role("usr_9", "Admin")
