"""Members who leave, keys that expire, and when a key was used last, on the real service."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shared.contracts.access.keys import CreateKey
from shared.contracts.access.members import ListMembers, RemoveMember
from shared.contracts.principal import Role
from shared.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from tests.integration.authz.stack import Admin, authenticate


async def key_of_colleague(admin: Admin, role: Role = "Developer") -> tuple[str, str]:
    """Return the user id of a new colleague and the secret of a key that they made."""
    user_id = await admin.colleague(role)
    by = admin.principal.model_copy(update={"user_id": user_id, "role": role})
    return user_id, (await admin.create(f"key of {user_id}", by=by)).secret


async def test_the_keys_of_a_member_who_is_removed_are_dead_at_once_and_stay_so(admin: Admin) -> None:
    user_id, secret = await key_of_colleague(admin)
    assert (await authenticate(admin.bus, secret)).user_id == user_id
    await admin.bus.request(RemoveMember(principal=admin.principal, user_id=user_id))
    with pytest.raises(Unauthenticated):
        await authenticate(admin.bus, secret)
    (key,) = [key for key in await admin.keys() if key.creator_id == user_id]
    assert key.revoked_at is not None
    members = (await admin.bus.request(ListMembers(principal=admin.principal))).members
    assert [member.user_id for member in members] == [admin.principal.user_id]


async def test_who_comes_back_has_none_of_the_keys_from_before(admin: Admin) -> None:
    user_id, secret = await key_of_colleague(admin)
    database = admin.servers.database(admin.prefix)
    organisation = {"_id": admin.principal.organisation, "members.user_id": user_id}
    await database["organisations"].update_one(organisation, {"$set": {"members.$.joined_at": datetime.now(UTC)}})
    with pytest.raises(Unauthenticated):
        await authenticate(admin.bus, secret)


async def test_the_last_admin_cannot_be_removed(admin: Admin) -> None:
    await admin.colleague("Developer")
    with pytest.raises(Conflict, match="at least one Admin"):
        await admin.bus.request(RemoveMember(principal=admin.principal, user_id=admin.principal.user_id))
    assert (await authenticate(admin.bus, admin.secret)).role == "Admin"


async def test_of_admins_who_remove_each_other_at_once_one_stays(admin: Admin) -> None:
    other = await admin.colleague("Admin")
    by_other = admin.principal.model_copy(update={"user_id": other})
    results = await asyncio.gather(
        admin.bus.request(RemoveMember(principal=admin.principal, user_id=other)),
        admin.bus.request(RemoveMember(principal=by_other, user_id=admin.principal.user_id)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Denied | Conflict) for result in results) == 1
    document = await admin.servers.database(admin.prefix)["organisations"].find_one(
        {"_id": admin.principal.organisation}
    )
    assert document is not None
    assert [member["role"] for member in document["members"]] == ["Admin"]


@pytest.mark.parametrize("role", ["Developer", "Member"])
async def test_only_an_admin_removes_members(admin: Admin, role: Role) -> None:
    user_id = await admin.colleague(role)
    by = admin.principal.model_copy(update={"user_id": user_id, "role": role})
    with pytest.raises(Denied, match=f"Your role {role} may not"):
        await admin.bus.request(RemoveMember(principal=by, user_id=admin.principal.user_id))


async def test_a_member_of_another_organisation_cannot_be_removed(admin: Admin) -> None:
    with pytest.raises(NotFound):
        await admin.bus.request(RemoveMember(principal=admin.principal, user_id="usr_of_somebody_else"))


async def test_a_key_expires_to_the_moment_although_it_is_known(admin: Admin) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=1)
    new = await admin.create("short", expires_at=expires_at)
    assert new.expires_at == expires_at
    assert (await authenticate(admin.bus, new.secret)).valid_until is not None
    await asyncio.sleep(1.01)
    with pytest.raises(Unauthenticated, match="expired"):
        await authenticate(admin.bus, new.secret)
    (shown,) = [key for key in await admin.keys() if key.id == new.id]
    assert shown.expires_at is not None
    assert abs(shown.expires_at - expires_at) < timedelta(milliseconds=1)


async def test_a_key_that_has_expired_already_is_not_made(admin: Admin) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(Invalid, match="expires_at has passed"):
        await admin.bus.request(CreateKey(principal=admin.principal, name="late", expires_at=past))
    assert [key.name for key in await admin.keys()] == ["First key"]


async def test_when_a_key_was_used_last_is_shown(admin: Admin) -> None:
    new, before = await admin.create("used"), datetime.now(UTC)
    await authenticate(admin.bus, new.secret)
    async with asyncio.timeout(20):
        while True:
            (shown,) = [key for key in await admin.keys() if key.id == new.id]
            if shown.last_used_at is not None:
                break
            await asyncio.sleep(0.2)
    assert before - timedelta(seconds=1) < shown.last_used_at < before + timedelta(seconds=2)
