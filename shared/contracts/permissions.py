"""The table of permissions, with the roles that have each (behaviour.md §15.1)."""

from typing import NamedTuple

from shared.contracts.principal import Role

ROLES: tuple[Role, ...] = ("Admin", "Developer", "Member")
_EVERYONE = frozenset(ROLES)
_BUILDERS = frozenset[Role]({"Admin", "Developer"})
_ADMINS = frozenset[Role]({"Admin"})


class Permission(NamedTuple):
    """A row of the table."""

    name: str
    action: str
    """What it allows, as it completes the sentence "You may …"."""
    roles: frozenset[Role]


EDIT_PROMPTS = Permission("prompts.edit", "create, edit and call prompts, and log to them", _EVERYONE)
VIEW_LOGS = Permission("logs.view", "view logs and feedback", _EVERYONE)
EDIT_EVALUATORS = Permission("evaluators.edit", "create and edit evaluators", _EVERYONE)
RUN_EVALUATIONS = Permission("evaluations.run", "run evaluations", _EVERYONE)
EDIT_DATASETS = Permission("datasets.edit", "create and edit datasets", _EVERYONE)
MANAGE_KEYS = Permission("keys.manage", "create, see and revoke API keys", _BUILDERS)
CHANGE_DEPLOYMENTS = Permission("deployments.change", "change what is deployed", _BUILDERS)
MANAGE_ENVIRONMENTS = Permission("environments.manage", "create and manage environments", _BUILDERS)
SEND_INVITES = Permission("invites.send", "invite people", _ADMINS)
ASSIGN_ROLES = Permission("roles.assign", "change the roles of members", _ADMINS)
MANAGE_BILLING = Permission("billing.manage", "see usage, spend and limits", _ADMINS)
EDIT_ORGANISATION = Permission("organisation.edit", "change the settings of the organisation", _ADMINS)

BE_MEMBER = Permission("member", "do this without a role", _EVERYONE)
"""Of what every member does for themself: see who they are, change their password. It is no row of the table."""

PERMISSIONS: dict[str, Permission] = {
    permission.name: permission
    for permission in (
        EDIT_PROMPTS,
        VIEW_LOGS,
        EDIT_EVALUATORS,
        RUN_EVALUATIONS,
        EDIT_DATASETS,
        MANAGE_KEYS,
        CHANGE_DEPLOYMENTS,
        MANAGE_ENVIRONMENTS,
        SEND_INVITES,
        ASSIGN_ROLES,
        MANAGE_BILLING,
        EDIT_ORGANISATION,
    )
}
