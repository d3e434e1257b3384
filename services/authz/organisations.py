"""An organisation and the roles of its members; one of them always is an Admin."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from shared.contracts.principal import Role
from shared.errors import Conflict, NotFound


@dataclass(frozen=True)
class Organisation:
    """Members and their roles, as of one moment."""

    id: str
    roles: Mapping[str, Role]
    """By user id."""
    revision: int
    """Counts the changes of `roles`; a change is saved only onto the revision it was decided on."""

    def with_role(self, user_id: str, role: Role) -> "Organisation":
        """This organisation after a member got another role; itself if the member has that role already."""
        if user_id not in self.roles:
            raise NotFound("There is no such member in your organisation.")
        if self.roles[user_id] == role:
            return self
        roles = {**self.roles, user_id: role}
        if "Admin" not in roles.values():
            raise Conflict("An organisation needs at least one Admin. Make somebody else Admin first.")
        return replace(self, roles=roles, revision=self.revision + 1)
