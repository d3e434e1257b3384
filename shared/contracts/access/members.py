"""Messages and values of `authz`: members of an organisation, and their roles."""

from datetime import datetime
from typing import ClassVar

from shared.contracts.audit_actions import AuditAction
from shared.contracts.message import Command, Done, Query
from shared.contracts.permissions import ASSIGN_ROLES, BE_MEMBER, Permission
from shared.contracts.principal import Role
from shared.contracts.value import Value


class Member(Value):
    """A member of an organisation."""

    user_id: str
    email: str
    role: Role
    full_name: str | None = None
    joined_at: datetime | None = None
    """None only from earlier versions."""


class Members(Value):
    """Members, by email address."""

    members: list[Member]


class ListMembers(Query[Members]):
    """Return the members of the organisation. Raises NotFound if there is no such organisation."""

    subject: ClassVar[str] = "authz.list_members"
    permission: ClassVar[Permission | None] = BE_MEMBER
    limited: ClassVar[str | None] = ""


class ChangeRole(Command[Member]):
    """Change the role of a member. Their keys never have more than it, from the next request on.

    Raises Denied, NotFound (no such member), Conflict (the last Admin).
    """

    subject: ClassVar[str] = "authz.change_role"
    permission: ClassVar[Permission | None] = ASSIGN_ROLES
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("member.role_changed",)

    user_id: str
    role: Role


class RemoveMember(Command[Done]):
    """Remove a member from the organisation and revoke the API keys they made there. The person stays elsewhere.

    Raises Denied, NotFound (no such member), Conflict (the last Admin).
    """

    subject: ClassVar[str] = "authz.remove_member"
    permission: ClassVar[Permission | None] = ASSIGN_ROLES
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("member.removed",)

    user_id: str
