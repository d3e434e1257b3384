"""Messages and values of `authz`: organisations and their settings."""

from typing import ClassVar

from pydantic import Field

from shared import ids
from shared.contracts.access.sessions import Browser, SignedIn
from shared.contracts.audit_actions import AuditAction
from shared.contracts.message import Command, Query, SystemCommand, SystemQuery
from shared.contracts.permissions import EDIT_ORGANISATION, Permission
from shared.contracts.value import Value


class OrganisationSettings(Value):
    """What Admins set of their organisation."""

    id: str
    name: str
    slug: str
    """Names it in addresses of the console; unique in the installation."""
    trusted_domains: list[str]
    """Whoever proves an address in one of them may join as Member."""


class GetOrganisation(Query[OrganisationSettings]):
    """Return the settings of the organisation."""

    subject: ClassVar[str] = "authz.get_organisation"
    permission: ClassVar[Permission | None] = EDIT_ORGANISATION


class UpdateOrganisation(Command[OrganisationSettings]):
    """Change settings; None leaves one as it is. Raises Invalid (names the field), Conflict (the slug is taken)."""

    subject: ClassVar[str] = "authz.update_organisation"
    permission: ClassVar[Permission | None] = EDIT_ORGANISATION
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("organisation.changed",)

    name: str | None = None
    slug: str | None = None
    trusted_domains: list[str] | None = None


class CreateOrganisation(Command[OrganisationSettings]):
    """Create another organisation, whose Admin is the principal's person. Raises Invalid."""

    subject: ClassVar[str] = "authz.create_organisation"
    permission: ClassVar[Permission | None] = EDIT_ORGANISATION
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("organisation.created",)

    id: str = Field(default_factory=lambda: ids.mint("tm"))
    name: str


class SetupState(Value):
    """Whether the installation waits for its first organisation, and how people sign in."""

    needed: bool
    mail: bool
    """Whether mail can be sent: resetting a password by oneself needs it."""
    oidc_name: str | None = None
    """Name of the OpenID Connect provider, as its button shows it. None: there is none."""


class GetSetupState(SystemQuery[SetupState]):
    """Return what the page before sign-in shows."""

    subject: ClassVar[str] = "authz.get_setup_state"


class SetUp(SystemCommand[SignedIn]):
    """Create the first organisation and its Admin, and begin a session of theirs.

    Raises Conflict (there is an organisation), Denied (the token is not `EVERLOOP_SETUP_TOKEN`, or that is not set),
    Invalid (names the field).
    """

    subject: ClassVar[str] = "authz.set_up"

    token: str = Field(repr=False)
    organisation_name: str
    email: str
    full_name: str | None = None
    password: str = Field(repr=False)
    browser: Browser
