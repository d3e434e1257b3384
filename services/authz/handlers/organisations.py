"""Answers commands and queries about organisations: settings, set-up, more of them."""

import hmac

from pydantic import JsonValue

from services.authz.deps import Deps
from services.authz.membership.access import authorize_now
from services.authz.membership.emails import normalize_domain
from services.authz.membership.organisations import Organisation, validate_organisation_name, validate_slug
from shared import ids
from shared.audit import audit_entry
from shared.bus import Router
from shared.contracts.access.organisations import (
    CreateOrganisation,
    GetOrganisation,
    GetSetupState,
    OrganisationSettings,
    SetUp,
    SetupState,
    UpdateOrganisation,
)
from shared.contracts.access.sessions import SignedIn
from shared.contracts.audit import AuditObject
from shared.contracts.permissions import EDIT_ORGANISATION
from shared.errors import Conflict, Denied, Invalid, NotFound

router = Router[Deps]()

_MAX_DOMAINS = 100


@router.answers(GetOrganisation)
async def get_organisation(query: GetOrganisation, deps: Deps) -> OrganisationSettings:
    """Return the settings of the organisation."""
    authorize_now(query.principal, await deps.stores.organisations.get(query.organisation), EDIT_ORGANISATION)
    return await deps.stores.organisations.get_settings(query.organisation)


@router.answers(UpdateOrganisation)
async def update_organisation(command: UpdateOrganisation, deps: Deps) -> OrganisationSettings:
    """Change the settings that the command names. Raises Invalid (names the field), Conflict (the slug is taken)."""
    authorize_now(command.principal, await deps.stores.organisations.get(command.organisation), EDIT_ORGANISATION)
    before = await deps.stores.organisations.get_settings(command.organisation)
    changes: dict[str, JsonValue] = {}
    if command.name is not None:
        changes["name"] = validate_organisation_name(command.name)
    if command.slug is not None:
        changes["slug"] = validate_slug(command.slug)
    if command.trusted_domains is not None:
        if len(command.trusted_domains) > _MAX_DOMAINS:
            raise Invalid(f"trusted_domains may hold {_MAX_DOMAINS} domains.")
        changes["trusted_domains"] = [*sorted({normalize_domain(domain) for domain in command.trusted_domains})]
    changes = {name: value for name, value in changes.items() if value != getattr(before, name)}
    if not changes:
        return before
    await deps.audit.record(
        lambda session: deps.stores.organisations.update_settings(command.organisation, changes, session),
        lambda after: audit_entry(
            "organisation.changed",
            command.principal,
            command.organisation,
            AuditObject(kind="organisation", id=after.id, name=after.name),
            details={name: {"from": getattr(before, name), "to": value} for name, value in changes.items()},
        ),
    )
    return await deps.stores.organisations.get_settings(command.organisation)


@router.answers(CreateOrganisation)
async def create_organisation(command: CreateOrganisation, deps: Deps) -> OrganisationSettings:
    """Create an organisation with the person behind the principal as its Admin."""
    member = authorize_now(
        command.principal, await deps.stores.organisations.get(command.organisation), EDIT_ORGANISATION
    )
    user = await deps.stores.users.find(member.user_id)
    if user is None:
        raise NotFound("There is no such person.")
    organisation = Organisation(command.id, roles={user.id: "Admin"}, revision=1)
    await deps.joining.found(organisation, validate_organisation_name(command.name), user, is_new=False)
    return await deps.stores.organisations.get_settings(organisation.id)


@router.answers(GetSetupState)
async def get_setup_state(_: GetSetupState, deps: Deps) -> SetupState:
    """Return whether there is no organisation yet, and how people may sign in."""
    return SetupState(
        needed=not await deps.stores.organisations.exists_any(),
        mail=deps.mailer.is_configured,
        oidc_name=deps.provider.name,
    )


@router.answers(SetUp)
async def set_up(command: SetUp, deps: Deps) -> SignedIn:
    """Create the first organisation with its Admin, for who has the operator's token, and begin a session."""
    if await deps.stores.organisations.exists_any():
        raise Conflict("Everloop is set up already. Sign in, or ask an Admin for an invite.")
    expected = deps.settings.setup_token
    if expected is None:
        raise Denied("Set-up is closed. Whoever runs this server opens it by setting EVERLOOP_SETUP_TOKEN.")
    await deps.attempts.check_address(command.browser.address)
    if not hmac.compare_digest(command.token.encode(), expected.get_secret_value().encode()):
        await deps.attempts.fail(command.browser.address)
        raise Denied("token is not the EVERLOOP_SETUP_TOKEN of this server.")
    name = validate_organisation_name(command.organisation_name, field="organisation_name")
    user = await deps.accounts.new(command.email, command.full_name, command.password)
    installation = await deps.stores.installation.get()  # one id for all who set up at once: the second is refused
    organisation = Organisation(ids.derive("tm", installation.id, "first"), roles={user.id: "Admin"}, revision=1)
    await deps.joining.found(organisation, name, user, is_new=True)
    return await deps.sessions.begin(user, command.browser, method="password", organisation=organisation.id)
