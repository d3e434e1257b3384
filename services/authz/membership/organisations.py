"""An organisation and the roles of its members, of whom at least one is an Admin."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from shared.contracts.principal import Role
from shared.errors import Conflict, Invalid, NotFound

DEFAULT_NAME = "My organisation"
"""Of the organisation of the bootstrap file, until an Admin chooses one."""
_MAX_NAME_LENGTH = 100
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?")


@dataclass(frozen=True)
class Organisation:
    """The roles of an organisation's members at one revision."""

    id: str
    roles: Mapping[str, Role]
    """By user id."""
    revision: int
    """Number of changes of `roles`; a change is saved only if the stored revision is the one it was made from."""

    def with_role(self, user_id: str, role: Role) -> "Organisation":
        """Return the organisation, one revision later, with another role for a member; itself if the role is the same.

        Raises NotFound if there is no such member, Conflict if no Admin would be left.
        """
        if user_id not in self.roles:
            raise NotFound("There is no such member in your organisation.")
        if self.roles[user_id] == role:
            return self
        return self._changed({**self.roles, user_id: role})

    def without(self, user_id: str) -> "Organisation":
        """Return the organisation, one revision later, without a member.

        Raises NotFound if there is no such member, Conflict if no Admin would be left.
        """
        if user_id not in self.roles:
            raise NotFound("There is no such member in your organisation.")
        return self._changed({member: role for member, role in self.roles.items() if member != user_id})

    def _changed(self, roles: Mapping[str, Role]) -> "Organisation":
        if "Admin" not in roles.values():
            raise Conflict("An organisation needs at least one Admin. Make somebody else Admin first.")
        return replace(self, roles=roles, revision=self.revision + 1)


def validate_organisation_name(name: str, *, field: str = "name") -> str:
    """Return `name` without surrounding white space. Raises Invalid, naming `field`, if it is empty or too long."""
    stripped = name.strip()
    if not 0 < len(stripped) <= _MAX_NAME_LENGTH or not stripped.isprintable():
        raise Invalid(f"{field} must have 1 to {_MAX_NAME_LENGTH} characters, all of them printable.")
    return stripped


def validate_slug(slug: str) -> str:
    """Return `slug`. Raises Invalid if it is none."""
    if not _SLUG.fullmatch(slug):
        raise Invalid("slug must have 1 to 48 lower-case letters, digits and hyphens, with no hyphen at either end.")
    return slug
